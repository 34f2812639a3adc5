"""Each law has a test that tries to break it."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.document import Kind, Range, Role, Source, Span
from ctxpress.errors import LawError
from ctxpress.laws import check_laws, restore_of
from ctxpress.lossless import same_json
from ctxpress.stage import StageTraits
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


JSON = '{ "a": 1.0, "b": [1, "\\u00e9"] }'
SHORT = '{"a":1.0,"b":[1,"\\u00e9"]}'
LOG = "poll\npoll\npoll\n"


def lossless(old, *changed, restore=None):
    """Check a lossless stage that turned the block's spans into `changed`."""
    check_laws(old, with_spans(old, *changed), extractive=False, restore=restore or (lambda t: t))


def rewritten(span, text, **look):
    return dataclasses.replace(span, text=text, **look)


def tool_result(*parts):
    return make_document(make_block(*parts, role=Role.TOOL))


def test_a_lossless_stage_may_rewrite_json_that_restores():
    doc = tool_result("Found: ", (JSON, Kind.JSON, True), " and more")
    free, data, tail = doc.blocks[0].spans
    lossless(doc, free, rewritten(data, SHORT), tail)
    with pytest.raises(LawError, match="protected span 0"):
        check_laws(doc, with_spans(doc, free, rewritten(data, SHORT), tail), extractive=False)


@pytest.mark.parametrize(
    "lie",
    [
        SHORT.replace("1.0", "1"),
        SHORT.replace("1.0", "10e-1"),
        SHORT.replace('"a"', '"A"'),
        '{"b":[1,"é"],"a":1.0}',
        '{"a":1.0,"a":1.0,"b":[1,"é"]}',
        "{}",
        "",
    ],
)
def test_a_stage_that_lies_about_being_lossless_is_caught(lie):
    doc = tool_result((JSON, Kind.JSON, True), (LOG, Kind.LOG, True))
    data, log = doc.blocks[0].spans
    with pytest.raises(LawError, match="span 0: what a lossless stage wrote does not restore"):
        lossless(doc, rewritten(data, lie or "x"), log, restore=lambda text: lie)
    with pytest.raises(LawError, match="span 0: what a lossless stage wrote does not restore"):
        lossless(doc, rewritten(data, SHORT), log, restore=lambda text: None)


def test_a_log_must_restore_character_by_character():
    doc = tool_result((LOG, Kind.LOG, True))
    (log,) = doc.blocks[0].spans
    lossless(doc, rewritten(log, "poll (×3)\n"), restore=lambda text: LOG)
    with pytest.raises(LawError, match="does not restore"):
        lossless(doc, rewritten(log, "poll (×3)\n"), restore=lambda text: LOG.rstrip())


