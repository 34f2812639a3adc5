"""The laws that bind every stage, checked after every run; stages are never trusted.

Law 1: a protected span leaves as it came. Law 2: an extractive stage emits only ranges of the
original, in the order it was given them within a span. Law 4's inflation rule: tokens never grow.
Blocks may not appear, vanish or become blank: providers refuse blank text.
"""

from __future__ import annotations

from collections.abc import Sequence

from ctxpress.document import Block, ContextDocument, Range, Span, is_unicode
from ctxpress.errors import LawError

__all__ = ["check_extractive", "check_laws", "check_protected"]


def check_laws(before: ContextDocument, after: ContextDocument, *, extractive: bool) -> None:
    """Compare a stage's output with its input.

    :raises LawError: naming the law and the block's pointer, never quoting the text.
    """
    if not isinstance(after, ContextDocument):
        raise LawError(f"the stage returned {type(after).__name__}, not a ContextDocument")
    if len(before.blocks) != len(after.blocks):
        raise LawError(
            f"the stage was given {len(before.blocks)} blocks, returned {len(after.blocks)}"
        )
    for old, new in zip(before.blocks, after.blocks, strict=True):
        if old is not new:
            _check_block(old, new, extractive=extractive)


def _check_block(old: Block, new: Block, *, extractive: bool) -> None:
    if (old.pointer, old.original, old.role, old.turn) != (
        new.pointer,
        new.original,
        new.role,
        new.turn,
    ):
        raise LawError(f"{old.pointer}: the stage changed what identifies the block")
    check_protected(old, new)
    if extractive:
        check_extractive(old, new)
    elif not is_unicode(new.text):
        raise LawError(f"{old.pointer}: the stage wrote a lone surrogate, which no JSON carries")
    if old.text.strip() and not new.text.strip():
        raise LawError(f"{old.pointer}: the block became blank")


def check_protected(old: Block, new: Block) -> None:
    """Law 1: the protected spans of ``old`` are in ``new``, same text, same ranges, same order.

    :raises LawError: where one is missing, changed or moved past another.
    """
    wanted = [(span.text, span.kept) for span in old.spans if span.protected]
    found = iter((span.text, span.kept) for span in new.spans if span.protected)
    for number, span in enumerate(wanted):
        if not any(span == candidate for candidate in found):
            raise LawError(f"{old.pointer}: protected span {number} was changed, moved or lost")


def check_extractive(old: Block, new: Block) -> None:
    """Law 2: every span of ``new`` is exactly the ranges of the original that it claims.

    What an earlier stage wrote may stay as it is: this stage did not write it.

    :raises LawError: where text and ranges differ, ranges overlap, or text comes back that an
        earlier stage had deleted.
    """
    original = new.original
    written = {span for span in old.spans if span.text != _joined(original, span.kept)}
    spans = [span for span in new.spans if span not in written] if written else new.spans
    for span in spans:
        if span.text != _joined(original, span.kept):
            raise LawError(f"{new.pointer}: a span's text is not made of its ranges")
        position = 0
        for start, end in span.kept:
            if not position <= start < end <= len(original):
                raise LawError(f"{new.pointer}: the range {start}:{end} is out of order or bounds")
            position = end
    if not _contained(_sorted_ranges(spans), _sorted_ranges(old.spans)):
        raise LawError(f"{new.pointer}: a range is used twice or was deleted before")


def _joined(original: str, kept: Sequence[Range]) -> str:
    return "".join(original[start:end] for start, end in kept)


def _sorted_ranges(spans: Sequence[Span]) -> list[Range]:
    return sorted(piece for span in spans for piece in span.kept)


def _contained(inner: list[Range], outer: list[Range]) -> bool:
    """Whether sorted ``inner`` has no overlaps and lies within the union of sorted ``outer``."""
    merged: list[list[int]] = []
    for start, end in outer:
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    position, index = 0, 0
    for start, end in inner:
        if start < position:
            return False
        while index < len(merged) and merged[index][1] < end:
            index += 1
        if index == len(merged) or not merged[index][0] <= start:
            return False
        position = end
    return True
