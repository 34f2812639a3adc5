"""Whole documents that say again what another says, and those that only seem to."""

from __future__ import annotations

import random

import pytest

from ctxpress.arrangement import passages_of
from ctxpress.document import Kind, Source, Span
from ctxpress.plugins.dedupe.documents import find_repeated_documents
from ctxpress.plugins.dedupe.words import Lexicon
from ctxpress.testing import make_block, make_document
from tests.plugins.dedupe.running import BOILER, REEFS, dedupe, deduped, left_of, request, retrieved

WORDS = [f"{a}{b}" for a in "bdfgklmnprst" for b in "abel orin umest aval ekto istra".split()]


def prose(seed: object, words: int) -> str:
    chosen = random.Random(str(seed))
    return " ".join(chosen.choice(WORDS) for _ in range(words)) + "."


def test_of_equal_documents_the_first_stays_whatever_their_case_space_and_punctuation() -> None:
    other = BOILER.upper().replace(". ", " -\n\n").replace(",", "", 0)
    assert left_of(BOILER, REEFS, other, BOILER, sentences=False) == [0, 1]


def test_of_equal_documents_the_one_with_the_higher_score_stays() -> None:
    given = [{"text": BOILER, "score": 0.2}, {"text": BOILER, "score": 0.9}]
    assert left_of(*given) == [1]
    assert left_of(BOILER, given[1]) == [0]  # where not all have one, scores say nothing


def test_a_document_that_differs_in_a_plain_word_is_dropped() -> None:
    assert left_of(BOILER, BOILER.replace("small electric", "little electric")) == [0]
    assert left_of(BOILER, BOILER.replace("small electric", "big orange"), threshold=1) == [0, 1]


@pytest.mark.parametrize(
    ("word", "other"),
    [
        ("4,300", "4,500"),
        ("4,300", "-4,300"),
        ("30 June", "30 July"),
        ("Okafor", "Miller"),
        ("was not told", "was told"),
        ("was not told before", "was told, not before"),
        ("before the second", "after the second"),
        ("euros", "€"),
        ("the children", "your children"),
    ],
)
def test_documents_that_differ_in_what_matters_both_stay(word: str, other: str) -> None:
    text = BOILER.replace("their children", "the children")
    assert word in text
    for first, second in [(text, text.replace(word, other)), (text.replace(word, other), text)]:
        assert left_of(first, second, sentences=False, threshold=0.5) == [0, 1]


@pytest.mark.parametrize(
    ("ending", "other"),
    [
        ("It is safe.", "It is unsafe."),
        ("The list is complete.", "The list is incomplete."),
        ("It was possible and legal.", "It was possible and illegal."),
        ("The smoke was harmful.", "The smoke was harmless."),
        ("It rose by 5 %.", "It rose by 5."),
        ("It rose by 5 %.", "It rose by 6 %."),
    ],
)
def test_what_denies_a_word_or_makes_another_number_of_it_makes_another_document(
    ending: str, other: str
) -> None:
    text = f"{BOILER} {prose(1, 80)}"
    for first, second in [(ending, other), (other, ending)]:
        given = (f"{text} {first}", f"{text} {second}")
        assert left_of(*given, sentences=False) == [0, 1]


def test_a_percent_sign_counts_with_or_without_a_blank() -> None:
    assert left_of(f"{BOILER} It rose by 5 %.", f"{BOILER} It rose by 5%.") == [0]


def test_names_that_change_places_make_another_document() -> None:
    text = f"Alice paid Bob in Rome. {REEFS} {prose(1, 60)}"
    other = text.replace("Alice paid Bob", "Bob paid Alice")
    assert left_of(text, other, sentences=False, threshold=0.6) == [0, 1]


def test_a_part_of_another_document_is_dropped_and_the_longer_one_stays() -> None:
    part = BOILER[BOILER.index("Repairs") : BOILER.index("Parents")]
    assert left_of(part, BOILER) == [1]
    assert left_of(BOILER, part) == [0]
    assert left_of(part.replace("4,300", "4,500"), BOILER, sentences=False) == [0, 1]


