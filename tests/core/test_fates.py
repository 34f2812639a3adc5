"""What became of documents: told from the text, said again when the outcome is repeated."""

from __future__ import annotations

import dataclasses

from ctxpress.document import Kind, Source, Span
from ctxpress.fates import Fate, document_reports, fates_of
from ctxpress.testing import make_block, make_document

SOURCES = [Source(id="a", start=0), Source(id="b", start=9), Source(id="a", start=18)]


def block_of(*texts, element=None, pointer="/messages/0/content", turn=0):
    """A block with a document of each text, and tags around them."""
    spans, original = [], ""
    for text, source in zip(texts, SOURCES, strict=False):
        for piece, kind, protected in [
            ("<d>", Kind.INSTRUCTION, True),
            (text, Kind.DOCUMENT, False),
        ]:
            start, original = len(original), original + piece
            span = Span.of(original, start, len(original), kind, protected=protected, source=source)
            spans.append(dataclasses.replace(span, detachable=True))
    block = make_block(original, pointer=pointer, turn=turn)
    return dataclasses.replace(block, spans=tuple(spans), element=element)


def cut(block, text, number=1):
    """`block` with another text of the span."""
    spans = list(block.spans)
    spans[number] = dataclasses.replace(spans[number], text=text)
    return block.with_spans(tuple(spans))


def without(block, source):
    return block.with_spans(tuple(span for span in block.spans if span.source != source))


def reported(before, after, fates):
    reports = document_reports(
        make_document(*before), make_document(*after), dict(enumerate(fates))
    )
    return [(one.pointer, one.id, one.state, one.reason) for one in reports]


def test_each_document_is_kept_shortened_or_dropped():
    before = block_of("one", "two", "three")
    after = without(cut(before, "ne"), SOURCES[1])
    fates = fates_of(before, after, {SOURCES[1]: "s: too long"})
    assert fates == (Fate("shortened"), Fate("dropped", "s: too long"), Fate("kept"))
    place = "/messages/0/content"
    expected = [
        (place, "a", "shortened", None),
        (place, "b", "dropped", "s: too long"),
        (place, "a", "kept", None),
    ]
    assert reported([before], [after], [fates]) == expected
    # As an outcome is applied: one span without a source.
    repeated = before.with_spans(make_block(after.text).spans)
    assert reported([before], [repeated], [fates]) == expected


def test_where_all_are_kept_nothing_needs_to_be_remembered():
    before = block_of("one", "two")
    moved = before.with_spans((*before.spans[2:], *before.spans[:2]))
    assert fates_of(before, before, {}) == fates_of(before, moved, {}) == ()
    assert [one[2] for one in reported([before], [before], [()])] == ["kept", "kept"]


def test_a_document_that_only_its_tags_are_left_of_is_dropped():
    before = block_of("one")
    assert fates_of(before, cut(before, " "), {}) == (Fate("dropped", "nothing of it was kept"),)


def test_a_reason_can_always_be_stored():
    before = block_of("one")
    (fate,) = fates_of(before, before.without_text(), {SOURCES[0]: "\ud800" + "x" * 10_000})
    assert fate.reason is not None
    assert fate.reason.startswith("?xx")
    assert len(fate.reason) < 1_000


def test_a_document_of_several_blocks_counts_once():
    before = [block_of(text, element="/d/0", pointer=f"/d/0/{n}") for n, text in enumerate("xy ")]
    dropped = Fate("dropped", "s: gone")
    gone = [block.without_text() for block in before]
    assert reported(before, gone, [(dropped,)] * 3) == [("/d/0", "a", "dropped", "s: gone")]
    part = [before[0], gone[1], gone[2]]
    assert [one[2] for one in reported(before, part, [(), (dropped,), (dropped,)])] == ["shortened"]
    assert [one[2] for one in reported(before, before, [(), (), ()])] == ["kept"]


def test_what_was_restored_counts_as_kept_whatever_was_decided():
    before = block_of("one", element="/d/0")
    assert [one[2] for one in reported([before], [before], [(Fate("dropped", "x"),)])] == ["kept"]


def test_an_outcome_under_other_rules_for_documents_still_says_whether_they_left():
    before = block_of("one", "two")
    other = (Fate("dropped", "s: x"),)
    assert [one[2] for one in reported([before], [cut(before, "ne")], [other])] == ["shortened"] * 2
    gone = [(one[2], one[3]) for one in reported([before], [before.without_text()], [other])]
    assert gone == [("dropped", "nothing of it was kept")] * 2


def test_only_the_newest_turns_documents_of_known_outcome_are_accounted_for():
    old, new = block_of("one"), block_of("one", pointer="/messages/2/content", turn=1)
    document = make_document(old, new)
    found = list(document_reports(document, document, {0: (), 1: ()}))
    assert [one.pointer for one in found] == ["/messages/2/content"]
    assert list(document_reports(document, document, {0: ()})) == []
