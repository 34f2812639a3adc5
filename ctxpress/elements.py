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

    ``movable`` are all of them, ascending; ``order`` those that stay, in their new order. They
    take the places of the movable ones from the first on. ``contradictory``: two elements want one
    place, or only one part of an element leaves; then ``order`` is as it was.
    """

    array: str
    movable: tuple[int, ...]
    order: tuple[int, ...]
    contradictory: bool = False

    @property
    def changed(self) -> bool:
        """Whether anything has moved or left."""
        return self.order != self.movable


def arrangements(blocks: Iterable[Block]) -> tuple[Arrangement, ...]:
    """One for every array in which an element may move, in order of appearance."""
    arrays: dict[str, dict[int, list[Block]]] = {}
    for block in blocks:
        if block.element is not None:
            array, _, index = block.element.rpartition("/")
            arrays.setdefault(array, {}).setdefault(int(index), []).append(block)
    return tuple(_arrangement(array, elements) for array, elements in arrays.items())


def _arrangement(array: str, elements: Mapping[int, Sequence[Block]]) -> Arrangement:
    movable = tuple(sorted(elements))
    slots: dict[int, int] = {}
    for index in movable:
        parts = elements[index]
        wanted = {index if part.slot is None else part.slot for part in parts if not part.dropped}
        if any(part.dropped for part in parts) and wanted or len(wanted) > 1:
            return Arrangement(array, movable, movable, contradictory=True)
        for slot in wanted:
            if slot in slots or slot not in elements:
                return Arrangement(array, movable, movable, contradictory=True)
            slots[slot] = index
    return Arrangement(array, movable, tuple(slots[slot] for slot in sorted(slots)))


def consistent(blocks: Sequence[Block], originals: Sequence[Block]) -> list[Block]:
    """``blocks``, those of contradictory arrays put back in their places with their text.

    ``originals`` are the same blocks as they were parsed.
    """
    wrong = {found.array for found in arrangements(blocks) if found.contradictory}
    if not wrong:
        return list(blocks)
    return [
        block
        if block.element is None or block.element.rpartition("/")[0] not in wrong
        else (old if block.dropped else dataclasses.replace(block, slot=None))
        for block, old in zip(blocks, originals, strict=True)
    ]
