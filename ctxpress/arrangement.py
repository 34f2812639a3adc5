"""Documents of a request as stages see them: read them, put them in order, cut them, drop them.

A document may be a stretch of one text, with tags or a number around it, or a whole element of a
content array. :func:`passages_of` finds both; :func:`arrange` writes the result back and keeps the
laws: what stands around the documents stays where it is, markup goes with its document, protected
text inside stays whole, and a document with something pinned in it does not leave.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ctxpress.cutting import shortened, through
from ctxpress.document import Block, ContextDocument, Kind, Range, Source, Span
from ctxpress.elements import arrangements

__all__ = ["Passage", "arrange", "full_rows", "passages_of", "shortened", "through"]

T = TypeVar("T")

_JOINT = "\n"
"""Between the texts of a document that is made of several."""


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where the characters ``[start, end)`` of a passage's text stand: a span of a block."""

    block: int
    span: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One document. ``text`` is its own text as it is by now, without ``markup``.

    Passages of one ``row`` can change places with each other. A ``pinned`` passage holds something
    that must go forward. ``fixed`` are the ranges of ``text`` that are protected; they are kept
    with the passage whatever else is.
    """

    number: int
    row: str
    source: Source
    text: str
    pinned: bool
    markup: str = ""
    fixed: tuple[Range, ...] = ()
    _spots: tuple[_Spot, ...] = field(default=(), repr=False)
    _blocks: tuple[int, ...] = field(default=(), repr=False)

    @property
    def blocks(self) -> tuple[int, ...]:
        """The indexes of the blocks that it stands in, ascending."""
        return self._blocks


def passages_of(document: ContextDocument) -> tuple[Passage, ...]:
    """The documents in ``document`` as they stand now, those of one row in their present order.

    Blocks without a source are not documents; documents without text are left out.
    """
    groups: list[tuple[str, list[tuple[int, int]]]] = []
    elements: dict[tuple[str, int | None], list[tuple[int, int]]] = {}
    for index, block in enumerate(document.blocks):
        if block.dropped:
            continue
        if block.array is not None and any(span.source for span in block.spans):
            spots = [(index, number) for number in range(len(block.spans))]
            element = (block.array, block.index)
            if element in elements:
                elements[element] += spots
            else:
                elements[element] = spots
                groups.append((_row(block.array, block, spots), spots))
            continue
        groups += [(_row(block.pointer, block, spots), spots) for spots in _stretches(index, block)]
    groups = _as_they_stand(document, groups)
    found = [_passage(document, row, spots) for row, spots in groups]
    kept = [passage for passage in found if passage.text.strip()]
    return tuple(dataclasses.replace(one, number=n) for n, one in enumerate(kept))


def arrange(
    document: ContextDocument,
    passages: Sequence[Passage],
    order: Sequence[int],
    keep: Mapping[int, Sequence[Range]] | None = None,
    heads: Mapping[int, str] | None = None,
) -> ContextDocument:
    """``document`` with the passages numbered in ``order``, each row in that order.

    ``keep`` are ranges of a passage's text, ascending, for those that are to be cut; the protected
    ones stay besides. Passages that are not in ``order`` leave; the pinned ones are left with what
    is protected in them, behind the others of their row. ``heads`` are texts of the stage's own
    that go in front of a passage's text, for stages that are not extractive. A text or an array
    that would be left empty keeps the first passage of ``order``'s, or else its first.

    :raises ValueError: ``order`` names a passage twice, or one that there is not.
    """
    if len(set(order)) != len(order) or not all(0 <= n < len(passages) for n in order):
        raise ValueError("the order is not made of different passages")
    cuts = _Cuts(dict(keep or {}), dict(heads or {}))
    rows: dict[str, _Row] = {}
    for passage in passages:
        rows.setdefault(passage.row, _Row([], [])).members.append(passage.number)
    for number in order:
        passage = passages[number]
        if passage.pinned or _leaves_text(passage, cuts.ranges.get(number)):
            rows[passage.row].wanted.append(number)
    for row in rows.values():
        row.keep_pinned(passages, cuts)
    texts, arrays = _by_holder(document, [(passages[row.members[0]], row) for row in rows.values()])
    blocks = list(document.blocks)
    for array, together in arrays.items():
        members = [passages[number] for row in together for number in row.members]
        wanted = any(row.wanted for row in together)
        if not wanted and not _array_may_empty(array, document.blocks, members):
            _keep_one(together, order, cuts)
        for row in together:
            _place_elements(blocks, passages, row, cuts)
    for index, together in texts.items():
        block = blocks[index]
        if not _has_more(block) and not any(row.wanted for row in together):
            _keep_one(together, order, cuts)
        blocks[index] = _with_stretches(block, index, passages, together, cuts)
    return document.with_blocks(tuple(blocks))


@dataclass(frozen=True, slots=True)
class _Row:
    """The passages of one row: all of them, and those that stay, in their new order."""

    members: list[int]
    wanted: list[int]

    def keep_pinned(self, passages: Sequence[Passage], cuts: _Cuts) -> None:
        """Pinned passages stay, with what is protected in them, behind the others."""
        chosen = set(self.wanted)
        for number in self.members:
            if passages[number].pinned and number not in chosen:
                self.wanted.append(number)
                cuts.ranges[number] = ()
                cuts.heads.pop(number, None)


def full_rows(
    document: ContextDocument, passages: Sequence[Passage]
) -> Iterator[tuple[Passage, ...]]:
    """The passages of each text or array of which one must stay: nothing else would be left there.

    Those that hold something pinned are not among them: that is left in any case.
    """
    texts, arrays = _by_holder(document, [(passage, passage) for passage in passages])
    full = [members for index, members in texts.items() if not _has_more(document.blocks[index])]
    full += [
        members
        for array, members in arrays.items()
        if not _array_may_empty(array, document.blocks, members)
    ]
    yield from (tuple(members) for members in full if not any(one.pinned for one in members))


def _by_holder(
    document: ContextDocument, items: Iterable[tuple[Passage, T]]
) -> tuple[dict[int, list[T]], dict[str, list[T]]]:
    """What belongs to passages by the text (its block) or the array that holds the passage."""
    texts: dict[int, list[T]] = {}
    arrays: dict[str, list[T]] = {}
    for passage, item in items:
        array = document.blocks[passage.blocks[0]].array
        if array is None:
            texts.setdefault(passage.blocks[0], []).append(item)
        else:
            arrays.setdefault(array, []).append(item)
    return texts, arrays


def _has_more(block: Block) -> bool:
    """Whether there is text around the documents of a block."""
    return any(span.source is None and span.text.strip() for span in block.spans)


@dataclass(frozen=True, slots=True)
class _Cuts:
    """What a passage, by number, is cut to (absent: not at all), and what goes in front of it."""

    ranges: dict[int, Sequence[Range]]
    heads: dict[int, str]


def _row(place: str, block: Block, spots: Sequence[tuple[int, int]]) -> str:
    """The name of the row in which a document of a text or an array stands."""
    sources = (block.spans[number].source for _, number in spots)
    row = next((source.row for source in sources if source), 0)
    return f"{place}#{row}" if row else place


def _stretches(index: int, block: Block) -> Iterator[list[tuple[int, int]]]:
    """The documents inside one block: neighbouring spans of one source."""
    current: list[tuple[int, int]] = []
    last: Source | None = None
    for number, span in enumerate(block.spans):
        if current and span.source != last:
            yield current
            current = []
        if span.source is not None:
            current.append((index, number))
        last = span.source
    if current:
        yield current


def _as_they_stand(
    document: ContextDocument, groups: Sequence[tuple[str, list[tuple[int, int]]]]
) -> list[tuple[str, list[tuple[int, int]]]]:
    """Groups of array elements in the order to which an earlier stage brought them."""
    rank: dict[str, int] = {}
    for found in arrangements(document.blocks, whole=False):
        for place, index in enumerate(found.order):
            rank[f"{found.array}/{index}"] = place
    rows: dict[str, list[list[tuple[int, int]]]] = {}
    for row, spots in groups:
        rows.setdefault(row, []).append(spots)

    def standing(spots: list[tuple[int, int]]) -> int:
        return rank.get(document.blocks[spots[0][0]].element or "", 0)

    ordered = {row: iter(sorted(members, key=standing)) for row, members in rows.items()}
    return [(row, next(ordered[row])) for row, _ in groups]


def _passage(document: ContextDocument, row: str, spots: Sequence[tuple[int, int]]) -> Passage:
    parts: list[str] = []
    markup: list[str] = []
    placed: list[_Spot] = []
    fixed: list[Range] = []
    at, last = 0, spots[0][0]
    pinned, source = False, None
    for block, number in spots:
        span = document.blocks[block].spans[number]
        source = source or span.source
        pinned = pinned or span.pinned
        if span.markup:
            markup.append(span.text)
            continue
        if block != last and parts:
            parts.append(_JOINT)
            at += len(_JOINT)
        last = block
        placed.append(_Spot(block, number, at, at + len(span.text)))
        if span.protected:
            fixed.append(Range(at, at + len(span.text)))
        parts.append(span.text)
        at += len(span.text)
    return Passage(
        number=-1,
        row=row,
        source=source or Source(id=""),
        text="".join(parts),
        pinned=pinned,
        markup="".join(markup),
        fixed=tuple(fixed),
        _spots=tuple(placed),
        _blocks=tuple(dict.fromkeys(block for block, _ in spots)),
    )


def _leaves_text(passage: Passage, cut: Sequence[Range] | None) -> bool:
    return cut is None or any(passage.text[start:end].strip() for start, end in cut)


def _keep_one(rows: Sequence[_Row], order: Sequence[int], cuts: _Cuts) -> None:
    """What would be left empty keeps the first passage asked for, whole."""
    of_row = {number: row for row in rows for number in row.members}
    first = next((number for number in order if number in of_row), rows[0].members[0])
    of_row[first].wanted.append(first)
    cuts.ranges.pop(first, None)


def _array_may_empty(array: str, blocks: Sequence[Block], members: Iterable[Passage]) -> bool:
    """Whether something is left of an array without its documents."""
    if not array:
        return True  # the caller's own list of documents
    mine = {index for passage in members for index in passage.blocks}
    inside = f"{array}/"
    return any(
        block.pointer.startswith(inside) and index not in mine and not block.dropped
        for index, block in enumerate(blocks)
    )


def _place_elements(
    blocks: list[Block], passages: Sequence[Passage], row: _Row, cuts: _Cuts
) -> None:
    standing = (blocks[passages[number].blocks[0]].place for number in row.members)
    places = sorted(place for place in standing if place is not None)
    slots = dict(zip(row.wanted, places, strict=False))
    for number in row.members:
        passage = passages[number]
        for index in passage.blocks:
            block = blocks[index]
            if number not in slots:
                blocks[index] = block.without_text()
                continue
            slot = slots[number] if slots[number] != block.index else None
            own = [
                (at, span) for at, span in enumerate(block.spans) if span.source == passage.source
            ]
            spans = tuple(_cut_spans(block, index, own, passage, cuts))
            if not any(span.text.strip() for span in spans):
                spans = block.spans  # of several texts, none may become blank
            blocks[index] = dataclasses.replace(block, spans=spans, slot=slot)


def _with_stretches(
    block: Block, index: int, passages: Sequence[Passage], rows: Sequence[_Row], cuts: _Cuts
) -> Block:
    queues = {passages[row.members[0]].row: iter(row.wanted) for row in rows}
    mine = {passages[n].source: passages[n].row for row in rows for n in row.members}
    held: dict[Source, list[tuple[int, Span]]] = {}
    for position, span in enumerate(block.spans):
        if span.source is not None:
            held.setdefault(span.source, []).append((position, span))
    spans: list[Span] = []
    met: set[Source] = set()
    gone = False  # a document left, and no separator with it yet
    for span in block.spans:
        if gone and _is_separator(span) and (not spans or spans[-1].text.endswith("\n")):
            gone = False
            continue
        row = None if span.source is None else mine.get(span.source)
        if row is None or span.source is None:
            gone = False
            spans.append(span)
            continue
        if span.source in met:
            continue
        met.add(span.source)
        following = next(queues[row], None)
        gone = False
        if following is not None:
            passage = passages[following]
            spans += _cut_spans(block, index, held[passage.source], passage, cuts)
        elif spans and _is_separator(spans[-1]):
            spans.pop()
        else:
            gone = True
    return block.with_spans(tuple(spans))


def _is_separator(span: Span) -> bool:
    return span.source is None and not span.protected and span.text.isspace()


def _cut_spans(
    block: Block,
    index: int,
    own: Iterable[tuple[int, Span]],
    passage: Passage,
    cuts: _Cuts,
) -> Iterator[Span]:
    """The spans of a passage in this block, markup included, cut to the ranges.

    ``own``: these spans with their places in the block.
    """
    inside = {spot.span: spot for spot in passage._spots if spot.block == index}
    cut = cuts.ranges.get(passage.number)
    head = cuts.heads.get(passage.number) if index == passage._blocks[0] else None
    for number, span in own:
        spot = inside.get(number)
        if spot is not None and head:
            yield Span(
                text=head, kind=Kind.DOCUMENT, protected=False, kept=(), source=passage.source
            )
            head = None
        if spot is None or cut is None or span.protected:
            yield span
            continue
        pieces = [
            Range(max(start, spot.start) - spot.start, min(end, spot.end) - spot.start)
            for start, end in cut
            if start < spot.end and spot.start < end
        ]
        if pieces == [Range(0, len(span.text))]:
            yield span
        elif pieces:
            yield shortened(span, block.original, pieces)
