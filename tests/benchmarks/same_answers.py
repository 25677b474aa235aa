"""Whether two versions of the harness give the same answers: prompts, replies, accuracy, parsing.

    OLD/harness run --backend mock --seed 3 --results /tmp/old
    NEW/harness run --backend mock --seed 3 --results /tmp/new
    python tests/benchmarks/same_answers.py /tmp/old /tmp/new

Reads the newest run of either results folder from its SQLite file, of schema 3 and later, without
any code of the harness, and compares to the bit. Prints what differs and ends with 1, or prints
what was equal and ends with 0. Log-probabilities of engines that compute in parallel may differ in
their last bits from run to run; `--logprobs NATS` allows for that, and the largest difference that
was seen is printed.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Rows = dict[tuple[Any, ...], Any]

RENAMED = {"agreement": "voter_agreement"}  # figures of summaries, in records before version 3


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--logprobs", type=float, default=0.0, metavar="NATS")
    given = parser.parse_args()
    old, new = (_read(folder) for folder in (given.old, given.new))
    differing = list(_differences(old, new, given.logprobs))
    if differing:
        sys.stdout.write("\n".join([*differing[:20], f"{len(differing)} differences", ""]))
        return 1
    counts = ", ".join(f"{len(rows)} {what}" for what, rows in old.items())
    apart = f"log-probabilities at most {_apart(old, new):g} nats apart"
    sys.stdout.write(f"equal: {counts}; {apart}\n")
    return 0


def _read(folder: Path) -> dict[str, Rows]:
    with sqlite3.connect(f"file:{folder / 'harness.sqlite'}?mode=ro", uri=True) as database:
        database.row_factory = sqlite3.Row
        version = database.execute("PRAGMA user_version").fetchone()[0]
        run = database.execute("SELECT * FROM runs ORDER BY created DESC LIMIT 1").fetchone()
        name = "backend" if version < 4 else "entry"
        of_tokens = "backend" if version < 4 else "vocabulary"
        prompts: Rows = {}
        places = {}
        for row in database.execute("SELECT * FROM prompts WHERE run_id = ?", [run["run_id"]]):
            place = row["voter"], row["role"], row["position"]
            places[row["id"]] = place
            prompts[place] = tuple(row[c] for c in ("row", "label", "examples", "text_sha256"))
        tokens: Rows = {}
        for row in database.execute(f"SELECT * FROM prompt_tokens ORDER BY {of_tokens}"):
            if row["prompt_id"] in places:
                found = row["token_sha256"], row["n_tokens"]
                tokens.setdefault(places[row["prompt_id"]], set()).add(found)
        replies: Rows = {}
        logprobs: Rows = {}
        for row in database.execute("SELECT * FROM cells"):
            if row["prompt_id"] in places and (version < 4 or row["attempt"] == 0):
                key = (row[name], *places[row["prompt_id"]])
                columns = ("status", "finish", "prompt_tokens", "cached_tokens", "text")
                written = json.loads(row["token_ids"] or "null")
                replies[key] = *(row[column] for column in columns), written
                logprobs[key] = json.loads(row["label_logprobs"] or "null")
        summary = json.loads(run["summary"])
        figures: Rows = {}
        for one in summary["runs"]:
            for part in ("accuracy", "parse", "prompts", "context_fit"):
                for figure, value in one[part].items():
                    if figure != "sentence":  # words may change
                        figures[one["backend"], part, RENAMED.get(figure, figure)] = value
    return {
        "prompts": prompts,
        "token ids": tokens,
        "replies": replies,
        "rows of log-probabilities": logprobs,
        "figures": figures,
    }


def _differences(old: dict[str, Rows], new: dict[str, Rows], tolerated: float) -> Iterator[str]:
    for what, rows in old.items():
        others = new[what]
        for key in rows.keys() | others.keys():
            one, other = rows.get(key), others.get(key)
            near = what.startswith("rows") and one and other and _most(one, other) <= tolerated
            if one != other and not near:
                yield f"{what} {key}: {one} / {other}"


def _apart(old: dict[str, Rows], new: dict[str, Rows]) -> float:
    ones, others = (rows["rows of log-probabilities"] for rows in (old, new))
    pairs = ((ones[key], others[key]) for key in ones if ones[key] and others.get(key))
    return max((_most(one, other) for one, other in pairs), default=0.0)


def _most(one: Sequence[float], other: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


if __name__ == "__main__":
    sys.exit(main())
