"""The wording of prompts: a template file, and the text it makes of examples and a query.

A template is a TOML file:

    version = 1
    kind = "completion"            # or "chat": then `system` may be given, and the model's own
                                   # chat template wraps what is written
    separator = " "                # between the numbers of one vector
    head = "...$labels..."         # once, before the examples
    example = "x: $numbers y: $label\\n"
    query = "x: $numbers y:"
    opening = "x: $numbers y:"     # only of a chat, and it may be left out: what the reply begins
                                   # with, so that the model goes on in the form of the examples
    answer = " $label"             # how a reply goes on from there
    stop = ["\\n"]                  # what ends a reply
    [labels]                       # the word for each class; where a dataset's classes are not
    REAL = "yes"                   # all here, their own names are the words

A template for texts has `$text` in place of `$numbers`, and needs no separator. `$$` is a dollar
sign. Files are data: `string.Template`, which runs nothing, fills them in.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from harness.errors import TemplateError, UsageError
from harness.spec import read_toml
from harness.validation import validated
from harness.workload.chat import Render
from harness.workload.dataset import Kind, one_line
from harness.workload.encoders import Item

# By its place: a user's own `prompts.py` may come first on the path.
FOLDER = Path(__file__).parents[2] / "prompts"
DEFAULTS: Mapping[Kind, str] = {"vectors": "compact", "text": "text"}
"""The template of each kind of data, where none is named."""
CHATS: Mapping[Kind, str] = {"vectors": "chat", "text": "text-chat"}
"""Of each the one that is a chat."""
_PLACEHOLDERS: Mapping[Kind, str] = {"vectors": "numbers", "text": "text"}
_LABEL = re.compile(r"\$(?:label\b|\{label\})")
_HELP = "docs/PROMPTS.md says what a template holds."


class Template(BaseModel):
    """A template file's content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1]
    kind: Literal["completion", "chat"]
    separator: str = " "
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
    template's kind is "chat", else it is `None`. `kind` is that of the data.
    """

    template: Template
    words: tuple[str, ...]
    chat: Render | None
    kind: Kind = "vectors"

    def prompt(self, body: str, query: Item) -> str:
        """The whole text for one query behind the examples that `body` holds."""
        [text] = self.prompts(body, [query])
        return text

    def prompts(self, body: str, queries: Sequence[Item]) -> list[str]:
        """The text for each query."""
        shown = [self._shown(query) for query in queries]
        texts = [body + self._fill(self.template.query, **one) for one in shown]
        if self.chat is None:
            return texts
        rendered = self.chat(self.instruction, texts)
        openings = (self._fill(self.template.opening, **one) for one in shown)
        return [text + opening for text, opening in zip(rendered, openings, strict=True)]

    def body(self, examples: Sequence[Item]) -> str:
        return self._fill(self.template.head) + "".join(map(self.example, examples))

    def example(self, item: Item) -> str:
        """What one example adds to a body."""
        return self._fill(self.template.example, label=self.words[item.label], **self._shown(item))

    def answers(self) -> tuple[str, ...]:
        """How a reply goes on from the prompt, for each class."""
        return tuple(string.Template(self.template.answer).substitute(label=w) for w in self.words)

    @property
    def end(self) -> str:
        """What stands behind the label in an example, or ends a reply: the end of a label."""
        behind = _LABEL.split(self.template.example)[-1].partition("$")[0]
        return behind or "".join(self.template.stop[:1])

    @property
    def labels(self) -> str:
        """All words in one text."""
        return " or ".join(self.words)

    @property
    def instruction(self) -> str:
        """The system's message of a chat; empty where there is none."""
        return self._fill(self.template.system)

    def _shown(self, item: Item) -> dict[str, str]:
        return {_PLACEHOLDERS[self.kind]: self.template.separator.join(item.words)}

    def _fill(self, wording: str, /, **values: str) -> str:
        return string.Template(wording).substitute(values, labels=self.labels)


def make_writer(
    name: str,
    template: Template,
    classes: Sequence[str],
    chat: Render | None,
    kind: Kind = "vectors",
) -> Writer:
    """`name` is the template's, for errors.

    Raises `TemplateError` where words or placeholders are missing, `UsageError` where a chat is
    wanted of a model that has no chat template.
    """
    words = _words(name, template, classes)
    if template.kind == "chat" and chat is None:
        raise UsageError(
            f"the prompt template {name} is a chat, and the model has no chat template",
            remedy=f"Use a completion template, such as --prompt {DEFAULTS[kind]}, or give a chat "
            "template with --chat-template FILE.",
        )
    if template.opening and template.kind != "chat":
        raise TemplateError(
            f"the prompt template {name}: `opening` begins the reply of a chat, and it is none",
            remedy="Write it at the end of `query`.",
        )
    writer = Writer(template, words, chat if template.kind == "chat" else None, kind)
    _check_kind(name, template, kind)
    sample = Item(row=0, label=0, words=("0",))
    try:
        # Tried once here: a wrong placeholder is an error before anything is packed.
        writer.prompt(writer.body([sample]), sample)
        writer.answers()
    except (KeyError, ValueError) as error:
        raise TemplateError(
            f"the prompt template {name} has a placeholder that cannot be filled: {error}",
            remedy=f"Use ${_PLACEHOLDERS[kind]}, $label and $labels; write $$ for a dollar sign.",
        ) from error
    _check_placeholders(name, template, _PLACEHOLDERS[kind])
    return writer


def _check_kind(name: str, template: Template, kind: Kind) -> None:
    """Raises `UsageError` where the template is for data of another kind."""
    for other, placeholder in _PLACEHOLDERS.items():
        if other != kind and placeholder in string.Template(template.query).get_identifiers():
            names = [one for one in template_names() if _is_for(one, kind)]
            raise UsageError(
                f"the prompt template {name} writes ${placeholder}, and the data are "
                f"{'texts' if kind == 'text' else 'vectors'}",
                remedy=f"Use one of --prompt {', '.join(names)}, or a file of your own that writes "
                f"${_PLACEHOLDERS[kind]}.",
            )


def _is_for(name: str, kind: Kind) -> bool:
    query = string.Template(load_template(name).query)
    return _PLACEHOLDERS[kind] in query.get_identifiers()


def _check_placeholders(name: str, template: Template, content: str) -> None:
    """Raises `TemplateError` where a text lacks what it is there to say."""
    needed = {"example": (content, "label"), "query": (content,), "answer": ("label",)}
    for field_name, placeholders in needed.items():
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
    words = tuple(template.labels[name].strip() if has_all else one_line(name) for name in classes)
    # Replies are read without regard to case (`harness.scoring.parsing`).
    folded = {word.casefold() for word in words}
    if len(folded) < len(words) or "" in folded:
        raise TemplateError(
            f"the prompt template {name}: the label words {', '.join(map(repr, words))} are not "
            "different",
            remedy="Give each class a word of its own under [labels].",
        )
    return words
