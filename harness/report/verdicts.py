"""The answer in a few sentences: who is ahead in what, and whether that is shown.

`harness run`, `show` and `compare` begin with them. A difference is called one only where the
comparison of the pair shows it; what it does not show is named in one clause.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from harness.comparison.metrics import METRICS
from harness.comparison.records import Lead, Member, Over
from harness.metrics import Difference, Metric, Outcome
from harness.report.figures import MOCK_LABEL, baseline_test, best_baseline
from harness.report.text import factor, number, percent, span
from harness.report.words import accuracy_sentence, not_parsed
from harness.summary import Baseline, RunSummary, headline, is_mock

Key: TypeAlias = tuple[str, str]
"""Run id and entry of a side."""

_MOST_NAMED = 3
_EACH_WITH_INTERVAL = 2  # sides that one is ahead of: more are counted
_VERSUS = {
    Outcome.BETTER: "better than",
    Outcome.WORSE: "worse than",
    Outcome.NO_SIGNIFICANT_DIFFERENCE: "no significant difference from",
    Outcome.TOO_FEW: "too few samples to compare with",
    Outcome.SAME: "the same as",
}


def of_one(run: RunSummary, baselines: Sequence[Baseline]) -> Iterator[str]:
    """The accuracy against chance and the best baseline; what fits, and how fast it is."""
    sentence = f"{run.entry}: {accuracy_sentence(run)}"
    yield " ".join([sentence, *_versus_baseline(run, baselines)])
    fit, speed = run.context_fit, run.speed
    limit = "" if fit.fill_ratio is None else f" (context {percent(fit.fill_ratio)} full)"
    said = [f"{span(fit.examples_per_voter)} of {fit.examples_available:,} examples fit{limit}"]
    for name in ("prefill_tokens_per_second", "decode_tokens_per_second"):
        if (value := METRICS[name].figure(run)) is not None:
            said.append(f"{METRICS[name].title} {number(value)}")
    if speed.time_to_first_token_ms:
        said.append(f"ms to first token {number(speed.time_to_first_token_ms.p50)}")
    yield f"{'; '.join(said)}."


def of_several(runs: Sequence[RunSummary], baselines: Sequence[Baseline]) -> Iterator[str]:
    """Of the entries of one run: their accuracies against chance and the best baseline."""
    values = [(run, found.value) for run in runs if (found := headline(run))]
    if not values:
        return
    low, high = (pick(value for _, value in values) for pick in (min, max))
    reach = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
    chance = values[0][0].accuracy.chance
    words = [(run.entry, _versus_chance(run)) for run, _ in values]
    yield f"Voted accuracy {reach}; chance is {chance:.2f}: {_grouped(words, len(runs))}."
    if baselines:
        best = best_baseline(baselines)
        tests = [(run.entry, test) for run, _ in values if (test := baseline_test(best, run))]
        if tests:
            outcomes = [(entry, test.outcome.value) for entry, test in tests]
            said = _grouped(outcomes, len(runs))
            yield f"Best baseline {best.estimate.value:.2f} ({best.name}): {said}."


def of_sides(
    leads: Sequence[Lead], name: Mapping[Key, str], differ_in_queries: bool
) -> Iterator[str]:
    """Who is ahead of whom, a sentence for each side that is; then what is not shown."""
    in_table = [lead for lead in leads if METRICS[lead.metric].in_table]
    ahead: dict[Key, list[str]] = {}
    for lead in in_table:
        if any(one.difference.outcome is Outcome.BETTER for one in lead.over):
            said = _ahead(lead, name, differ_in_queries)
            ahead.setdefault(_key(lead.best), []).append(said)
    for key, phrases in ahead.items():
        yield f"{name[key]}: {'; '.join(phrases)}."
    rest: dict[Outcome, list[str]] = {}
    for lead in in_table:
        rest.setdefault(_outcome_of(lead), []).append(_undecided(lead, name))
    not_shown = (Outcome.NO_SIGNIFICANT_DIFFERENCE, Outcome.TOO_FEW, Outcome.SAME)
    clauses = [f"{one}: {', '.join(rest[one])}" for one in not_shown if one in rest]
    if clauses:
        yield _sentence("; ".join(clauses))


def reservations(runs: Iterable[tuple[str, RunSummary]]) -> Iterator[str]:
    """What has to be known with any of it: which sides are made up, and which failed."""
    every = list(runs)
    if mocks := [name for name, run in every if is_mock(run)]:
        yield f"{MOCK_LABEL}, whose figures mean nothing: {_some(mocks)}."
    for name, run in every:
        if run.cells.failed:
            total = run.cells.done + run.cells.failed
            yield f"{name}: {run.cells.failed:,} of {total:,} cells failed."


def unread(runs: Iterable[tuple[str, RunSummary]]) -> Iterator[str]:
    """What accuracies are not over all replies."""
    every = list(runs)
    silent = [name for name, run in every if not_parsed(run) and headline(run) is None]
    if silent:
        yield f"No accuracy, as no reply could be read (0 % parsed): {_some(silent)}."
    partly = [f"{name} {not_parsed(run)}" for name, run in every if not_parsed(run)]
    if heard := [said for said in partly if not said.endswith(" 0 % parsed")]:
        yield f"Not all replies could be read: {_some(heard)}."


def names(keys: Iterable[Key], runs: Mapping[str, str] = MappingProxyType({})) -> dict[Key, str]:
    """What sides are called: by their entries, and with the run where one name would mean two.
    `runs` has the names of those that have one, by their ids."""
    each = list(dict.fromkeys(keys))
    entries = [entry for _, entry in each]
    return {
        (run_id, entry): (
            entry if entries.count(entry) == 1 else f"{entry} {runs.get(run_id, run_id)}"
        )
        for run_id, entry in each
    }


def _key(member: Member) -> Key:
    return member.run_id, member.entry


def _outcome_of(lead: Lead) -> Outcome:
    """That of the whole: what is shown for one pair, else what is the least certain."""
    found = {one.difference.outcome for one in lead.over}
    order = (Outcome.BETTER, Outcome.NO_SIGNIFICANT_DIFFERENCE, Outcome.TOO_FEW, Outcome.SAME)
    return next((one for one in order if one in found), Outcome.NO_SIGNIFICANT_DIFFERENCE)


def _ahead(lead: Lead, name: Mapping[Key, str], differ_in_queries: bool) -> str:
    """`prefill tok/s 2.70x llama-cpp (2.40 to 3.10)`."""
    metric = METRICS[lead.metric]
    better = [one for one in lead.over if one.difference.outcome is Outcome.BETTER]
    if len(better) <= _EACH_WITH_INTERVAL:
        with_n = differ_in_queries and metric.is_share
        each = (_one_better(metric, one.difference, name[_key(one.side)], with_n) for one in better)
        said = " and ".join(each)
    else:
        said = _many_better(metric, better, len(lead.over))
    rest: dict[str, list[str]] = {}
    for one in lead.over:
        if one.difference.outcome is not Outcome.BETTER:
            rest.setdefault(_VERSUS[one.difference.outcome], []).append(name[_key(one.side)])
    behind = "; ".join(f"{versus} {_some(names)}" for versus, names in rest.items())
    return f"{metric.title} {said}{f' ({behind})' if behind else ''}"


def _one_better(metric: Metric, one: Difference, name: str, with_n: bool) -> str:
    span_ = one.interval
    if metric.is_share:
        size = f"{100 * one.change:.1f} pp above {name}"
        ends = [f"{100 * span_.low:.1f} to {100 * span_.high:.1f}"] if span_ else []
    else:
        size = f"{factor(one.change)}x {name}"
        ends = [f"{factor(span_.low)} to {factor(span_.high)}"] if span_ else []
    details = "; ".join([*ends, *([samples(one)] if with_n else [])])
    return f"{size} ({details})" if details else size


def _many_better(metric: Metric, better: Sequence[Over], others: int) -> str:
    changes = [one.difference.change for one in better]
    low, high = min(changes), max(changes)
    if metric.is_share:
        size = f"{100 * low:.1f} to {100 * high:.1f} pp above"
    else:
        size = f"{factor(low)}x to {factor(high)}x"
    if len(better) == others:
        return f"{size} all {others} others"
    return f"{size} {len(better)} of {others} others"


def _undecided(lead: Lead, name: Mapping[Key, str]) -> str:
    """The metric, and the least and the most that the intervals leave possible."""
    metric = METRICS[lead.metric]
    spans = [one.difference.interval for one in lead.over if one.difference.interval]
    if not spans:
        return metric.title
    low, high = min(one.low for one in spans), max(one.high for one in spans)
    ends = (
        f"{100 * low:+.1f} to {100 * high:+.1f} pp"
        if metric.is_share
        else f"{factor(low)}x to {factor(high)}x"
    )
    is_equal = all(one.difference.first == one.difference.other for one in lead.over)
    return f"{metric.title} ({'' if is_equal else f'{name[_key(lead.best)]} '}{ends})"


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def samples(one: Difference) -> str:
    """`n 100`, or of both sides `n 100 / 200`."""
    return f"n {' / '.join(f'{count:,}' for count in dict.fromkeys(one.samples))}"


def _versus_baseline(run: RunSummary, baselines: Sequence[Baseline]) -> Iterator[str]:
    if not baselines:
        return
    best = best_baseline(baselines)
    test = baseline_test(best, run)
    if test is None:
        return
    ends = test.interval
    between = f"; {100 * ends.low:+.1f} to {100 * ends.high:+.1f} pp" if ends else ""
    baseline = f"the best baseline, {best.name} ({best.estimate.value:.2f}{between})"
    yield _sentence(f"{_VERSUS[test.outcome]} {baseline}")


def _versus_chance(run: RunSummary) -> str:
    accuracy, estimate = run.accuracy, headline(run)
    assert estimate is not None
    if estimate.low > accuracy.chance:
        return "above chance"
    return (
        "worse than guessing" if estimate.high < accuracy.chance else "not shown to beat guessing"
    )


def _grouped(words: Sequence[tuple[str, str]], count: int) -> str:
    """`better for all`, or `better: a, b; worse: c`; of `count` entries, some may have no word."""
    groups: dict[str, list[str]] = {}
    for entry, word in words:
        groups.setdefault(word, []).append(entry)
    if len(groups) == 1:
        [(word, entries)] = groups.items()
        return f"{word} for {'all' if len(words) == count else _some(entries)}"
    return "; ".join(f"{word}: {_some(entries)}" for word, entries in groups.items())


def _some(names: Sequence[str]) -> str:
    left = len(names) - _MOST_NAMED
    # One more name is no longer than "and 1 more".
    if left <= 1:
        return ", ".join(names)
    return f"{', '.join(names[:_MOST_NAMED])} and {left:,} more"
