"""The reference page of all flags, keys and options of engines, made of their definitions.

python -m harness.cli.reference > docs/OPTIONS.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import groupby

from harness.bench.rows import Plan
from harness.cli.flags import (
    CONFIG,
    ENGINE_OPTION,
    JSON,
    NAME,
    PLAN,
    RESUME,
    Definition,
    definitions,
    engine_definitions,
    own_flags_of_baseline,
)
from harness.cli.output import Output
from harness.report.markdown import markdown_table
from harness.report.table import Sheet
from harness.spec import RunSpec

_TITLES = ("flag", "key", "default", "meaning")


def reference(engines: Iterable[Definition]) -> str:
    """The page, with these options of engines."""
    # `groupby` joins neighbours only, and the fields of one panel are apart in the spec.
    spec = sorted(definitions(RunSpec), key=lambda one: _PANELS.index(one.panel))
    parts = [_BEGIN]
    for panel, fields in groupby(spec, key=lambda one: one.panel):
        parts += [f"## {panel}\n", _table(list(fields))]
    output = [*definitions(Output), NAME, CONFIG, RESUME, PLAN, JSON]
    parts += ["## Output\n", _table(output), "## Options of engines\n", _ENGINES]
    parts += [_engine_table([*engines]), "## `harness bench`\n", _BENCH]
    parts += [_table(definitions(Plan), has_keys=False), "## `harness baseline`\n", _BASELINE]
    if own := own_flags_of_baseline():
        parts.append(_table(own, has_keys=False))
    parts += ["## `harness fit`\n", _FIT, _TABLES]
    return "\n".join(parts)


_PANELS = list(dict.fromkeys(one.panel for one in definitions(RunSpec)))


def _table(fields: Sequence[Definition], has_keys: bool = True) -> str:
    no_key = {NAME.name, CONFIG.name, RESUME.name, PLAN.name, JSON.name}
    rows = [
        (_flag(one), "" if one.name in no_key else one.name, one.default, one.help)
        for one in fields
    ]
    sheet = Sheet(_TITLES, rows)
    if not has_keys:
        sheet = Sheet((_TITLES[0], *_TITLES[2:]), [(row[0], *row[2:]) for row in rows])
    return markdown_table(sheet)


def _engine_table(options: Sequence[Definition]) -> str:
    rows = [
        (
            one.name,
            ", ".join(one.backends),
            _flag(one) if one.has_flag else f"{ENGINE_OPTION.flag} {one.name}=VALUE",
            one.default,
            one.help,
        )
        for one in options
    ]
    return markdown_table(Sheet(("option", "for", "flag", "default", "meaning"), rows))


def _flag(one: Definition) -> str:
    short = f"-{one.short}, " if one.short else ""
    if one.negation:
        return f"{one.flag}, {one.negation_flag}"
    return f"{short}{one.flag} {one.value}".rstrip()


_BEGIN = """# Every flag, key and option

Made from the definitions in the code: `python -m harness.cli.reference > docs/OPTIONS.md`.

A flag of `harness run` and a key of its TOML file (`--config`) mean the same; a flag wins. Where
none of them is given, the default holds.
"""
_ENGINES = """An option of an engine may be given in several places. The last of these wins: the
table `[engine]` of the TOML file, a key at the top of the file, a flag (these three are for all
backends that have the option), the table `[backends.NAME]` (for one backend), `[entries.NAME]` (for
one entry).
"""
_BENCH = """`harness bench` takes `--backend`, `--model`, `--config`, `--timeout-seconds`,
`--force`, the flags of engines and those of the output as well. Lists are given by commas, or by
repeating the flag.
"""
_FIT = """`harness fit` takes the flags of `harness run`, but for `--prompts-from`, `--name`,
`--plan` and `--resume`. `--model`, `--backend`, `--data` and `--prompt` may be repeated;
`--reducer`, `--encoding`, `--feature-fraction` and `--max-model-len` take several values with
commas between them. Each combination is a row. Without `--max-model-len`, lengths go from 512,
doubled, to the model's own. `--load` loads each model at each length too, and measures its memory.
`--probe` looks how long a prompt each engine answers, up to the longest of the lengths
([FIT](FIT.md)).
"""
_BASELINE = """`harness baseline NAME...` takes `--data`, `--text-column`, `--label-column`,
`--test-share`, `--seed`, `--queries`, `--name` and the flags of the output
([BASELINES](BASELINES.md)).
"""
_TABLES = """## Tables of the TOML file

| table | meaning |
| --- | --- |
| `[engine]` | options of engines, for all backends that have them |
| `[backends.NAME]` | options of one backend; `python` names the interpreter it runs in |
| `[entries.NAME]` | a further entry: `backend`, `model` and options of its own |
| `[models.NAME]` | one model in several formats: `gguf` and `hf` |
"""


if __name__ == "__main__":
    sys.stdout.write(reference(engine_definitions()))