def test_long_documents_are_compared_as_exactly_as_short_ones() -> None:
    long = prose("long", 3000)
    middle = long.index(" ", len(long) // 2)
    for endings, alike in [(["isch", "enz"], True), ([f"enz{c}" for c in "abcdefg"], False)]:
        more = " ".join(f"{word}{end}" for word in WORDS for end in endings)  # the rarest words
        longer = f"{long[:-1]} {more}"
        around = f"{long[:middle]} {more} {long[middle:]}"
        assert left_of(longer, long) == [0]
        assert left_of(long, longer, sentences=False) == ([0] if alike else [1])
        assert left_of(long, around, sentences=False) == ([0] if alike else [1])


def test_a_part_whose_number_stands_elsewhere_in_the_whole_is_no_part() -> None:
    lines = [f"In the wing called {n} the repair of the boiler came to {p} euros."
             for n, p in [("A7", 500), ("B9", 700), ("C5", 900)]]  # fmt: skip
    swapped = lines[0].replace("500", "700")
    assert left_of(" ".join(lines), swapped, sentences=False, threshold=0.6) == [0, 1]
    assert left_of(" ".join(lines), lines[1], sentences=False, threshold=0.6) == [0]


def test_titles_with_other_numbers_tell_equal_texts_apart() -> None:
    given = [{"text": REEFS, "title": f"Report {year}"} for year in (2023, 2024, 2024)]
    assert left_of(*given) == [0, 1]
    assert left_of(*({**one, "title": "Report"} for one in given)) == [0]


def test_a_document_with_protected_text_leaves_only_if_the_other_has_it_too() -> None:
    code = "```python\nrun(x[1])\n```\n"
    other = code.replace("[1]", "(1)")
    text = "{}\n\n" + code + BOILER
    assert left_of(text.format("One."), text.format("One.")) == [0]
    assert left_of(text.format("One."), text.format("One.").replace(code, other)) == [0, 1]


def test_a_document_that_must_stay_stays_and_stands_for_its_copies() -> None:
    kept = f"<keep>{REEFS}</keep>"
    after = dedupe(request(f"[1] {REEFS}\n\n[2] {kept}\n\nQuestion: where are reefs?"))
    assert kept in after.blocks[0].text
    assert after.blocks[0].text.count("spends some part") == 1


@pytest.mark.parametrize(
    "shape",
    [
        "<document id='1'>\n{0}\n</document>\n<document id='2'>\n{1}\n</document>\n\nWhy so?",
        "[1] {0}\n\n[2] {1}\n\nQuestion: why so?",
    ],
)
def test_documents_in_one_text_leave_with_their_markup(shape: str) -> None:
    document = request(shape.format(BOILER, BOILER.upper()))
    assert len(passages_of(document)) == 2
    after = dedupe(document)
    assert "2" not in after.blocks[0].text.replace(BOILER, "")
    assert BOILER in after.blocks[0].text


def test_documents_that_are_elements_of_an_array_leave_it() -> None:
    parts = [
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": text},
        }
        for text in (REEFS, BOILER, REEFS)
    ]
    after = dedupe(request([*parts, {"type": "text", "text": "Why so?"}], "anthropic_messages"))
    assert [block.dropped for block in after.blocks] == [False, False, True, False]


def test_a_text_that_is_all_one_repeated_document_keeps_one() -> None:
    block = make_block(REEFS, role="tool")
    source = Source(id="1")
    spans = (Span.of(REEFS, 0, len(REEFS), Kind.DOCUMENT, protected=False, source=source),)
    assert deduped(block.with_spans(spans), earlier=[REEFS]) == [REEFS]


def test_an_earlier_message_never_depends_on_a_later_one() -> None:
    part = BOILER[: BOILER.index("Parents")]
    first, later = retrieved({"text": part, "score": 0.1}, {"text": BOILER, "score": 0.9}).blocks
    import dataclasses

    later = dataclasses.replace(later, message=1)
    after = dedupe(make_document(first, later))
    assert [block.dropped for block in after.blocks] == [False, False]
    assert after.blocks[0].text == part
    assert after.blocks[1].text == BOILER[BOILER.index("Parents") :]


@pytest.mark.parametrize("kind", ["unlike", "alike", "shuffled", "one pool"])
def test_the_work_for_a_document_does_not_grow_with_the_number_of_others(kind: str) -> None:
    def texts(count: int) -> list[str]:
        if kind == "unlike":
            return [prose(n, 100) for n in range(count)]
        if kind == "alike":  # of one template, and every one says something else
            return [prose(0, 95) + f" It cost {n} euros." for n in range(count)]
        pool = [prose(n, 12) for n in range(12)]
        if kind == "shuffled":
            return [" ".join(random.Random(n).sample(pool, 12)) for n in range(count)]
        return [" ".join(p for p in pool if random.Random(p + str(n)).random() < 0.85)
                for n in range(count)]  # fmt: skip

    def steps(count: int) -> int:
        document = retrieved(*texts(count))
        passages = passages_of(document)
        return find_repeated_documents(
            document, passages, Lexicon(), threshold=0.9, min_words=5, earlier=()
        ).steps

    # What one document may cost does not depend on how many there are; comparing each with each
    # would take twenty times as many steps.
    shingles = 130
    for count in (300, 1200):
        assert steps(count) <= count * (shingles // 10 * 64 + 2 * 16 * shingles)
