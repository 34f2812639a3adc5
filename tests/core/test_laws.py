"""Each law has a test that tries to break it."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.document import Kind, Range, Span
from ctxpress.errors import LawError
from ctxpress.laws import check_laws
from ctxpress.testing import make_block, make_document

PROTECTED = ("DO NOT TOUCH", Kind.CODE, True)


def document(*spans):
    return make_document(make_block(*spans))


def with_spans(doc, *spans):
    return doc.with_blocks((doc.blocks[0].with_spans(tuple(spans)),))


def test_an_unchanged_document_is_lawful():
    doc = document("some prose ", PROTECTED, " more prose")
    check_laws(doc, doc, extractive=True)


@given(st.lists(st.booleans(), min_size=20, max_size=20))
def test_any_subset_of_characters_of_free_text_is_lawful(keep):
    doc = document("abcdefghijklmnopqrst", PROTECTED)
    free, protected = doc.blocks[0].spans
    kept = tuple(Range(i, i + 1) for i in range(20) if keep[i])
    check_laws(
        doc, with_spans(doc, free.keep(doc.blocks[0].original, kept), protected), extractive=True
    )


def test_changing_protected_text_is_caught():
    doc = document("prose ", PROTECTED)
    free, protected = doc.blocks[0].spans
    broken = dataclasses.replace(protected, text="do not touch")
    with pytest.raises(LawError, match="protected span 0"):
        check_laws(doc, with_spans(doc, free, broken), extractive=False)


def test_losing_a_protected_span_is_caught():
    doc = document("prose ", PROTECTED)
    with pytest.raises(LawError, match="protected span 0"):
        check_laws(doc, with_spans(doc, doc.blocks[0].spans[0]), extractive=True)


def test_unprotecting_and_cutting_a_protected_span_is_caught():
    doc = document("prose ", PROTECTED)
    free, protected = doc.blocks[0].spans
    cut = dataclasses.replace(
        protected.keep(doc.blocks[0].original, (Range(6, 8),)), protected=False
    )
    with pytest.raises(LawError, match="protected span 0"):
        check_laws(doc, with_spans(doc, free, cut), extractive=True)


def test_swapping_protected_spans_is_caught():
    doc = document(("first", Kind.CODE, True), " between ", ("second", Kind.CODE, True))
    first, between, second = doc.blocks[0].spans
    with pytest.raises(LawError, match="moved"):
        check_laws(doc, with_spans(doc, second, between, first), extractive=True)


def test_moving_free_spans_round_protected_ones_is_lawful():
    doc = document("one ", "two ", ("Question?", Kind.QUESTION, True))
    one, two, question = doc.blocks[0].spans
    check_laws(doc, with_spans(doc, two, one, question), extractive=True)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("prose", (Range(0, 4),)),
        ("posr", (Range(0, 1), Range(2, 4), Range(1, 2))),
        ("pp", (Range(0, 1), Range(0, 1))),
        ("prose and more", (Range(0, 14),)),
        ("", (Range(3, 3),)),
    ],
    ids=["text is not its ranges", "out of order", "twice", "out of bounds", "empty range"],
)
def test_text_that_is_not_made_of_its_ranges_is_caught(text, kept):
    doc = document("prose", " tail")
    span = Span(text=text, kind=Kind.PROSE, protected=False, kept=kept)
    with pytest.raises(LawError):
        check_laws(doc, with_spans(doc, span, doc.blocks[0].spans[1]), extractive=True)


def test_bringing_back_deleted_text_is_caught():
    doc = document("abcdef")
    shorter = with_spans(doc, doc.blocks[0].spans[0].keep("abcdef", (Range(0, 3),)))
    with pytest.raises(LawError, match="deleted before"):
        check_laws(shorter, doc, extractive=True)


def test_using_a_range_in_two_spans_is_caught():
    doc = document("abcdef")
    span = doc.blocks[0].spans[0]
    with pytest.raises(LawError, match="used twice"):
        check_laws(doc, with_spans(doc, span, span), extractive=True)


def test_blanking_a_block_is_caught():
    doc = document("abc def")
    with pytest.raises(LawError, match="blank"):
        check_laws(
            doc,
            with_spans(doc, doc.blocks[0].spans[0].keep("abc def", (Range(3, 4),))),
            extractive=True,
        )


def test_dropping_or_exchanging_blocks_is_caught():
    first = make_block("first", pointer="/a")
    second = make_block("second", pointer="/b")
    with pytest.raises(LawError, match="returned 1"):
        check_laws(make_document(first, second), make_document(first), extractive=True)
    with pytest.raises(LawError, match="identifies"):
        check_laws(make_document(first, second), make_document(second, first), extractive=True)


def test_free_writing_is_allowed_where_declared():
    doc = document("a long winded text", PROTECTED)
    summary = Span(text="short", kind=Kind.PROSE, protected=False, kept=())
    check_laws(doc, with_spans(doc, summary, doc.blocks[0].spans[1]), extractive=False)
    with pytest.raises(LawError):
        check_laws(doc, with_spans(doc, summary, doc.blocks[0].spans[1]), extractive=True)


def test_the_message_never_quotes_the_text():
    doc = document("secret prose ", ("secret code", Kind.CODE, True))
    with pytest.raises(LawError) as caught:
        check_laws(doc, with_spans(doc, doc.blocks[0].spans[0]), extractive=True)
    assert "secret" not in str(caught.value)


def test_no_stage_may_write_what_json_cannot_carry():
    old = make_document(make_block("some words to rewrite"))
    block = old.blocks[0]
    span = dataclasses.replace(block.spans[0], text="lone \ud800", kept=())
    with pytest.raises(LawError, match="lone surrogate"):
        check_laws(old, old.with_blocks((block.with_spans((span,)),)), extractive=False)
