"""Survival as SQuAD compares answers, numbers, content words, intervals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.document import Range
from ctxpress.evaluation.metrics import (
    answer_survives,
    bootstrap_interval,
    content_words,
    numbers_survive,
    share_kept,
    squad_tokens,
)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The Cat, a dog and AN owl!", ["cat", "dog", "and", "owl"]),
        ("  white\tspace\n\ncollapses\u00a0here ", ["white", "space", "collapses", "here"]),
        ("well-known U.S. $5 don't", ["wellknown", "us", "5", "dont"]),
        ("“Yes”, she said — ‘no’…", ["yes", "she", "said", "no"]),
        ("Zoe\u0308 Cafe\u0301", ["zoë", "café"]),
        ("theatre another", ["theatre", "another"]),
        ("。「東京」！", ["東京"]),
        ("the a an", []),
        ("", []),
    ],
)
def test_text_is_normalised_as_in_squad(text: str, tokens: list[str]) -> None:
    assert squad_tokens(text) == tokens


@pytest.mark.parametrize(
    ("answers", "text", "survives"),
    [
        (["March 1995"], "returned in march, 1995.", True),
        (["March 1995"], "March of 1995", False),
        (["199"], "in 1995", False),
        (["art"], "a part", False),
        (["the Bulls"], "joined Bulls early", True),
        (["University of Kent"], "the University of the Kent", True),
        (["gone", "2001"], "from 2001 to 2003", True),
        (["A"], "blood group A", True),
        (["A"], "blood group B", False),
        (["!?", ""], "anything !? at all", False),
        (["Zoë"], "ZOE\u0308!", True),
        (["1995"], "", False),
    ],
)
def test_an_answer_survives_on_word_borders(answers: list[str], text: str, survives: bool) -> None:
    assert answer_survives(answers, text) is survives


@given(st.text(), st.text(), st.text())
def test_an_answer_survives_in_any_text_around_it(before: str, answer: str, after: str) -> None:
    text = f"{before} {answer} {after}"
    assert answer_survives([answer], text) == bool(squad_tokens(answer, articles=True))


@pytest.mark.parametrize(
    ("compressed", "survive"),
    [
        ("12 boxes 3.50, 12 more, 1/4 free", True),
        ("12 boxes 3.50, 1/4 free", False),  # one of two twelves is gone
        ("12 boxes 3.5, 12 more, 1/4", False),
        ("1212 boxes 3.50 1/4", False),
        ("4 1 3.50 12 12", True),
    ],
)
def test_each_number_must_survive_as_often_as_it_occurs(compressed: str, survive: bool) -> None:
    assert numbers_survive("12 boxes of 3.50 and 12 more, 1/4 free", compressed) is survive


def test_a_thousands_comma_is_a_part_of_the_number_and_a_full_stop_is_not() -> None:
    assert not numbers_survive("He has 1,200.", "has 1 200")
    assert numbers_survive("He has 1,200.", "has 1,200")


def test_content_words_are_those_that_carry_something() -> None:
    text = "Um, so I think the battery isn't, you know, rechargeable."
    assert [text[a:b] for a, b in content_words(text)] == ["battery", "isn't", "rechargeable"]


def test_a_word_is_kept_if_it_lies_whole_in_one_range() -> None:
    words = [Range(0, 4), Range(5, 9), Range(10, 14)]
    assert share_kept(words, [Range(0, 4), Range(4, 8), Range(10, 20)]) == pytest.approx(2 / 3)
    assert share_kept(words, []) == 0
    assert share_kept([], []) == 1


def test_the_interval_holds_the_mean_and_narrows_with_items() -> None:
    few, many = bootstrap_interval([0.0, 1.0] * 10), bootstrap_interval([0.0, 1.0] * 1000)
    assert few.low < many.low < 0.5 < many.high < few.high
    assert few == bootstrap_interval([0.0, 1.0] * 10)
    assert bootstrap_interval([1.0] * 5) == (1.0, 1.0)
    # Of a mean of 0.5 over n items the standard error is 0.5 / sqrt(n).
    assert many.high - many.low == pytest.approx(2 * 1.96 * 0.5 / 2000**0.5, rel=0.1)
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval([])
