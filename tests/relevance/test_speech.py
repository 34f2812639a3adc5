"""Conversations: found among texts, and raised in stretches; anything else is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.relevance.scorer import Titled
from ctxpress.relevance.sentences import split_sentences
from ctxpress.relevance.speech import conversations, with_surroundings

SPEAKERS = ("Chair", "Dr. Okafor (Finance)", "User Interface")


def spoken(n_turns: int) -> list[str]:
    return [f"{SPEAKERS[n % 3]}: I see. That was remark number {n}." for n in range(n_turns)]


def found_in(texts: list[Titled]) -> list[list[tuple[int, int, int]]]:
    ranges = [split_sentences(text.text) for text in texts]
    return [
        [(turn.text, turn.first, turn.stop) for turn in turns]
        for turns in conversations(texts, ranges)
    ]


def raised(texts: list[Titled], logits: list[list[float]]) -> list[list[float]]:
    ranges = [split_sentences(text.text) for text in texts]
    arrays = [np.array(values, np.float32) for values in logits]
    return [rows.tolist() for rows in with_surroundings(conversations(texts, ranges), arrays)]


def test_neighbouring_turns_are_a_conversation() -> None:
    texts = [Titled(turn) for turn in spoken(9)]
    assert found_in(texts) == [[(n, 0, 2) for n in range(9)]]


def test_a_text_of_many_turns_is_one_by_itself() -> None:
    transcript = Titled("\n".join(spoken(12)), "Minutes of March")
    other = Titled("The boiler is old. It was built in 1987.", "Report")
    assert found_in([other, transcript]) == [[(1, 2 * n, 2 * n + 2) for n in range(12)]]


def test_a_heading_may_stand_before_the_first_turn() -> None:
    heading = "Transcript, Tuesday, room 4. Recording begins at nine.\n\n"
    assert found_in([Titled(heading + "\n".join(spoken(12)))]) == [
        [(0, 2 * n + 2, 2 * n + 4) for n in range(12)]
    ]
    assert found_in([Titled(heading * 20 + "\n".join(spoken(12)))]) == []


@pytest.mark.parametrize(
    "texts",
    [
        [],
        [Titled("")],
        [Titled(turn) for turn in spoken(7)],
        [Titled(turn, f"Chunk {n}") for n, turn in enumerate(spoken(20))],
        [Titled("The boiler is old. It was built in 1987.") for _ in range(20)],
        [Titled("\n".join(f"Field {n}: value {n}" for n in range(20)))],
        [Titled("See the note: it says more. Note: it rains. Then: go.") for _ in range(20)],
        [Titled("Note: the server must be restarted. Then it works.") for _ in range(20)],
    ],
    ids=["none", "empty", "few", "other titles", "prose", "a list", "colons", "notes"],
)
def test_what_is_none(texts: list[Titled]) -> None:
    assert found_in(texts) == []


def test_a_text_between_ends_a_conversation() -> None:
    texts = [Titled(turn) for turn in spoken(20)]
    texts[10:10] = [Titled("The tower is 330 metres tall.")]
    assert [len(turns) for turns in found_in(texts)] == [10, 10]
    assert found_in([*texts[:6], texts[10], *texts[6:10]]) == []


def test_a_turn_is_raised_by_the_turns_around_it_and_the_far_ones_are_not() -> None:
    texts = [Titled(turn) for turn in spoken(120)]
    logits = [[-6.0, -6.0] for _ in texts]
    for n in (58, 59, 61, 62):
        logits[n] = [2.0, -1.0]
    after = raised(texts, logits)
    assert after[60][0] > after[50][0] > after[20][0] > -6.0
    assert after[58][0] == 2.0


def test_nothing_is_lowered_and_nothing_exceeds_the_best() -> None:
    texts = [Titled(turn) for turn in spoken(16)]
    logits = [[-0.5, -3.0] for _ in texts]
    assert raised(texts, logits) == [[-0.5, -0.5] for _ in texts]


def test_prose_beside_a_conversation_stays_as_it_was() -> None:
    texts = [Titled("The boiler is old. It was built in 1987."), *map(Titled, spoken(9))]
    assert raised(texts, [[-1.0, -2.0]] + [[-4.0, -4.0]] * 9)[0] == [-1.0, -2.0]


PIECES = st.sampled_from(["Ann: ", "Bob: ", "yes. ", "No!\n", ": ", "\n\n", "", "A b c. ", "塔。"])


@given(st.lists(st.lists(PIECES, max_size=12).map("".join), max_size=12), st.data())
def test_any_texts_keep_their_shape(strings: list[str], data: st.DataObject) -> None:
    texts = [Titled(text) for text in strings]
    ranges = [split_sentences(text) for text in strings]
    numbers = st.floats(-30, 30, width=32)
    logits = [
        np.array(data.draw(st.lists(numbers, min_size=len(own), max_size=len(own))), np.float32)
        for own in ranges
    ]
    after = with_surroundings(conversations(texts, ranges), logits)
    for before, now in zip(logits, after, strict=True):
        assert now.shape == before.shape
        assert (now >= before).all()
