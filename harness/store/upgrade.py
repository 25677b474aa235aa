"""The one way from what earlier versions stored to what this one reads.

Tables are upgraded when a file is opened, in the transaction of the caller: either all of it is
done or the file stays as it was. Records (the JSON of a run) stay as they were written and are
upgraded in memory whenever they are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Table,
    column,
    insert,
    literal,
    literal_column,
    null,
    select,
    table,
)

from harness.store.schema import (
    BATCHES,
    CELLS,
    METADATA,
    PROMPTS,
    RUNS,
    SCHEMA_VERSION,
    SESSIONS,
)

_REBUILT = ("cells", "batches", "prompt_tokens", "prompts", "sessions", "runs")
"""The tables that version 4 has changed, or that refer to one; those that refer come first."""

_BASELINES = {
    "same_numbers_logistic": "logistic regression, same numbers",
    "all_features_random_forest": "random forest, all features",
    "all_features_logistic": "logistic regression, all features",
    "majority_class": "the most frequent class",
}
"""The names of the four that records of version 1 call controls, best shown first."""

_RENAMED = (
    ({"p_adjusted", "verdict"}, {"verdict": "outcome"}),
    ({"confusion", "agreement"}, {"agreement": "voter_agreement"}),
    ({"own", "position", "asked"}, {"asked": "given"}),
)
"""Keys that tell of which kind a record is, and what version 3 calls some of them."""

_WORDS_OF_1 = {
    "compact": {"REAL": "yes", "FAKE": "no"},
    "lico": {"REAL": "yes", "FAKE": "no"},
    "chat": {"REAL": "real", "FAKE": "fake"},
}
"""The label words of the templates when files had schema version 1, which did not store them."""


def upgrade_tables(connection: Connection, version: int) -> None:
    """Brings a file of an earlier version, 0 for an empty one, to `SCHEMA_VERSION`."""
    if version == 1:
        _to_version_2(connection)
    # There is no step to versions 3, 5 and 6: each added a table, which `create_all` makes. Files
    # of version 1 have records of version 0, those of 2 and 3 have records of version 1.
    if 0 < version < 4:
        _to_version_4(connection, records_version=min(version - 1, 1))
    elif 0 < version < 7:
        _to_version_7(connection)
    METADATA.create_all(connection)
    connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")


def upgrade_summary(
    summary: Mapping[str, Any], spec: Mapping[str, Any], version: int
) -> dict[str, Any]:
    """The summary of a run as records of this version have it.

    What earlier versions did not store is `None`, and so are the predictions of baselines.
    `version` 0 are the records of files of schema version 1.
    """
    upgraded = dict(summary)
    if version < 1:
        upgraded["runs"] = _with_words_and_tokens(upgraded["runs"], spec)
    if version < 2:
        runs = [dict(run) for run in upgraded["runs"]]
        controls = [run.pop("controls") for run in runs]
        for run in runs:
            run["cells"] = {**run["cells"], "not_needed": 0}
            run.update(entry=run["backend"], against_baselines=[], missing={})
        upgraded.update(runs=runs, group=None, data_sha256=None)
        upgraded["baselines"] = [
            {"name": name, "estimate": controls[0][key], "seconds": None, "predictions": None}
            for key, name in _BASELINES.items()
            if controls and controls[0][key] is not None
        ]
    return renamed(upgraded) if version < 3 else upgraded


def renamed(record: Any) -> Any:
    """A record of before version 3, with the names of its keys and values that version 3 changed.

    "verdict" was the outcome of a comparison as well, and "agreement" that of voters.
    """
    if isinstance(record, list):
        return list(map(renamed, record))
    if not isinstance(record, dict):
        return record
    new = {name: renamed(value) for name, value in record.items()}
    for keys, names in _RENAMED:
        if keys <= new.keys():
            new = {names.get(name, name): value for name, value in new.items()}
    if new.get("outcome") == "no difference shown":
        new["outcome"] = "no significant difference"
    return new


def _to_version_2(connection: Connection) -> None:
    """Each prompt had the tokens of the run's first backend, and how many examples it shows stood
    in the summary alone: 0 where there is none."""
    run = connection.exec_driver_sql
    run("ALTER TABLE prompts ADD COLUMN examples INTEGER NOT NULL DEFAULT 0")
    # Without types, because the step to version 4 makes the table again.
    run("CREATE TABLE prompt_tokens (prompt_id, backend, token_sha256, n_tokens)")
    for run_id, spec, summary in run("SELECT run_id, spec, summary FROM runs").all():
        first = next(iter(_backends(_parsed(spec))), "")
        run(
            "INSERT INTO prompt_tokens SELECT id, ?, token_sha256, n_tokens FROM prompts "
            "WHERE run_id = ?",
            (first, run_id),
        )
        try:
            shown = list(_parsed(summary)["runs"][0]["context_fit"]["examples_per_voter"])
        except (LookupError, TypeError):
            continue
        for voter, examples in enumerate(shown):
            run(
                "UPDATE prompts SET examples = ? WHERE run_id = ? AND voter = ?",
                (examples, run_id, voter),
            )


def _to_version_4(connection: Connection, records_version: int) -> None:
    """Entries in place of backends, attempts, ids by vocabulary, batches with begin and end."""
    # Made again, and not altered: SQLite's ALTER TABLE changes neither keys nor constraints.
    for name in _REBUILT:
        connection.exec_driver_sql(f"ALTER TABLE {name} RENAME TO old_{name}")
    METADATA.create_all(connection)
    added = {"group": null(), "data_sha256": null(), "facts": null()}
    _copy(connection, RUNS, records_version=literal(records_version), **added)
    _copy(connection, SESSIONS, entry=literal_column("backend"), environment=null())
    _make_entries(connection)
    _copy(connection, PROMPTS)
    # Tokens were stored for each backend. Backends with one vocabulary were given the same ids. Of
    # one that was never opened the vocabulary is not known, and it was given none.
    connection.exec_driver_sql(
        """INSERT INTO prompt_tokens (prompt_id, vocabulary, token_sha256, n_tokens)
           SELECT old.prompt_id, entries.vocabulary, old.token_sha256, old.n_tokens
           FROM old_prompt_tokens AS old
           JOIN prompts ON prompts.id = old.prompt_id
           JOIN entries ON entries.run_id = prompts.run_id AND entries.name = old.backend
           WHERE entries.vocabulary IS NOT NULL
           ORDER BY old.prompt_id, entries.position
           ON CONFLICT DO NOTHING"""
    )
    # Batches had a length only. They never overlapped, so one begins where the last has ended.
    clock = (
        "coalesce(sum(engine_seconds) OVER (PARTITION BY session_id ORDER BY id"
        " ROWS BETWEEN UNBOUNDED PRECEDING AND {}), 0.0)"
    )
    began = literal_column(clock.format("1 PRECEDING"), Float)
    ended = literal_column(clock.format("CURRENT ROW"), Float)
    _copy(connection, BATCHES, began=began, ended=ended)
    _copy(connection, CELLS, entry=literal_column("backend"), attempt=literal(0))
    for name in _REBUILT:
        connection.exec_driver_sql(f"DROP TABLE old_{name}")
    # References are not checked while tables are made again.
    if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
        raise ValueError("a row refers to one that is not there")


def _to_version_7(connection: Connection) -> None:
    """A third role of prompts."""
    run = connection.exec_driver_sql
    # Else SQLite would change the tables that refer to the prompts to refer to the old ones.
    run("PRAGMA legacy_alter_table = ON")
    run("ALTER TABLE prompts RENAME TO old_prompts")
    PROMPTS.create(connection)
    _copy(connection, PROMPTS)
    run("DROP TABLE old_prompts")
    run("PRAGMA legacy_alter_table = OFF")


def _copy(connection: Connection, new: Table, **changed: ColumnElement[Any]) -> None:
    """Every row of the old table of this name; columns that are not `changed` stay as they are."""
    values = {one.name: changed.get(one.name, column(one.name)) for one in new.c}
    rows = select(*values.values()).select_from(table(f"old_{new.name}"))
    in_order = rows.order_by(literal_column("rowid"))
    connection.execute(insert(new).from_select(list(values), in_order))


def _make_entries(connection: Connection) -> None:
    """Of each run those that its spec names, and any other that has a session."""
    run = connection.exec_driver_sql
    opened: dict[str, dict[str, str | None]] = {}
    for run_id, entry, info in run("SELECT run_id, entry, info FROM sessions ORDER BY id"):
        opened.setdefault(run_id, {}).setdefault(entry, _parsed(info).get("vocabulary_sha256"))
    for run_id, text in run("SELECT run_id, spec FROM runs").all():
        spec, vocabularies = _parsed(text), opened.get(run_id, {})
        for position, name in enumerate(dict.fromkeys([*_backends(spec), *vocabularies])):
            run(
                "INSERT INTO entries (run_id, name, position, backend, model, vocabulary) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (run_id, name, position, name, str(spec.get("model")), vocabularies.get(name)),
            )


def _parsed(text: str | None) -> Mapping[str, Any]:
    """A JSON object; an empty one where it is damaged, which is an error of whoever reads it."""
    try:
        record = json.loads(text or "{}")
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _backends(spec: Mapping[str, Any]) -> list[str]:
    backends = spec.get("backend")
    return [one for one in backends if isinstance(one, str)] if isinstance(backends, list) else []


def _with_words_and_tokens(
    runs: list[dict[str, Any]], spec: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Every backend was given its own tokens, and engines shared tokens one by one."""
    words = _WORDS_OF_1.get(spec.get("prompt", ""), {})
    upgraded = []
    for run in runs:
        classes = run["accuracy"]["classes"]
        has_all = set(classes) <= set(words)
        same = run["prompts"]["token_sha256"] == runs[0]["prompts"]["token_sha256"]
        unique = run["speed"]["unique_tokens"]
        upgraded.append(
            {
                **run,
                "label_words": [words[one] for one in classes] if has_all else classes,
                "speed": {**run["speed"], "least_tokens": unique, "shared_block_tokens": 1},
                "tokens": {
                    "same_as_first": same,
                    "tokenized_by": run["backend"],
                    "own_difference": None,
                },
            }
        )
    return upgraded
