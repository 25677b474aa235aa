from __future__ import annotations

import pytest

from harness.machine.homes import without_home, without_homes


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("/home/alice/models/a.gguf", "~/models/a.gguf"),
        ("/Users/alice/models/a.gguf", "~/models/a.gguf"),
        ("/root/a.gguf", "~/a.gguf"),
        ("C:\\Users\\alice\\a.gguf", "~\\a.gguf"),
        ("/odd/place/bob/results/logs/hf.log", "~/results/logs/hf.log"),
        ("file:/home/alice", "file:~"),
        ("exit code 1; see /home/alice/r/logs/x.log.", "exit code 1; see ~/r/logs/x.log."),
        ("'/home/alice/a' and \"/root\"", "'~/a' and \"~\""),
        ("/srv/home/alice/a", "/srv/home/alice/a"),
        ("/rooted/a", "/rooted/a"),
        ("/odd/place/bobby/a", "/odd/place/bobby/a"),
        ("HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M"),
    ],
)
def test_home_folders_are_shortened(monkeypatch: pytest.MonkeyPatch, text: str, clean: str) -> None:
    monkeypatch.setenv("HOME", "/odd/place/bob")
    assert without_home(text) == clean
    assert without_home(clean) == clean


@pytest.mark.parametrize("home", ["", "/", "relative"])
def test_a_home_that_is_none_changes_nothing(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("HOME", home)
    assert without_home("/srv/a relative/b") == "/srv/a relative/b"


def test_every_text_of_a_record_is_shortened() -> None:
    record = {"/root/key": ["/root/a", {"n": 1, "b": "/home/x/c"}, ("/root",)], "none": None}
    assert without_homes(record) == {
        "/root/key": ["~/a", {"n": 1, "b": "~/c"}, ["~"]],
        "none": None,
    }
