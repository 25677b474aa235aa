"""Which prompts are refused, where a reply ends, how many processors there are."""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import rules
from backends.api import BackendError, Decoding, DecodingMode, Prompt
from backends.rules import (
    before_stop,
    check_length,
    cpu_quota,
    first_line,
    refuse,
    reply_reserve,
    rope_in_words,
    usable_cpus,
    vocabulary_sha256,
)

LABELS = ((1,), (2, 3, 4))


def test_reserve_is_what_a_reply_may_take() -> None:
    assert reply_reserve(Decoding("free", LABELS, max_tokens=7)) == 7
    assert reply_reserve(Decoding("choice", LABELS, max_tokens=7)) == 3
    assert reply_reserve(Decoding("score", (), max_tokens=7)) == 0


@given(
    st.lists(st.integers(0, 20), max_size=10),
    st.sampled_from(["free", "choice", "score"]),
    st.integers(0, 20),
)
def test_each_prompt_is_refused_or_accepted(
    sizes: list[int], mode: DecodingMode, context: int
) -> None:
    decoding = Decoding(mode, LABELS)
    refused, accepted = refuse([Prompt([0] * size) for size in sizes], decoding, context)
    assert sorted([*accepted, *(reply.prompt for reply in refused)]) == list(range(len(sizes)))
    assert all(0 < sizes[i] <= context - reply_reserve(decoding) for i in accepted)
    for reply in refused:
        assert reply.prompt_tokens == sizes[reply.prompt]
        assert reply.finish == ("overflow" if sizes[reply.prompt] else "empty")


@given(st.text("ab.\n"), st.lists(st.text("ab.\n", min_size=1, max_size=3), max_size=3))
def test_before_stop_is_the_longest_beginning_without_a_stop(text: str, stops: list[str]) -> None:
    before = before_stop(text, stops)
    assert text.startswith(before)
    assert not any(stop in before for stop in stops)
    assert before == text or any(text.startswith(stop, len(before)) for stop in stops)


def test_a_vocabulary_is_hashed_in_the_order_of_its_ids() -> None:
    expected = hashlib.sha256("a\0\0ä".encode()).hexdigest()
    assert vocabulary_sha256(["a", "", "ä"]) == expected
    assert vocabulary_sha256(["", "a", "ä"]) != expected


@pytest.mark.parametrize(
    "texts",
    [
        ["\u2581the", "[PAD1]", "  "],  # SentencePiece's mark for a space
        [" the", "", "\u2581\u2581", "", ""],  # a model has more rows than its tokenizer tokens
        [" the", "[PAD1]", "  ", "[PAD3]"],  # which llama.cpp's converter gives names
    ],
)
def test_what_engines_write_in_different_ways_is_one_vocabulary(texts: list[str]) -> None:
    assert vocabulary_sha256(texts) == vocabulary_sha256([" the", "", "  "])


def test_a_token_that_only_looks_like_padding_counts() -> None:
    assert vocabulary_sha256(["a", "[PAD7]"]) != vocabulary_sha256(["a", ""])


def test_an_error_without_text_is_named_by_its_kind() -> None:
    assert first_line(ValueError("\n one\ntwo")) == "one"
    assert first_line(NotImplementedError()) == "NotImplementedError"


def cgroups(root: Path, listed: str, **files: str) -> Path:
    """A file system's root with the cgroups that a process would see there."""
    for name, content in {"proc/self/cgroup": listed, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


V2 = "0::/user/job\n"
V1 = "3:cpuset:/\n2:cpu,cpuacct:/user/job\n1:name=systemd:/\n0::/\n"
OF_V1 = "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("listed", "files", "quota"),
    [
        (V2, {"sys/fs/cgroup/user/job/cpu.max": "150000 100000\n"}, 1.5),
        (V2, {"sys/fs/cgroup/user/job/cpu.max": "max 100000\n"}, math.inf),
        (
            V2,
            {
                "sys/fs/cgroup/user/job/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/user/cpu.max": "200000 100000\n",
            },
            2.0,
        ),
        # The path is the host's, and the container sees its own group as the root.
        ("0::/docker/1f\n", {"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        ("0::/../../other\n", {"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        (
            V1,
            {
                f"{OF_V1}/user/job/cpu.cfs_quota_us": "-1\n",
                f"{OF_V1}/user/job/cpu.cfs_period_us": "100000\n",
                f"{OF_V1}/cpu.cfs_quota_us": "300000\n",
                f"{OF_V1}/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        (V2, {}, math.inf),
        (V2, {"sys/fs/cgroup/user/job/cpu.max": "what\n"}, math.inf),
        (V2, {"sys/fs/cgroup/user/job/cpu.max": "1 0\n"}, math.inf),
        ("no such line\n", {}, math.inf),
        ("", {}, math.inf),
    ],
)
def test_the_quota_is_the_least_of_the_cgroups_around(
    tmp_path: Path, listed: str, files: dict[str, str], quota: float
) -> None:
    assert cpu_quota(cgroups(tmp_path, listed, **files)) == quota


def test_without_cgroups_there_is_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) == math.inf


@pytest.mark.parametrize(
    ("allowed", "quota", "usable"),
    [(8, math.inf, 8), (8, 1.5, 2), (2, 4.0, 2), (8, 0.1, 1), (8, 0.0, 1)],
)
def test_usable_are_the_allowed_within_the_quota_rounded_up(
    monkeypatch: pytest.MonkeyPatch, allowed: int, quota: float, usable: int
) -> None:
    monkeypatch.setattr(rules, "cpu_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(allowed)), raising=False)
    assert usable_cpus() == usable


def test_without_affinity_as_on_macos_all_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "cpu_quota", lambda: math.inf)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cpus() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus() == 1


def test_beyond_the_model_only_who_was_allowed_goes() -> None:
    check_length(100, 100, "m", {})
    check_length(101, 100, "m", {"beyond_model": True})
    with pytest.raises(BackendError, match="more than the 100 that m was made for"):
        check_length(101, 100, "m", {"beyond_model": False})


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (("yarn", 4.0, 32768), "yarn, factor 4, from 32768 tokens"),
        (("linear", 2, None), "linear, factor 2"),
        (("llama3",), "llama3"),
        (("default", 1.0), ""),
        (("none",), ""),
        ((None, 8), ""),
        (("two\nlines", "8", "x"), "of unknown kind"),
        (("x" * 1000,), "x" * 200),
    ],
)
def test_rope_scaling_is_said_as_it_is_stated(stated: tuple[object, ...], said: str) -> None:
    assert rope_in_words(*stated) == said
