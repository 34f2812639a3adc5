"""Texts cut into sentences: nothing lost, nothing slow, and the cuts where a reader would cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.relevance.sentences import split_sentences

PIECES = [
    "Mr. Smith", "e.g. this", "3.14", "U.S.", "Fig. 2", "A", "b", " ", "  ", "\n", "\n\n", "\t",
    ".", "!", "?", "…", "。", "？", "।", "؟", '."', ".)", ".[3]", "- item", "1. one", "# Head",
    "| a | b |", "委员会开会", "\u00a0", "\x00", "\ud800", "www.a.example", "x" * 50,
]  # fmt: skip


def cut(text: str) -> list[str]:
    return [text[start:end] for start, end in split_sentences(text)]


def assert_covers(text: str) -> None:
    ranges = split_sentences(text)
    assert "".join(text[start:end] for start, end in ranges) == text
    assert all(start < end for start, end in ranges)
    edges = [edge for piece in ranges for edge in piece]
    assert edges == sorted(edges)


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_every_character_is_in_exactly_one_sentence(text: str) -> None:
    assert_covers(text)


@given(st.text(max_size=200))
def test_any_string_is_covered(text: str) -> None:
    assert_covers(text)


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_no_sentence_is_blank_unless_the_text_is(text: str) -> None:
    if text.strip():
        assert all(sentence.strip() for sentence in cut(text)[1:])


def test_an_empty_text_has_none() -> None:
    assert split_sentences("") == ()
    assert cut(" \n ") == [" \n "]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One. ", "Two! ", "Three? ", "Four"]),
        ('He said "no." She left.', ['He said "no." ', "She left."]),
        ("It grew.[3] Then it fell.", ["It grew.[3] ", "Then it fell."]),
        ("Wait… Then go.", ["Wait… ", "Then go."]),
        ("one. two", ["one. two"]),
        ("First part\n\nsecond part", ["First part\n\n", "second part"]),
        ("A long line\nthat goes on here", ["A long line\nthat goes on here"]),
        ("A heading\nThe text", ["A heading\n", "The text"]),
        ("Items:\n- one\n- two", ["Items:\n", "- one\n", "- two"]),
        ("He (b. 13 April [O.S. April 2] 1743) wrote. It grew.",
         ["He (b. 13 April [O.S. April 2] 1743) wrote. ", "It grew."]),
        ("So it is said (Acts 20:33; 2 Cor. 11:7; Luke). Others differ.",
         ["So it is said (Acts 20:33; 2 Cor. 11:7; Luke). ", "Others differ."]),
        ("He left (at ten.) She stayed.", ["He left (at ten.) ", "She stayed."]),
        ("One (of many. Two.", ["One (of many. ", "Two."]),
        ("They are J.J. Otto and P.O.D. That is all.",
         ["They are J.J. Otto and P.O.D. ", "That is all."]),
    ],
)  # fmt: skip
def test_sentences_end_where_a_reader_would_end_them(text: str, expected: list[str]) -> None:
    assert cut(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Mr. Okafor met Dr. Lee.",
        "See Fig. 3 and Eq. 4.",
        "It costs 3.50 euros, e.g. Here.",
        "J. R. R. Tolkien wrote it.",
        "The U.S. Army came.",
        "Version 2.0 is out",
        "Visit www.example.com/a.B now",
    ],
)
def test_full_stops_inside_a_sentence_do_not_end_it(text: str) -> None:
    assert cut(text) == [text]


def test_a_numbered_list_keeps_its_numbers_with_its_items() -> None:
    assert cut("1. Open it\n2. Close it") == ["1. Open it\n", "2. Close it"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("他来了。她走了！真的？是。", ["他来了。", "她走了！", "真的？", "是。"]),
        ("彼は「行く。」と言った。終わり", ["彼は「行く。」", "と言った。", "終わり"]),
        ("यह एक है। यह दो है।", ["यह एक है। ", "यह दो है।"]),
        ("ما هذا؟ هذا كتاب.", ["ما هذا؟ ", "هذا كتاب."]),
    ],
)
def test_other_scripts_have_marks_of_their_own(text: str, expected: list[str]) -> None:
    assert cut(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a" * 300_000, "word " * 60_000, "." * 300_000, " " * 300_000, "\n" * 300_000,
        "\n \t" * 90_000, ". " * 150_000, "a.\n" * 50_000, "A. " * 50_000, '."' * 150_000,
        ".[1]" * 80_000, "。" * 300_000, "1. " * 50_000, "[" * 300_000, "?!" * 150_000,
        "." + ")" * 300_000, ".]" * 150_000, "\n" + " " * 300_000, "a. b " * 60_000,
    ],
    ids=lambda text: repr(text[:6]),
)  # fmt: skip
def test_long_texts_of_any_kind_are_cut_and_covered(text: str) -> None:
    # Quadratic work on any of these would run into the test's time limit.
    assert_covers(text)


def test_a_stretch_without_an_end_is_cut_at_a_blank() -> None:
    pieces = cut("word " * 5_000)
    assert len(pieces) > 1
    assert max(map(len, pieces)) <= 4_000
    assert all(piece.startswith("word") for piece in pieces)
