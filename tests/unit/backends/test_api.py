from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.api import BackendError, Option

SWITCH = Option("on", bool, "A switch.", default=False)
COUNT = Option("count", int, "A count.", least=1)
SHARE = Option("share", float, "A share.", 0.5, least=0, most=1)
KIND = Option("kind", str, "A kind.", "a", choices=("a", "b"))
NAME = Option("name", str, "A name.")
TEXTS = Option("texts", list, "Texts.")
SIZES = Option("sizes", str, "Sizes.", pattern=r"\d(,\d)*", pattern_text="digits such as 3,1")


def test_what_is_not_given_is_the_default_or_none() -> None:
    assert (SWITCH.of({}), SHARE.of({"other": 1}), KIND.of({})) == (False, 0.5, "a")
    assert (COUNT.given({}), SWITCH.given({})) == (None, None)


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        (SWITCH, "no", "true or false"),
        (SWITCH, 1, "true or false"),
        (COUNT, 0, "a whole number of 1 or more"),
        (COUNT, -1, "a whole number of 1 or more"),
        (COUNT, True, "a whole number of 1 or more"),
        (COUNT, 2.0, "a whole number of 1 or more"),
        (COUNT, "2", "a whole number of 1 or more"),
        (COUNT, 2**32 + 1, "a whole number of 32 bits"),
        (COUNT, -(2**40), "a whole number of 32 bits"),
        (SHARE, 1.5, "a number from 0 to 1"),
        (SHARE, math.nan, "a number from 0 to 1"),
        (Option("x", float, "", 0.0), math.inf, "a number"),
        (Option("x", int, "", 0, most=3), 4, "a whole number of 3 or less"),
        (KIND, "c", "one of: a, b"),
        (KIND, True, "one of: a, b"),
        (NAME, 3, "text"),
        (TEXTS, 3, "a text, or a list of texts"),
        (TEXTS, [], "a text, or a list of texts"),
        (TEXTS, ["a", 3], "a text, or a list of texts"),
        (SIZES, "3,", "digits such as 3,1"),
        (SIZES, "3,1\n", "digits such as 3,1"),
        (SIZES, 3, "digits such as 3,1"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    option: Option[Any], value: Any, allowed: str
) -> None:
    assert option.why_not(value) == allowed
    with pytest.raises(BackendError, match=f"{option.name} is ") as caught:
        option.given({option.name: value})
    assert caught.value.remedy == f"Use {allowed}."


def test_of_a_long_value_a_message_has_the_beginning() -> None:
    with pytest.raises(BackendError, match=r"^count is '9{99}\.\.\.$"):
        COUNT.given({"count": "9" * 5000})


def test_a_text_alone_is_a_list_of_one() -> None:
    assert TEXTS.given({"texts": "ab"}) == ["ab"]
    assert TEXTS.given({"texts": ["ab", "c"]}) == ["ab", "c"]


@given(st.integers(1, 2**31 - 1) | st.booleans() | st.floats(0, 1) | st.sampled_from("ab1"))
def test_a_value_is_allowed_exactly_where_it_can_be_read(value: Any) -> None:
    for option in (SWITCH, COUNT, SHARE, KIND, NAME, SIZES):
        if option.why_not(value):
            with pytest.raises(BackendError):
                option.given({option.name: value})
        else:
            assert option.given({option.name: value}) == value
            assert type(option.given({option.name: value})) is option.kind


@pytest.mark.parametrize("name", ["my-opt", "lambda", "Big", "", "1st", "a b"])
def test_a_name_that_could_be_no_flag_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be named"):
        Option(name, int, "One.")


@pytest.mark.parametrize("short", ["tt", "-", "1"])
def test_a_short_flag_is_one_letter(short: str) -> None:
    with pytest.raises(ValueError, match="is one letter"):
        Option("one", int, "One.", short=short)
