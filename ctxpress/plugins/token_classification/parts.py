"""A block taken apart into what may be worked on and what may not, and put together again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctxpress.document import Block, Kind, Range, Span
from ctxpress.plugins.token_classification.characters import BoolArray
from ctxpress.plugins.token_classification.structure import Stretch
from ctxpress.plugins.token_classification.units import Units, cut_units
from ctxpress.stage import TokenCounter

__all__ = ["Part", "put_together", "take_apart"]

_KINDS = frozenset({Kind.PROSE, Kind.DOCUMENT, Kind.TOOL_RESULT, Kind.INSTRUCTION})


@dataclass(frozen=True, slots=True)
class Part:
    """A block taken apart: its text, what of it may be worked on, and its units.

    `offsets`: where its spans begin in the text, and its end; `free_spans` which of them are worked
    on, `frozen` the stretches of the others. `frozen_tokens` is what the whole text counts beyond
    `tokens`, the count of its free text.
    """

    block: Block
    text: str
    offsets: tuple[int, ...]
    free_spans: tuple[bool, ...]
    frozen: tuple[Stretch, ...]
    units: Units
    tokens: int
    frozen_tokens: int


def take_apart(block: Block, counter: TokenCounter) -> Part | None:
    """Find what may be worked on; None where that is nothing but blanks."""
    offsets = np.cumsum([0, *(len(span.text) for span in block.spans)]).tolist()
    free_spans = tuple(_workable(span, block.original) for span in block.spans)
    frozen: list[Stretch] = []
    for free, start, end in zip(free_spans, offsets, offsets[1:], strict=False):
        if free or start == end:
            continue
        if frozen and frozen[-1][1] == start:
            frozen[-1] = (frozen[-1][0], end)
        else:
            frozen.append((start, end))
    text = block.text
    units = cut_units(text, offsets, frozen)
    if not units.choosable.any():
        return None
    tokens = whole = counter.count(text)
    if frozen:
        tokens = counter.count(units.text_of(units.free))
    return Part(
        block, text, tuple(offsets), free_spans, tuple(frozen), units, tokens, whole - tokens
    )


def put_together(part: Part, characters: BoolArray) -> Block:
    """The block with only the selected characters, (n,), in its free spans."""
    spans = list(part.block.spans)
    for index, span in enumerate(spans):
        selected = characters[part.offsets[index] : part.offsets[index + 1]]
        if not part.free_spans[index] or selected.all():
            continue
        origin = np.concatenate([np.arange(start, end) for start, end in span.kept])[selected]
        breaks = np.flatnonzero(np.diff(origin) != 1)
        starts = origin[np.append(0, breaks + 1)] if len(origin) else origin
        ends = origin[np.append(breaks, -1)] + 1 if len(origin) else origin
        kept = tuple(map(Range, starts.tolist(), ends.tolist()))
        spans[index] = span.keep(part.block.original, kept)
    return part.block.with_spans(tuple(spans))


def _workable(span: Span, original: str) -> bool:
    if span.protected or span.kind not in _KINDS:
        return False
    return span.text == "".join(original[start:end] for start, end in span.kept)
