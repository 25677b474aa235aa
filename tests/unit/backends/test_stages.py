from __future__ import annotations

from backends.stages import MOST_CHARACTERS, heard_by, say


def test_what_is_said_is_one_short_line_and_only_while_somebody_listens() -> None:
    heard: list[str] = []
    say("before")
    with heard_by(heard.append):
        say("converting\n  the weights")
        say("x" * 1000)
    say("after")
    assert heard == ["converting the weights", "x" * MOST_CHARACTERS]
