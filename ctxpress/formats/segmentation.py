"""One text of a request, cut into what must stay and what may be compressed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from ctxpress.document import Kind, Range, Role, Source, Span
from ctxpress.formats.fences import kept_by_tag
from ctxpress.formats.marks import Mark, gaps, join
from ctxpress.formats.options import ParseOptions
from ctxpress.formats.protection import protected_marks
from ctxpress.formats.questions import question_ends, question_in
from ctxpress.formats.recognition import RecognisedDocument, recognise, recognise_framework

__all__ = ["segment"]


class _Area(NamedTuple):
    """A stretch of the text before the things inside it that stay are taken out."""

    start: int
    end: int
    kind: Kind
    protected: bool
    source: Source | None = None
    detachable: bool = False


def segment(
    text: str, *, role: Role, kind: Kind, options: ParseOptions, ask: bool
) -> tuple[Span, ...]:
    """``text`` as spans: in order, covering it exactly, neighbours alike merged.

    ``kind`` is what the text is as a whole: ``PROSE``, ``TOOL_RESULT``, ``DOCUMENT`` or
    ``INSTRUCTION``. ``ask`` says that it holds the question of its turn, which then is protected,
    as is everything that is not a recognised document's own text; without documents, that is the
    ends of the text (see :mod:`ctxpress.formats.questions`).

    System text and assistant text are one protected span each unless ``options`` release them;
    from a system text that is a framework's default prompt the context part is released anyway.
    Spans of a recognised document carry its :class:`~ctxpress.document.Source`, its markup and the
    protected ones inside it included, which are detachable. Any string will do, the work is linear
    in its length, and nothing is raised. An empty text has no spans.
    """
    if not text:
        return ()
    areas = _areas(text, role, kind, options, ask)
    kept = list(kept_by_tag(text))
    return tuple(_merged(_cut(text, areas, kept, options), text))


def _areas(text: str, role: Role, kind: Kind, options: ParseOptions, ask: bool) -> list[_Area]:
    whole = Range(0, len(text))
    if role is Role.ASSISTANT and not options.compress_assistant:
        return [_Area(*whole, kind, protected=True)]
    if role is Role.SYSTEM and not options.compress_system:
        documents = recognise_framework(text)
        if not documents:
            return [_Area(*whole, Kind.INSTRUCTION, protected=True)]
        return list(_around(text, documents, Kind.INSTRUCTION, protected=True))
    documents = () if kind is Kind.DOCUMENT else recognise(text, options)
    if documents and ask:
        return _asking(text, documents)
    if documents:
        return list(_around(text, documents, kind, protected=False))
    if ask:
        return list(_between(whole, question_ends(text), kind))
    return [_Area(*whole, kind, protected=False)]


def _around(
    text: str, documents: Sequence[RecognisedDocument], kind: Kind, *, protected: bool
) -> Iterator[_Area]:
    """The documents, their markup (protected), and what is around them.

    Blanks between two documents are free, as they may leave with one of them. Documents with
    words between them are in different rows: the words may be about the one in front or behind.
    """
    cursor = row = 0
    for number, document in enumerate(documents):
        start, end = max(cursor, document.start), document.end
        opening = max(cursor, document.outer_start)
        between = number > 0 and text[cursor:opening].isspace()
        if number and (document.ordered or _has_words(text, cursor, opening)):
            row += 1
        yield _Area(cursor, opening, kind, protected and not between)
        source = Source(id=document.id, title=document.title, start=document.start, row=row)
        markup = _Area(opening, start, Kind.INSTRUCTION, True, source, detachable=True)
        yield markup
        yield _Area(start, end, Kind.DOCUMENT, protected=False, source=source)
        cursor = max(end, document.outer_end)
        yield markup._replace(start=end, end=cursor)
    yield _Area(cursor, len(text), kind, protected)


def _has_words(text: str, start: int, end: int) -> bool:
    return any(character.isalnum() for character in text[start:end])


def _asking(text: str, documents: Sequence[RecognisedDocument]) -> list[_Area]:
    """The documents of a prompt; all else is protected, the question as what it is."""
    areas = list(_around(text, documents, Kind.INSTRUCTION, protected=True))
    markup = [Mark(found.outer_start, found.outer_end, Kind.DOCUMENT) for found in documents]
    question = question_in(text, list(gaps(markup, 0, len(text))))
    if question is None:
        # Nothing asks outside of the documents: the ends of the text may, whatever they are.
        ends = [Mark(start, end, Kind.QUESTION, True) for start, end in question_ends(text)]
    else:
        ends = [Mark(question.start, question.end, Kind.QUESTION, True)]
    return [piece for area in areas for piece in _overlaid(area, ends)]


def _between(whole: Range, questions: Sequence[Range], kind: Kind) -> Iterator[_Area]:
    marks = [Mark(start, end, Kind.QUESTION, True) for start, end in questions]
    yield from _overlaid(_Area(*whole, kind, protected=False), marks)


def _overlaid(area: _Area, marks: Sequence[Mark]) -> Iterator[_Area]:
    """``area`` with the parts under ``marks`` protected as what the marks say."""
    cursor = area.start
    for mark in marks:
        start, end = max(mark.start, cursor), min(mark.end, area.end)
        if start >= end:
            continue
        yield area._replace(start=cursor, end=start)
        yield area._replace(
            start=start, end=end, kind=mark.kind, protected=True, detachable=not mark.pinned
        )
        cursor = end
    yield area._replace(start=cursor)


def _cut(
    text: str, areas: Sequence[_Area], kept: Sequence[Mark], options: ParseOptions
) -> Iterator[_Area]:
    """The areas, with what stays taken out of those that are not protected."""
    first = 0
    for area in areas:
        while first < len(kept) and kept[first].end <= area.start:
            first += 1
        if area.protected or area.end <= area.start:
            yield area
            continue
        inside: list[Mark] = []
        for mark in islice(kept, first, None):
            if mark.start >= area.end:
                break
            start, end = max(mark.start, area.start), min(mark.end, area.end)
            inside.append(mark._replace(start=start, end=end))
        marks = list(inside)
        for gap in gaps(inside, area.start, area.end):
            marks.extend(protected_marks(text, gap.start, gap.end, options))
        yield from _overlaid(area, join(marks, text) if marks else ())


def _merged(areas: Iterator[_Area], text: str) -> Iterator[Span]:
    """Spans over the areas that are not empty, neighbours of equal look as one."""
    last: _Area | None = None
    for area in areas:
        if area.end <= area.start:
            continue
        blank = not area.protected and text[area.start : area.end].isspace()
        if blank and last is not None and last.protected and last.source == area.source:
            area = last._replace(start=area.start, end=area.end)  # nothing to compress
        if last is not None and last[2:] == area[2:]:
            last = last._replace(end=area.end)
            continue
        if last is not None:
            yield _span(text, last)
        last = area
    if last is not None:
        yield _span(text, last)


def _span(text: str, area: _Area) -> Span:
    return Span.of(
        text,
        area.start,
        area.end,
        area.kind,
        protected=area.protected,
        source=area.source,
        detachable=area.detachable,
    )
