"""Ranges of one text that must not be touched: how they are joined and what lies between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ctxpress.document import Kind, Range

__all__ = ["Mark", "gaps", "join"]


class Mark(NamedTuple):
    """A protected half-open range of characters ``[start, end)`` and what is in it.

    ``pinned``: somebody asked for it by name, so it may not even leave with its document.
    """

    start: int
    end: int
    kind: Kind
    pinned: bool = False


def join(marks: Iterable[Mark], text: str) -> list[Mark]:
    """The same cover as ``marks`` in order and without overlaps.

    Where marks overlap, the one that starts first gives the kind, and what holds something pinned
    is pinned. White space between two marks becomes part of the first: between two protected
    things there is nothing to compress.
    """
    joined: list[Mark] = []
    for start, end, kind, pinned in sorted(marks, key=_outermost_first):
        if not joined:
            if end > start:
                joined.append(Mark(start, end, kind, pinned))
            continue
        last = joined[-1]
        if pinned and start < last.end:
            last = joined[-1] = last._replace(pinned=True)
        start = max(start, last.end)
        if end <= start:
            continue
        if start > last.end and text[last.end : start].isspace():
            last = joined[-1] = last._replace(end=start)
        if last.end == start and (last.kind, last.pinned) == (kind, pinned):
            joined[-1] = last._replace(end=end)
        else:
            joined.append(Mark(start, end, kind, pinned))
    return joined


def _outermost_first(mark: Mark) -> tuple[int, int]:
    return mark.start, -mark.end


def gaps(marks: Sequence[Mark], start: int, end: int) -> Iterator[Range]:
    """What of ``[start, end)`` no mark covers. ``marks`` are as :func:`join` returns them."""
    cursor = start
    for mark in marks:
        if mark.end <= cursor:
            continue
        if mark.start >= end:
            break
        if mark.start > cursor:
            yield Range(cursor, mark.start)
        cursor = mark.end
    if cursor < end:
        yield Range(cursor, end)
