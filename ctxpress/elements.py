"""Elements of a content array that are documents: where they end up when a stage arranged them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ctxpress.document import Block

__all__ = ["Arrangement", "arrangements", "consistent"]


@dataclass(frozen=True, slots=True)
class Arrangement:
    """What became of the movable elements of one array, by their indexes in it.

    ``movable`` are all of them, ascending; ``placed`` says which element goes to the place of
    which, ascending by place; places that nothing goes to close up. ``contradictory``: two
    elements want one place, or only one part of an element leaves; then nothing has moved.
    """

    array: str
    movable: tuple[int, ...]
    placed: tuple[tuple[int, int], ...]
    contradictory: bool = False

    @property
    def order(self) -> tuple[int, ...]:
        """The elements that stay, in their new order."""
        return tuple(element for _, element in self.placed)

    @property
    def changed(self) -> bool:
        """Whether anything has moved or left."""
        return self.placed != _unmoved(self.movable)


def arrangements(blocks: Iterable[Block], *, whole: bool = True) -> tuple[Arrangement, ...]:
    """One for every array in which an element may move, in order of appearance.

    ``whole``: the blocks are all of a request. Where they are a part, as what a stage is given once
    others have left, the place of an element that is not among them may be taken.
    """
    arrays: dict[str, dict[int, list[Block]]] = {}
    for block in blocks:
        if block.array is not None and block.index is not None:
            arrays.setdefault(block.array, {}).setdefault(block.index, []).append(block)
    return tuple(_arrangement(array, elements, whole) for array, elements in arrays.items())


def _arrangement(array: str, elements: Mapping[int, Sequence[Block]], whole: bool) -> Arrangement:
    movable = tuple(sorted(elements))
    slots: dict[int, int] = {}
    for index in movable:
        parts = elements[index]
        wanted = {index if part.slot is None else part.slot for part in parts if not part.dropped}
        if any(part.dropped for part in parts) and wanted or len(wanted) > 1:
            return Arrangement(array, movable, _unmoved(movable), contradictory=True)
        for slot in wanted:
            if slot in slots or (whole and slot not in elements):
                return Arrangement(array, movable, _unmoved(movable), contradictory=True)
            slots[slot] = index
    return Arrangement(array, movable, tuple(sorted(slots.items())))


def _unmoved(movable: Sequence[int]) -> tuple[tuple[int, int], ...]:
    return tuple((index, index) for index in movable)


def consistent(blocks: Sequence[Block], originals: Sequence[Block]) -> list[Block]:
    """``blocks``, those of contradictory arrays put back in their places with their text.

    So are those of an array in which nothing is left: of outcomes that rivals decided apart, each
    may have kept what the other dropped. ``originals`` are the same blocks as they were parsed,
    all of the request.
    """
    found = arrangements(blocks)
    wrong = {one.array for one in found if one.contradictory}
    wrong |= _left_empty({one.array for one in found if one.array and not one.placed}, blocks)
    if not wrong:
        return list(blocks)
    return [
        block
        if block.array not in wrong
        else (old if block.dropped else dataclasses.replace(block, slot=None))
        for block, old in zip(blocks, originals, strict=True)
    ]


def _left_empty(arrays: set[str], blocks: Sequence[Block]) -> set[str]:
    """Those of ``arrays`` in which no block stays."""
    empty = set(arrays)
    for block in blocks if empty else ():
        inside = block.pointer
        while inside and not block.dropped:
            inside = inside.rpartition("/")[0]
            empty.discard(inside)
    return empty
