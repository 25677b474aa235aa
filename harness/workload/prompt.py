"""The wording of prompts: a template file, and the text it makes of examples and a query.

A template is a TOML file:

    version = 1
    kind = "completion"            # or "chat": then `system` may be given, and the model's own
                                   # chat template wraps what is written
    separator = " "                # between the numbers of one embedding
    head = "...$labels..."         # once, before the examples
    example = "x: $numbers y: $label\\n"
    query = "x: $numbers y:"
    opening = "x: $numbers y:"     # only of a chat, and it may be left out: what the reply begins
                                   # with, so that the model goes on in the form of the examples
    answer = " $label"             # how a reply goes on from there
    stop = ["\\n"]                  # what ends a reply
    [labels]                       # the word for each class; where a dataset's classes are not
    REAL = "yes"                   # all here, their own names are the words

`$$` is a dollar sign. Files are data: `string.Template`, which runs nothing, fills them in.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from harness.errors import TemplateError, UsageError
from harness.spec import read_toml
from harness.validation import validated
from harness.workload.chat import Render
from harness.workload.voters import Item

# By its place: a user's own `prompts.py` may come first on the path.
FOLDER = Path(__file__).parents[2] / "prompts"
_HELP = "docs/PROMPTS.md says what a template holds."
_NEEDED = {"example": ("numbers", "label"), "query": ("numbers",), "answer": ("label",)}


class Template(BaseModel):
    """A template file's content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1]
    kind: Literal["completion", "chat"]
    separator: str
    system: str = ""
    head: str
    example: str
    query: str
    opening: str = ""
    answer: str
    stop: tuple[str, ...]
    labels: dict[str, str]


def template_names() -> list[str]:
    """The templates that are shipped."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_template(name: str) -> Template:
    """A shipped template by name, or the user's own by path.

    Raises `UsageError` where there is none, `TemplateError` where it cannot be used.
    """
    path = FOLDER / f"{name}.toml"
    if name not in template_names():
        path = Path(name)
    if not path.is_file():
        raise UsageError(
            f"there is no prompt template {name!r}",
            remedy=f"Give a TOML file or one of: {', '.join(template_names())}.",
        )
    try:
        return validated(Template, read_toml(path), str(path), remedy=_HELP)
    except UsageError as error:
        raise TemplateError(str(error), remedy=error.remedy) from error


@dataclass(frozen=True, slots=True)
class Writer:
    """Makes prompt texts of one template for one dataset's classes.

    `words[i]` is the word for class i. `chat` renders the model's chat template where the
    template's kind is "chat", else it is `None`.
    """

    template: Template
    words: tuple[str, ...]
    chat: Render | None

    def prompt(self, body: str, query: Item) -> str:
        """The whole text for one query behind the examples that `body` holds."""
        [text] = self.prompts(body, [query])
        return text

    def prompts(self, body: str, queries: Sequence[Item]) -> list[str]:
        """The text for each query."""
        numbers = [self._numbers(query) for query in queries]
        texts = [body + self._fill(self.template.query, numbers=one) for one in numbers]
        if self.chat is None:
            return texts
        rendered = self.chat(self._fill(self.template.system), texts)
        openings = (self._fill(self.template.opening, numbers=one) for one in numbers)
        return [text + opening for text, opening in zip(rendered, openings, strict=True)]

    def body(self, examples: Sequence[Item]) -> str:
        shown = (
            self._fill(
                self.template.example,
                numbers=self._numbers(example),
                label=self.words[example.label],
            )
            for example in examples
        )
        return self._fill(self.template.head) + "".join(shown)

    def answers(self) -> tuple[str, ...]:
        """How a reply goes on from the prompt, for each class."""
        return tuple(string.Template(self.template.answer).substitute(label=w) for w in self.words)

    def _numbers(self, item: Item) -> str:
        return self.template.separator.join(item.words)

    def _fill(self, text: str, **values: str) -> str:
        return string.Template(text).substitute(values, labels=" or ".join(self.words))


def make_writer(
    name: str, template: Template, classes: Sequence[str], chat: Render | None
) -> Writer:
    """`name` is the template's, for errors.

    Raises `TemplateError` where words or placeholders are missing, `UsageError` where a chat is
    wanted of a model that has no chat template.
    """
    words = _words(name, template, classes)
    if template.kind == "chat" and chat is None:
        raise UsageError(
            f"the prompt template {name} is a chat, and the model has no chat template",
            remedy="Use a completion template, such as --prompt compact, or give a chat template "
            "with --chat-template FILE.",
        )
    if template.opening and template.kind != "chat":
        raise TemplateError(
            f"the prompt template {name}: `opening` begins the reply of a chat, and it is none",
            remedy="Write it at the end of `query`.",
        )
    writer = Writer(template, words, chat if template.kind == "chat" else None)
    sample = Item(row=0, label=0, words=("0",))
    try:
        # Tried once here: a wrong placeholder is an error before anything is packed.
        writer.prompt(writer.body([sample]), sample)
        writer.answers()
    except (KeyError, ValueError) as error:
        raise TemplateError(
            f"the prompt template {name} has a placeholder that cannot be filled: {error}",
            remedy="Use $numbers, $label and $labels; write $$ for a dollar sign.",
        ) from error
    _check_placeholders(name, template)
    return writer


def _check_placeholders(name: str, template: Template) -> None:
    """Raises `TemplateError` where a text lacks what it is there to say."""
    for field_name, placeholders in _NEEDED.items():
        there = string.Template(getattr(template, field_name)).get_identifiers()
        for placeholder in placeholders:
            if placeholder not in there:
                raise TemplateError(
                    f"the prompt template {name}: `{field_name}` has no ${placeholder}",
                    remedy=_HELP,
                )


def _words(name: str, template: Template, classes: Sequence[str]) -> tuple[str, ...]:
    """Each class's word: the template's where it has one for all of them, else their names."""
    has_all = set(classes) <= set(template.labels)
    words = tuple((template.labels[name] if has_all else name).strip() for name in classes)
    # Replies are read without regard to case (`harness.scoring.parsing`).
    folded = {word.casefold() for word in words}
    if len(folded) < len(words) or "" in folded:
        raise TemplateError(
            f"the prompt template {name}: the label words {', '.join(map(repr, words))} are not "
            "different",
            remedy="Give each class a word of its own under [labels].",
        )
    return words
