"""Sentences that stand twice: where they leave, where they stay, what the text looks like then."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.document import Kind, Role
from ctxpress.plugins.dedupe.sentences import find_repeated_sentences
from ctxpress.plugins.dedupe.text_runs import text_runs
from ctxpress.plugins.dedupe.words import Lexicon
from ctxpress.testing import make_block
from tests.plugins.dedupe.running import BOILER, REEFS, dedupe, deduped, request, texts_of
from tests.plugins.dedupe.test_documents import prose

BANNER = (
    "This report was written by the nightly build of the school's network. "
    "It is made anew every day, so please do not change anything in it by hand. "
)
ONCE = "The boiler of the north wing was replaced."
OTHER = "Nobody knows who had switched the pump off."


def tool(text: str, number: int = 0) -> object:
    return make_block(
        (text, Kind.TOOL_RESULT, False),
        role=Role.TOOL,
        message=number,
        pointer=f"/messages/{number}/content",
    )


def test_a_sentence_stays_where_it_stands_first_across_documents() -> None:
    one, other = f"{ONCE} {REEFS}", f"{OTHER} {ONCE} {BOILER}"
    assert texts_of(one, other) == [one, f"{OTHER} {BOILER}"]
    assert texts_of(one, other, sentences=False) == [one, other]


def test_a_sentence_stays_once_within_one_text() -> None:
    assert deduped(make_block(f"{ONCE} {OTHER} {ONCE.replace('north', '  North')} {BOILER}")) == [
        f"{ONCE} {OTHER} {BOILER}"
    ]


@pytest.mark.parametrize(
    ("word", "changed"),
    [("4,300", "4,301"), ("Okafor", "Miller"), ("was not told", "was told"), ("30 June", "June")],
)
def test_sentences_that_differ_in_what_matters_both_stay(word: str, changed: str) -> None:
    both = f"{BOILER} {BOILER.replace(word, changed)}"
    (left,) = deduped(make_block(both), threshold=0.5)
    sentence = next(s for s in BOILER.split(". ") if word in s)
    assert sentence in left
    assert sentence.replace(word, changed) in left


def test_a_long_sentence_with_one_more_plain_word_is_the_same() -> None:
    long = f"The hall {prose(3, 40)}"
    (left,) = deduped(make_block(f"{long} {OTHER} {long[:-1]} indeed."))
    assert left.rstrip() == f"{long} {OTHER}"


def test_short_sentences_stay_however_often_they_stand() -> None:
    text = f"It failed again. {OTHER} It failed again. {REEFS}"
    assert deduped(make_block(text)) == [text]
    assert deduped(make_block(text), min_words=3) == [f"It failed again. {OTHER} {REEFS}"]


def test_paragraphs_stay_apart_when_their_last_sentence_leaves() -> None:
    text = f"{ONCE}\n\n{OTHER} {ONCE}\n\n{REEFS}"
    assert deduped(make_block(text)) == [f"{ONCE}\n\n{OTHER} \n\n{REEFS}"]
    text = f"{ONCE}\n\n{ONCE}\n\n{REEFS}"
    assert deduped(make_block(text)) == [f"{ONCE}\n\n{REEFS}"]


def test_an_item_of_a_list_leaves_with_its_marker() -> None:
    text = f"- {ONCE}\n- {OTHER}\n"
    assert deduped(make_block(f"{ONCE}\n\n{text}{REEFS}")) == [f"{ONCE}\n\n- {OTHER}\n{REEFS}"]


@pytest.mark.parametrize(
    "line",
    [
        "2024-05-01 10:00:00 the connection to the server was lost again.",
        "ERROR the connection to the server was lost again.",
        "the connection to the server was lost again",
        "state=lost the connection to the server was lost.",
        "| the connection | to the server | was lost again. |",
        "## The connection to the server was lost again",
    ],
)
def test_records_headings_and_rows_stay(line: str) -> None:
    text = f"{line}\n{OTHER}\n{line}\n"
    assert deduped(make_block(text, (OTHER, Kind.PROSE, True))) == [text + OTHER]


def test_a_line_that_is_repeated_between_lines_is_a_record() -> None:
    text = f"The connection was lost, so we try again.\n{OTHER}\nThe connection was lost, so we "
    assert deduped(make_block(f"{text}try again.\nThat is all.")) == [
        f"{text}try again.\nThat is all."
    ]


def test_protected_text_is_never_touched_and_stands_for_its_copies() -> None:
    code = ("`run(1)`", Kind.CODE, True)
    glued = make_block(f"{OTHER} Start it with ", code, f" as you always do. {OTHER} {ONCE}")
    assert deduped(glued, glued) == [
        f"{OTHER} Start it with `run(1)` as you always do. {ONCE}",
        "Start it with `run(1)` as you always do. ",
    ]
    kept = make_block((ONCE, Kind.PROSE, True), f" {OTHER} {ONCE} {REEFS}")
    assert deduped(kept) == [f"{ONCE} {OTHER} {REEFS}"]


def test_a_question_tells_nothing() -> None:
    question = ("The boiler of the north wing was replaced.", Kind.QUESTION, True)
    assert deduped(make_block(question, f"\n\n{ONCE} {OTHER}")) == [f"{ONCE}\n\n{ONCE} {OTHER}"]


def test_the_same_header_in_three_tool_results_is_sent_once() -> None:
    given_texts = [f"{BANNER}{body}" for body in (ONCE, OTHER, REEFS)]
    blocks = [tool(text, number) for number, text in enumerate(given_texts)]
    assert deduped(*blocks) == [given_texts[0], OTHER, REEFS]


def test_what_a_tool_says_again_in_few_words_or_as_a_whole_is_news() -> None:
    status = f"All checks have passed for this build. {OTHER}"
    other = f"All checks have passed for this build. {REEFS}"
    assert deduped(tool(status), tool(other, 1)) == [status, other]
    assert deduped(tool(BANNER), tool(BANNER, 1)) == [BANNER, BANNER]


def test_no_text_becomes_blank() -> None:
    text = f"{ONCE} {OTHER}"
    assert deduped(make_block(text), make_block(text)) == [text, f"{ONCE} "]


def test_a_document_whose_sentences_all_stand_elsewhere_leaves() -> None:
    after = dedupe(request(f"[1] {ONCE} {REEFS}\n\n[2] {OTHER} {BOILER}\n\n"
                           f"[3] {ONCE} {OTHER}\n\nQuestion: why so?"))  # fmt: skip
    assert "[3]" not in after.blocks[0].text
    assert "[2]" in after.blocks[0].text


def test_the_first_sentence_behind_a_documents_number_may_leave_too() -> None:
    after = dedupe(request(f"[1] {ONCE} {REEFS}\n\n[2] {ONCE} {BOILER}\n\nQuestion: why so?"))
    assert f"[2] {BOILER}" in after.blocks[0].text


SENTENCES = [ONCE, OTHER, *BOILER.replace(". ", ".|").split("|"), "Is it so, or is it not so now?"]


@given(st.lists(st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=6), max_size=5))
def test_every_sentence_is_left_somewhere_and_none_of_prose_twice(texts: list[list[str]]) -> None:
    blocks = [make_block(" ".join(one), message=n) for n, one in enumerate(texts)]
    left = deduped(*blocks)
    for sentence in {s for one in texts for s in one}:
        places = sum(text.count(sentence) for text in left)
        kept_alone = sum(text.strip() == sentence for text in left)
        assert 1 <= places <= 1 + kept_alone


@pytest.mark.parametrize("alike", [False, True])
def test_the_work_for_a_sentence_does_not_grow_with_the_number_of_others(
    alike: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ctxpress.plugins.dedupe import sentences as module

    made = []

    class Watched(module.ShingleIndex):
        def __init__(self, *given: object) -> None:
            super().__init__(*given)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(module, "ShingleIndex", Watched)
    pool = [prose(n, 5)[:-1] for n in range(8)]
    for count in (500, 2000):
        rng = random.Random(count)
        told = [
            f"So {' '.join(rng.sample(pool, 8)) if alike else prose(n, 40)[:-1]}."
            for n in range(count)
        ]
        lexicon = Lexicon()
        runs = text_runs(0, make_block(" ".join(told)), lexicon, 5)
        find_repeated_sentences(runs, lexicon, threshold=0.8, min_words=5)
        assert made[-1].steps <= count * (9 * 64 + 16 * 42)
