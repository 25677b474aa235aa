"""What the tokens of a prompt are for.

A token belongs to the part of the prompt in which it ends: of ` 12`, which some tokenizers make one
token of, that is the number and not the space. A few examples stand for all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from string import Template as Wording
from typing import Literal, TypeAlias

from harness.contract import common_prefix_length
from harness.record import Record
from harness.workload.encoders import Item
from harness.workload.packing import Tokenize
from harness.workload.prompt import Writer

_SAMPLED = 4  # examples

_Part: TypeAlias = Literal["content", "labels", "separators"]


class Shares(Record):
    """Of the longest prompt's tokens, from 0 to 1; together 1.

    `content` are the numbers or the texts, of examples and query. `separators` is what stands
    between and around them. `markup` is what a chat template adds, and the token that the model
    wants first.
    """

    instruction: float
    content: float
    separators: float
    labels: float
    markup: float


def prompt_shares(
    writer: Writer,
    tokenize: Tokenize,
    examples: Sequence[Item],
    query: Item,
    prompt_tokens: int,
    example_tokens: int,
) -> Shares:
    """Of a prompt with so many tokens, of which `example_tokens` are those of its examples; some of
    these are `examples`."""
    [nothing, *alone] = map(len, tokenize(["", writer.instruction, writer.body(())]))
    instruction = sum(alone) - 2 * nothing
    anchor = writer.body(examples[:1])
    parts: Counter[_Part] = Counter()
    for one in examples[:_SAMPLED]:
        parts += _tokens_of(_example(writer, one), anchor, tokenize)
    sampled = parts.total()
    of_query = _tokens_of(_query(writer, query), anchor, tokenize)
    counts = {
        part: of_query[part] + (example_tokens * parts[part] / sampled if sampled else 0)
        for part in ("content", "separators", "labels")
    }
    markup = max(prompt_tokens - instruction - sum(counts.values()), 0.0)
    total = instruction + sum(counts.values()) + markup
    return Shares(
        instruction=instruction / total,
        content=counts["content"] / total,
        separators=counts["separators"] / total,
        labels=counts["labels"] / total,
        markup=markup / total,
    )


def _tokens_of(
    pieces: Sequence[tuple[_Part, str]], before: str, tokenize: Tokenize
) -> Counter[_Part]:
    """Tokens of each part of a text that stands behind another one."""
    texts = [before]
    for _, piece in pieces:
        texts.append(texts[-1] + piece)
    every = tokenize(texts)
    found: Counter[_Part] = Counter()
    ended = common_prefix_length(every[0], every[-1])
    for (part, _), ids in zip(pieces, every[1:], strict=True):
        now = max(common_prefix_length(ids, every[-1]), ended)
        found[part] += now - ended
        ended = now
    return found


def _example(writer: Writer, item: Item) -> list[tuple[_Part, str]]:
    return list(_pieces(writer, writer.template.example, item))


def _query(writer: Writer, item: Item) -> list[tuple[_Part, str]]:
    """With what the reply begins with."""
    wordings = writer.template.query, writer.template.opening
    return [one for wording in wordings for one in _pieces(writer, wording, item)]


def _pieces(writer: Writer, wording: str, item: Item) -> Iterator[tuple[_Part, str]]:
    at = 0
    for found in Wording.pattern.finditer(wording):
        yield "separators", wording[at : found.start()]
        at = found.end()
        name = found["named"] or found["braced"]
        if name == "label":
            yield "labels", writer.words[item.label]
        elif name == "labels":
            yield "labels", writer.labels
        elif name:
            for index, word in enumerate(item.words):
                if index:
                    yield "separators", writer.template.separator
                yield "content", word
        else:
            yield "separators", "$"
    yield "separators", wording[at:]