def test_a_restore_that_raises_is_a_broken_law():
    doc = tool_result((LOG, Kind.LOG, True))
    with pytest.raises(LawError, match="restore raised ZeroDivisionError"):
        lossless(doc, rewritten(doc.blocks[0].spans[0], "x"), restore=lambda text: 1 // 0)


@pytest.mark.parametrize(
    "kind", [Kind.CODE, Kind.QUESTION, Kind.INSTRUCTION, Kind.OPAQUE, Kind.TOOL_RESULT]
)
def test_no_other_protected_kind_may_be_rewritten_even_where_it_restores(kind):
    doc = tool_result((JSON, kind, True))
    (span,) = doc.blocks[0].spans
    span = dataclasses.replace(span, detachable=True)
    doc = with_spans(doc, span)
    with pytest.raises(LawError, match="is protected"):
        lossless(doc, rewritten(span, SHORT), restore=lambda text: JSON)


def test_what_somebody_named_may_not_be_rewritten():
    doc = tool_result((JSON, Kind.JSON, True))
    pinned = dataclasses.replace(doc.blocks[0].spans[0], detachable=False)
    with pytest.raises(LawError, match="is protected"):
        lossless(with_spans(doc, pinned), rewritten(pinned, SHORT))


@pytest.mark.parametrize(
    ("role", "kind", "in_document", "allowed"),
    [
        (Role.TOOL, Kind.TABLE, False, True),
        (Role.USER, Kind.JSON, False, True),
        (Role.USER, Kind.LOG, False, False),
        (Role.USER, Kind.TABLE, True, True),
        (Role.SYSTEM, Kind.JSON, False, False),
        (Role.SYSTEM, Kind.JSON, True, True),
        (Role.ASSISTANT, Kind.JSON, False, False),
    ],
)
def test_whose_text_may_be_rewritten(role, kind, in_document, allowed):
    block = make_block((LOG, kind, True), role=role)
    source = Source(id="1") if in_document else None
    span = dataclasses.replace(block.spans[0], source=source)
    assert block.may_rewrite(span) is allowed


def test_a_lossless_stage_may_cut_a_span_and_protect_the_piece_it_wrote():
    doc = tool_result(f"Before\n{LOG}After")
    (span,) = doc.blocks[0].spans
    original = doc.blocks[0].original
    head = span.keep(original, (Range(0, 7),))
    middle = span.keep(original, (Range(7, 21),))
    tail = span.keep(original, (Range(21, len(original)),))
    folded = rewritten(middle, "poll (×3)", protected=True, detachable=True)
    restore = {"poll (×3)": LOG.rstrip()}.get
    lossless(doc, head, folded, tail, restore=restore)
    for broken, message in (
        ((head, folded), "deleted or moved"),
        ((folded, head, tail), "deleted or moved"),
        ((head, folded, tail, tail), "added a span"),
        ((head, rewritten(folded, "poll (×3)", kind=Kind.CODE), tail), "what the text is"),
        ((head, rewritten(folded, "poll", kept=(Range(7, 21), Range(21, 22))), tail), "deleted"),
        ((head, rewritten(folded, "poll (×2)"), tail), "does not restore"),
    ):
        with pytest.raises(LawError, match=message):
            lossless(doc, *broken, restore=restore)


def test_a_lossless_stage_may_not_delete_free_text_or_unprotect():
    doc = tool_result("some words", (JSON, Kind.JSON, True))
    free, data = doc.blocks[0].spans
    shorter = free.keep(doc.blocks[0].original, (Range(0, 4),))
    with pytest.raises(LawError, match="deleted or moved"):
        lossless(doc, shorter, data)
    with pytest.raises(LawError, match="what the text is"):
        lossless(doc, free, dataclasses.replace(data, protected=False))


def test_what_an_earlier_stage_wrote_stays_through_a_lossless_one():
    doc = tool_result((JSON, Kind.JSON, True), " tail")
    data, tail = doc.blocks[0].spans
    before = with_spans(doc, rewritten(data, SHORT), tail)
    lossless(before, *before.blocks[0].spans)
    with pytest.raises(LawError, match="not the original any more"):
        lossless(before, rewritten(data, SHORT.replace("1.0", "2")), tail)


def test_a_stage_that_cannot_restore_is_not_lossless():
    class Boaster:
        traits = StageTraits(lossless=True)
        identity = "boaster"

        async def apply(self, document, context):
            return document

    with pytest.raises(LawError, match="Boaster is lossless by its traits"):
        restore_of(Boaster())


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ('{"a": 1}', '{ "a":1\n}', True),
        ('["é\\/"]', '["\\u00e9/"]', True),
        ("[1.0]", "[1]", False),
        ("[1, 2]", "[12]", False),
        ("[100000000000000000001]", "[100000000000000000002]", False),
        ('{"a":1,"b":2}', '{"b":2,"a":1}', False),
        ('{"a":1,"a":2}', '{"a":2}', False),
        ('["1"]', "[1]", False),
        ('["a b"]', '["a  b"]', False),
        ('{"a":1}\n{"a":2}', '{"a":1} {"a":2}', True),
        ("[1]", "[1][", False),
        ('["a', '["a"', False),
        ('["a\\"', '["a\\\\"', False),
        ("[NaN x]", "[NaNx]", False),
        ("[1\u00a0]", "[1]", False),
    ],
)
def test_json_is_compared_by_its_tokens(first, second, same):
    assert same_json(first, second) is same
    assert same_json(second, first) is same
