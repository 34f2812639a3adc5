"""Quotes that agree are one section; a contradiction, or another fact, opens the next."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.plugins.restructure import linking
from ctxpress.plugins.restructure.linking import MAX_QUOTES, contradict, group_quotes

TALL = "The Eiffel Tower in Paris is 330 metres tall."


def grouped(*quotes: str) -> list[int]:
    return group_quotes(quotes, [None] * len(quotes))


def test_quotes_about_the_same_are_one_group_and_others_are_their_own() -> None:
    assert grouped(
        TALL,
        "Coral reefs need warm water near coasts.",
        "In Paris the Eiffel Tower draws crowds.",
        "Near warm coasts grow coral reefs.",
    ) == [0, 1, 0, 1]


def test_a_title_is_part_of_what_a_quote_is_about() -> None:
    quotes = ["It burned down in the winter.", "The roof was mended at last."]
    assert group_quotes(quotes, [None, None]) == [0, 1]
    assert group_quotes(quotes, ["Ostrand Mill", "Ostrand Mill"]) == [0, 0]


def test_the_same_script_without_blanks_is_compared_too() -> None:
    assert grouped("埃菲尔铁塔高330米。", "珊瑚礁需要温暖的水。", "巴黎的埃菲尔铁塔高330米。") == [
        0,
        1,
        0,
    ]


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (TALL, "The Eiffel Tower in Paris is 300 metres tall.", True),
        (TALL, "At 330 metres the Eiffel Tower of 1889 is tall.", False),
        ("It has 1,665 steps.", "It has 1665 steps.", False),
        ("It costs 3,5 or 3.5.", "It costs 35.", True),
        ("The tower is open.", "The tower is not open.", True),
        ("The tower isn't open.", "The tower never was open.", False),
        ("The tower doesn’t sway.", "The tower sways.", True),
        ("A knot in a note.", "Nothing of the kind.", True),
        ("A knot in a note.", "A note in a knot.", False),
        ("In 1889 it was built.", "It was built by Eiffel.", False),
        ("", "", False),
    ],
)
def test_other_numbers_and_denials_contradict(left: str, right: str, expected: bool) -> None:
    assert contradict(left, right) is expected
    assert contradict(right, left) is expected


def test_a_contradiction_opens_the_next_group() -> None:
    assert grouped(TALL, "The Eiffel Tower in Paris is 300 metres tall.") == [0, 1]
    assert grouped("The Eiffel Tower in Paris is open.", "The Eiffel Tower in Paris is not open.",
                   "Open is the Eiffel Tower in Paris today.") == [0, 1, 0]  # fmt: skip


def test_what_contradicts_is_not_brought_together_by_a_third() -> None:
    other = "The Eiffel Tower in Paris is 300 metres tall."
    neutral = "The Eiffel Tower in Paris is tall."
    found = grouped(TALL, other, neutral)
    assert found[0] != found[1]
    assert found[2] in found[:2]


words = st.sampled_from(
    "Paris tower mill Oslo bees 330 300 not never tall of 水铁塔 I’m \ud800".split()
)


@settings(deadline=None)
@given(st.lists(st.lists(words, max_size=8).map(" ".join), max_size=12))
def test_groups_are_numbered_by_appearance_and_hold_no_linked_contradiction(
    quotes: list[str],
) -> None:
    found = grouped(*quotes)
    assert len(found) == len(quotes)
    assert list(dict.fromkeys(found)) == list(range(len(set(found))))
    bags = [linking._bag(quote) for quote in quotes]
    for _, left, right in linking._links(bags):
        if found[left] == found[right]:
            assert not contradict(quotes[left], quotes[right])


def test_the_work_for_two_thousand_quotes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, ...]] = []
    outer = np.outer

    def counted(left, right):
        sizes.append((len(left), len(right)))
        return outer(left, right)

    monkeypatch.setattr(linking.np, "outer", counted)
    quotes = [f"The Ostrand mill has {n} wheels and a roof." for n in range(2_000)]
    found = grouped(*quotes)
    assert max(max(size) for size in sizes) == MAX_QUOTES
    assert found[MAX_QUOTES:] == list(range(found[MAX_QUOTES], found[MAX_QUOTES] + 1_600))
