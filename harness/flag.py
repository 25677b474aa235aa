"""What a field of a record is on the command line, in the TOML file and on the reference page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flag:
    """Stands in the annotation of the field that it describes, `Annotated[int, Flag(...)]`.

    The name, the type, the default and the bounds are the field's own. `default_text` says what
    happens where the default is `None`. `panel` is the heading of the help text that it stands
    under. `short` is a letter for a second, short flag.
    """

    help: str
    panel: str
    unit: str = ""
    metavar: str = ""
    default_text: str = ""
    short: str = ""
