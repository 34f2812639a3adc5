"""Spans cut to ranges of their text, which are ranges of the original once removed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from ctxpress.document import Range, Span

__all__ = ["shortened", "through"]


def shortened(span: Span, original: str, pieces: Sequence[Range]) -> Span:
    """The span cut to ascending ranges of its text; whole where an earlier stage wrote it."""
    if span.text != "".join(original[start:end] for start, end in span.kept):
        return span
    return span.keep(original, tuple(through(span.kept, pieces)))


def through(kept: Sequence[Range], pieces: Iterable[Range]) -> Iterator[Range]:
    """Ranges of a text as ranges of the original, ``kept`` being those that the text is made of.

    ``pieces`` must lie inside the text.
    """
    starts, position = [], 0
    for piece in kept:
        starts.append(position)
        position += piece.end - piece.start
    for start, end in pieces:
        index = bisect_right(starts, start) - 1
        while start < end:
            stop = min(end, starts[index] + kept[index].end - kept[index].start)
            shift = kept[index].start - starts[index]
            yield Range(start + shift, stop + shift)
            start, index = stop, index + 1
