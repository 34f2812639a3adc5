from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.document import Kind
from ctxpress.plugins.token_classification.sentences import number_sentences, stunted
from ctxpress.plugins.token_classification.units import cut_units
from tests.plugins.token_classification.running import count, shorten


def sentences(text: str) -> list[str]:
    units = cut_units(text, [], [])
    numbers = number_sentences(units)
    found = []
    for number in range(int(numbers.max(initial=-1)) + 1):
        index = np.flatnonzero(numbers == number)
        found.append(text[units.starts[index[0]] : units.ends[index[-1]]])
    return found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One two. Three? Four!", ["One two.", "Three?", "Four!"]),
        ("Mr. Smith of the U.S. paid 3.14 euros.", ["Mr. Smith of the U.S. paid 3.14 euros."]),
        ('He said "so it is." Then left.', ['He said "so it is."', "Then left."]),
        ("预算。北翼的", ["预算。", "北翼的"]),
        ("wrapped\nline goes on\nNew line", ["wrapped\nline goes on", "New line"]),
        ("one\n\ntwo", ["one", "two"]),
        ("- one\n- two", ["- one", "- two"]),
        ("(See it.) Next", ["(See it.)", "Next"]),
        ("", []),
    ],
)
def test_sentences(text: str, found: list[str]) -> None:
    assert sentences(text) == found


def test_a_stump_has_fewer_words_than_it_must_and_lost_some() -> None:
    units = cut_units("alpha beta gamma. Yes. Delta epsilon zeta.", [], [])
    numbers = number_sentences(units)
    words = np.flatnonzero(~units.satellite)
    kept = np.zeros(len(units), bool)
    kept[words[[0, 3, 4, 5]]] = True
    nobody = np.zeros(len(units), bool)
    assert stunted(units, numbers, kept, nobody, 2).tolist() == [True, False, False]
    assert stunted(units, numbers, kept, kept, 2).tolist() == [False, False, False]
    assert stunted(units, numbers, kept, nobody, 3).tolist() == [True, False, True]


TEXT = "alpha beta gamma. Delta epsilon zeta. Eta theta iota."
SCORES = {
    "alpha": 0.9, "beta": 0.8, "gamma": 0.3, "Delta": 0.7, "epsilon": 0.1, "zeta": 0.1,
    "Eta": 0.6, "theta": 0.6, "iota": 0.2, ".": 0.0,
}  # fmt: skip


def test_no_sentence_is_left_as_a_stray_word() -> None:
    assert shorten(TEXT, scores=SCORES, target_tokens=5) == "alpha beta Delta Eta theta"
    kept = shorten(TEXT, scores=SCORES, target_tokens=5, min_sentence_words=2)
    assert kept == "alpha beta gamma Eta theta"


def test_a_forced_or_protected_word_may_stand_alone() -> None:
    floor = {"scores": SCORES, "target_tokens": 5, "min_sentence_words": 3}
    assert "Delta" in shorten(TEXT, force_tokens=("Delta",), **floor)
    text = shorten("alpha beta ", ("42", Kind.PROSE, True), " end. Delta epsilon zeta.", **floor)
    assert "42" in text


def test_the_last_word_is_not_taken() -> None:
    assert shorten("alpha beta gamma", target_tokens=1, min_sentence_words=2) in (
        "alpha",
        "beta",
        "gamma",
    )


def test_short_sentences_and_table_cells_stay() -> None:
    scores = {"Yes": 0.9, "1995": 0.9, "|": 0.9, "alpha": 0.8, "beta": 0.8}
    text = "Yes. Gamma delta epsilon. Alpha alpha beta zeta.\n\n| year |\n|---|\n| 1995 |\n"
    kept = shorten(text, scores=scores, keep_ratio=0.6, min_sentence_words=2)
    assert "Yes" in kept
    assert "| year |\n|---|\n| 1995 |" in kept


@settings(max_examples=150, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=25),
    ratio=st.floats(0.05, 0.95),
    minimum=st.integers(0, 4),
    seed=st.integers(0, 99),
)
def test_the_floor_holds_within_the_budget(
    lengths: list[int], ratio: float, minimum: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    text = ". ".join(
        " ".join(f"Word{rng.integers(50)}x{i}y{j}" for j in range(n)) for i, n in enumerate(lengths)
    )
    budget = int(ratio * count(text) + 1e-6)
    kept = shorten(text, keep_ratio=ratio, min_sentence_words=minimum)
    assert count(kept) <= max(budget, 1)
    left = [sum(f"x{i}y{j}" in kept.replace(".", " ") + " " for j in range(n))
            for i, n in enumerate(lengths)]  # fmt: skip
    stumps = [n for n, whole in zip(left, lengths, strict=True) if 0 < n < min(minimum, whole)]
    assert not stumps or sum(left) == sum(stumps)
