"""Records in words: caveats with their advice, the accuracy in a sentence, why a figure is missing.

Words are made here, where a run is shown, and are never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from harness.comparison.metrics import with_metrics
from harness.comparison.records import Agreement, Compared
from harness.report.text import factor, percent, share
from harness.summary import (
    Caveat,
    CaveatKind,
    DataFacts,
    Missing,
    RunSummary,
    Summary,
    headline,
    parsed_share,
)

_Figures: TypeAlias = Mapping[str, Any]


def presented(summary: Summary) -> Summary:
    """The summary as JSON shows it: with every metric, and with words beside the records."""
    runs = [_with_words(run) for run in with_metrics(summary).runs]
    return summary.model_copy(update={"runs": runs})


def presented_comparison(compared: Compared) -> Compared:
    """The comparison as JSON shows it, likewise."""
    agreements = list(map(presented_agreement, compared.agreements))
    runs = list(map(presented, compared.runs))
    return compared.model_copy(update={"runs": runs, "agreements": agreements})


def presented_agreement(one: Agreement) -> Agreement:
    return one.model_copy(update={"caveats": list(map(worded, one.caveats))})


def _with_words(run: RunSummary) -> RunSummary:
    accuracy = run.accuracy.model_copy(update={"sentence": accuracy_sentence(run)})
    caveats = [worded(one) for one in run.caveats]
    return run.model_copy(update={"accuracy": accuracy, "caveats": caveats})


def worded(caveat: Caveat) -> Caveat:
    """The caveat with its message and advice; what an older run stored is left as it is."""
    # Older runs stored the sentences themselves (DECISIONS.md, "Storage").
    if caveat.message:
        return caveat
    message, advice = _WORDS[caveat.kind](caveat.figures)
    return caveat.model_copy(update={"message": message, "advice": advice})


def accuracy_sentence(run: RunSummary) -> str:
    """The headline vote, and whether it is shown to be better than guessing."""
    accuracy, estimate = run.accuracy, headline(run)
    if not run.cells.done:
        return "No verdict: no prompt got a reply."
    if estimate is None:
        unread = f" ({not_parsed(run)})" if not_parsed(run) else ""
        return f"No verdict: no reply could be read as a label{unread}."
    queries = "query" if accuracy.answered == 1 else "queries"
    figures = (
        f"{accuracy.headline.capitalize()} vote: {estimate.value:.2f}"
        f" ({estimate.low:.2f} to {estimate.high:.2f}) on {accuracy.answered} {queries}"
        f"{', ' * bool(not_parsed(run))}{not_parsed(run)}"
    )
    chance = accuracy.chance
    if estimate.low <= chance <= estimate.high:
        return f"{figures}; the interval covers chance ({chance:.2f}): not shown to beat guessing."
    verdict = ": worse than guessing" if estimate.high < chance else ""
    return f"{figures}; chance is {chance:.2f}{verdict}."


_MORE = 1.05
"""So many times the minimum is worth a sentence."""


def sharing_sentence(run: RunSummary) -> str:
    """How much more of the prompts was computed than has to be, and why; empty where next to
    nothing was, and where all was to be computed."""
    speed = run.speed
    computed, unique, ordered = speed.computed_tokens, speed.unique_tokens, speed.in_order_tokens
    if computed is None or not unique or ordered is None or computed < _MORE * unique:
        return ""
    if run.load and run.load.is_cold:
        return ""
    said = (
        f"It computed {computed:,} prompt tokens, {factor(computed / unique)} times the minimum of "
        f"{unique:,}."
    )
    if speed.least_tokens and computed < _MORE * speed.least_tokens:
        return (
            f"{said} The reason: it shares whole blocks of {speed.shared_block_tokens} tokens only."
        )
    if ordered < _MORE * unique:
        return f"{said} The order in which the prompts were sent is not the reason."
    return (
        f"{said} In the order in which they were sent, an engine that holds only the prompt before "
        f"has to compute {ordered:,}. Sorted by their beginnings, they would take it "
        f"{percent(round(1 - unique / ordered, 3))} less. An engine that holds all prompts gains "
        "nothing by that."
    )


def not_parsed(run: RunSummary) -> str:
    """`87.5 % parsed` where that is not all: it stands beside every accuracy."""
    parsed = parsed_share(run)
    return "" if parsed in (None, 1) else f"{percent(parsed)} parsed"


def headline_share(run: RunSummary) -> str:
    """`0.83 (0.71 to 0.91)`, and how much was parsed where that is not all."""
    return ", ".join(filter(None, [share(headline(run)), not_parsed(run)]))


_SHOWN_COLUMNS = 5


def data_sentence(name: str, data: DataFacts) -> str:
    """What kind of data it is and why, how much, and what of it is not used."""
    if data.kind == "text":
        why = "" if data.is_column_given else ", the only one beside the labels that is not numeric"
        kind = f"text (column {data.text_column}{why})"
    else:
        kind = f"vectors of {data.numbers:,} numbers"
    said = [f"{name}: {kind}, {data.train:,} train, {data.test:,} test, {data.classes:,} classes"]
    if data.test_share is not None:
        said.append(f"{100 * data.test_share:g} % of each class chosen by content for testing")
    if data.unused_columns:
        names = ", ".join(data.unused_columns[:_SHOWN_COLUMNS])
        more = len(data.unused_columns) - _SHOWN_COLUMNS
        said.append(f"not used: columns {names}{f' and {more:,} more' if more > 0 else ''}")
    if data.unused_rows:
        said.append(f"not used: {data.unused_rows:,} rows of a validation split")
    if data.without_text:
        said.append(f"left out: {data.without_text:,} rows without text")
    return "; ".join(said)


MISSING: Mapping[Missing, str] = {
    Missing.NO_REPLY: "no prompt got a reply",
    Missing.NO_VERDICT: "no query got a verdict",
    Missing.NOTHING_PARSED: "no reply could be read as a label",
    Missing.NOT_REPORTED: "not reported by the engine",
    Missing.NOT_MEASURED: "not measured",
    Missing.REMOTE: "the engine runs in no process of ours",
    Missing.CLIENT_CLOCK: "the times are the client's, under names of their own (request ...)",
    Missing.ENGINE_CLOCK: "the times are the engine's own, under names of their own",
    Missing.NO_CONCURRENCY: "no --concurrency was given",
    Missing.COLD_RUN: "the run was cold; its figures have names of their own (cold ...)",
    Missing.WARM_RUN: "the run was not cold",
    Missing.NOT_LOADED: "the engine was not loaded",
    Missing.ALREADY_OPEN: "the engine was open already",
    Missing.SCORE_GENERATES_NOTHING: "score decoding generates nothing",
    Missing.SCORE_PARSES_NOTHING: "score decoding compares labels and parses no text",
    Missing.CHOICE_DECODES_NOTHING: "a label is chosen whole, not decoded token by token",
    Missing.NO_SECOND_TOKEN: "no reply has a second token",
    Missing.NO_LABEL_LOGPROBS: "the engine reports no label log-probabilities",
    Missing.LABEL_LOGPROBS_INCOMPLETE: "no reply has the log-probabilities of all labels",
    Missing.NO_CALIBRATION: "no calibration query was given",
    Missing.ONE_CLASS: "the answered queries are of one class",
    Missing.ONE_VOTER: "no query has two votes",
}


def _failed(figures: _Figures) -> tuple[str, str]:
    remedies = figures.get("remedies", ())  # summaries of earlier versions have none
    return (
        f"{figures['cells']} cells failed: {'; '.join(figures['reasons'])}.",
        " ".join(remedies)
        or "See the engine's log in the results folder; --resume prompts them again.",
    )


def _tokens_differ(figures: _Figures) -> tuple[str, str]:
    own, given = (_spelt(figures[side]) for side in ("own", "given"))
    return (
        "Its own tokenizer makes other tokens of the prompts than it was given, first in voter "
        f"{figures['voter']}, {figures['role']} {figures['position']}, at token "
        f"{figures['token']}: {own} and not {given}.",
        "Its tokenizer does not keep to the model's vocabulary as the first engine does: fix its "
        "files, or prompt it in a run of its own.",
    )


def _spelt(tokens: list[_Figures]) -> str:
    """`'the' (12) ' cat' (7)`."""
    return " ".join(f"{token['text']!r} ({token['id']})" for token in tokens) or "the end"


def _few_queries(figures: _Figures) -> tuple[str, str]:
    queries, wanted, enough = figures["queries"], figures["wanted"], figures["enough"]
    if queries < wanted:
        return (
            f"The test split holds only {queries} queries; {wanted} were wanted.",
            "Give more test rows before you call one engine better.",
        )
    return (
        f"{queries} queries leave wide intervals.",
        f"Use at least {enough} (--queries) before you call one engine better.",
    )


def _unanswered(figures: _Figures) -> tuple[str, str]:
    return (
        f"{figures['unanswered']} of {figures['queries']} queries got no {figures['vote']} "
        "verdict; they are left out of the accuracy.",
        "Use --decoding choice or score, or another --prompt."
        if figures["vote"] == "majority"
        else "Prompt what has no reply again with --resume.",
    )


def _calibration_thin(figures: _Figures) -> tuple[str, str]:
    given, wanted, enough = figures["examples"], figures["wanted"], figures["enough"]
    if given < min(wanted, enough):
        return (
            f"A voter was calibrated on {given} examples, not on the {wanted} wanted: at most "
            "a quarter of those it has is held back.",
            "Give more training rows.",
        )
    return (
        f"Each voter was calibrated on {given} examples.",
        f"Give it at least {enough} (--calibration-queries).",
    )


def _more_examples(is_limited: bool, is_text: bool) -> str:
    fewer = "give shorter texts" if is_text else "write fewer numbers an example"
    return f"{fewer.capitalize()}." if is_limited else f"Raise --max-model-len, or {fewer}."


def _too_much(figures: _Figures) -> str:
    tokens, limit = figures.get("all_tokens"), figures.get("limit")
    return f" {overflow_sentence(tokens, limit)}" if tokens and limit else ""


def overflow_sentence(tokens: int, limit: int) -> str:
    """How much too long a prompt with all examples would be."""
    return (
        f"With all of them a prompt and its reply would take {tokens:,} tokens, "
        f"{factor(tokens / limit)} times the {limit:,} that there are."
    )


_WHOLE_PROMPTS = (
    "Start the server with a longer context, or use a shorter --max-model-len; prompts that do not "
    "arrive whole have no reply."
)
_ALONE = "Send prompts raw: turn the server's own template, or its own special tokens, off."


def _cut(figures: _Figures) -> str:
    side = {"head": "the head", "middle": "the middle", "tail": "the end"}
    what = side.get(figures.get("side", ""), "a part")
    load = f", with {figures['at_once']} requests at once" if "at_once" in figures else ""
    seen = f": it sees about {figures['seen']:,}" if "seen" in figures else ""
    return f"The server drops {what} of a prompt of {figures['declared']:,} tokens{seen}{load}."


def _counts(figures: _Figures) -> str:
    return f"{figures['seen']:,} tokens and not the {figures['declared']:,} that were sent"


_FINDINGS: Mapping[str, Callable[[_Figures], tuple[str, str]]] = {
    "prompt_cut": lambda f: (_cut(f), _WHOLE_PROMPTS),
    "head_unproven": lambda f: (
        f"Its replies to prompts of {f['declared']:,} tokens do not depend on how these begin, and "
        "it gives no log-probabilities that would show whether it reads that.",
        "Compare its accuracy with that of an engine which is known to read whole prompts.",
    ),
    "bos_doubled": lambda f: (f"The server sees {_counts(f)}: the BOS token twice.", _ALONE),
    "bos_added": lambda f: (
        f"The server sees {_counts(f)}: it adds a token, and the model wants none.",
        _ALONE,
    ),
    "bos_missing": lambda f: (f"The server sees {_counts(f)}: no BOS token.", _ALONE),
    "chat_template": lambda f: (
        f"The server sees {_counts(f)}: it puts a chat template round a raw prompt.",
        _ALONE,
    ),
    "tokens_differ": lambda f: (
        f"The server sees {_counts(f)}: its tokenizer is not that of --model.",
        "Name the model that the server has by --model.",
    ),
    "context_smaller": lambda f: (
        f"The server declares a context of {f['declared']:,} tokens, and takes {f['seen']:,}.",
        _WHOLE_PROMPTS,
    ),
    "context_divided": lambda f: (
        f"With {f['at_once']} requests at once the server has {f['seen']:,} tokens for each, and "
        f"{f['declared']:,} for one alone.",
        "Give it a context for all of them together, or lower --concurrency; prompts that do not "
        "arrive whole have no reply.",
    ),
    "cached_tokens_false": lambda f: (
        f"The server reports {f['seen']:,} cached tokens of a prompt of which {f['declared']:,} "
        "can be.",
        "What it reports as cached is left out of all figures.",
    ),
    "prompt_tokens_unknown": lambda _: (
        "The server does not say how many tokens of a prompt it saw: nothing shows that it got "
        "them whole.",
        "Use a server that reports `usage`.",
    ),
    "retried": lambda f: (
        f"The server was busy or away: {f['requests']} requests were sent again, after "
        f"{f['seconds']:.1f} s of waiting in all.",
        "Lower --concurrency before you compare speeds.",
    ),
    "server_lost": lambda f: (
        f"Of {f['declared']} servers {f['seen']} were left at the end: the others took over what "
        "they had not answered.",
        "Compare speeds of runs in which all servers answer to the end.",
    ),
}


_WORDS: Mapping[CaveatKind, Callable[[_Figures], tuple[str, str]]] = {
    CaveatKind.MOCK: lambda _: (
        "This is the mock: its replies are made up and its speed means nothing.",
        "Use it to test the harness only.",
    ),
    CaveatKind.PROMPTS_NOT_EQUAL: lambda _: (
        "Prompts are not equal: before each stood a random beginning of its own, because this "
        "server cannot forget and the run was to be cold.",
        "Use its speed alone; its labels are replies to other prompts.",
    ),
    CaveatKind.CELLS_FAILED: _failed,
    CaveatKind.CELLS_MISSING: lambda f: (
        f"{f['cells']} cells were not prompted yet.",
        "Complete the run with --resume.",
    ),
    CaveatKind.TRAIN_TEST_OVERLAP: lambda f: (
        f"{f['texts']} test texts are in the training data too."
        if "texts" in f
        else f"{f['vectors']} test vectors are in the training data too.",
        "Remove them: they make every accuracy too good.",
    ),
    CaveatKind.TOKENS_DIFFER: _tokens_differ,
    CaveatKind.SERVER_FINDING: lambda f: _FINDINGS[f["kind"]](f),
    CaveatKind.COVERS_CHANCE: lambda f: (
        f"The accuracy is not shown to differ from chance ({f['chance']:.2f}).",
        "Use more queries, or show more examples (--max-model-len).",
    ),
    CaveatKind.FEW_QUERIES: _few_queries,
    CaveatKind.UNANSWERED: _unanswered,
    CaveatKind.LABELS_NOT_WRITTEN: lambda f: (
        f"Only {100 * f['readable']:.0f} % of the replies could be read; the {f['vote']} vote is "
        "made from label log-probabilities, not from what was written.",
        "Raise --max-tokens, or try another --prompt or --decoding choice.",
    ),
    CaveatKind.LOW_LABEL_MASS: lambda f: (
        f"In the median reply the labels hold {f['label_mass']:.3f} of the probability.",
        "The model would rather say something else: try another --prompt.",
    ),
    CaveatKind.CALIBRATION_THIN: _calibration_thin,
    CaveatKind.FEW_EXAMPLES: lambda f: (
        f"--shots {f['shots']} was wanted, and a voter has only {f['examples']} examples to show.",
        "Give more training rows, or lower --shots.",
    ),
    CaveatKind.CONTEXT_LIMITED: lambda f: (
        f"The prompts were packed for {f['limit']:,} tokens, which a model of this run was made "
        f"for, and not for the {f['wanted']:,} wanted.",
        "Use a model with a longer context, or leave out the entry with the shortest.",
    ),
    CaveatKind.EXAMPLES_DROPPED: lambda f: (
        f"The context holds {f['shown']:,} of {f['available']:,} examples (mean per voter); the "
        f"others were left out.{_too_much(f)}",
        _more_examples(f["is_limited"], f.get("is_text", False)),
    ),
    CaveatKind.CONTEXT_UNUSED: lambda f: (
        f"The model takes {f['declared']:,} tokens, and the longest prompt and its reply take "
        f"{f['used']:,} of them.",
        "Raise --max-model-len; `--shots 1,2,4,8,16,max` shows whether more examples help.",
    ),
    CaveatKind.TEXTS_TOO_LONG: lambda f: (
        f"Texts are too long for {f['limit']:,} tokens: {f['examples']} training texts take more "
        f"than half of them and are not shown, and the prompts of {f['queries']} queries do not "
        "fit.",
        "Raise --max-model-len, or shorten the texts.",
    ),
    CaveatKind.SEVERAL_SESSIONS: lambda f: (
        f"The replies come from {f['sessions']} sessions of the engine.",
        "Some prefixes were evaluated again: compare speeds of uninterrupted runs.",
    ),
    CaveatKind.PROCESSORS_SHARED: lambda f: (
        f"Other processes used {100 * f['share']:.0f} % of the processors' time while it was "
        "timed: its speed would be higher without them.",
        "Measure speed on a machine that does nothing else.",
    ),
    CaveatKind.ENGINES_DISAGREE: lambda f: (
        "They read the same weights, and their label log-odds are "
        f"{f['median']:.2f} apart in the median and {f['largest']:.2f} at most; "
        f"{f['median_tolerance']} and {f['largest_tolerance']} are tolerated.",
        "That is more than rounding explains: look at their tokens, their precision and their "
        "versions before you compare their accuracy.",
    ),
}
