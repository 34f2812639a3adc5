"""A compressed document back into the body or the messages that it was parsed from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ctxpress.document import Block, ContextDocument, Range, Span, is_unicode
from ctxpress.elements import Arrangement, arrangements
from ctxpress.formats.json_edit import (
    ArrangeElements,
    Edit,
    ReplaceString,
    apply_edits,
    rearranged,
)
from ctxpress.formats.json_strings import Piece

__all__ = ["render_body", "render_list"]


def render_body(body: bytes, before: ContextDocument, after: ContextDocument) -> bytes:
    """``body`` with the texts of ``after``; ``body`` itself where none has changed.

    :raises FormatError: an object on the way to a changed text has a key twice.
    """
    edits: list[Edit] = [
        ReplaceString(block.pointer, tuple(_pieces(block))) for block in _changed(before, after)
    ]
    body = apply_edits(body, edits)
    for arrays in _moved(after):
        body = apply_edits(
            body, [ArrangeElements(one.array, one.movable, one.placed) for one in arrays]
        )
    return body


def render_list(messages: list[Any], before: ContextDocument, after: ContextDocument) -> list[Any]:
    """A new list with the texts of ``after``; only what leads to a changed text is copied."""
    result: list[Any] = list(messages)
    copied: dict[int, Any] = {id(result): result}

    def own(keys: list[str]) -> Any:
        """The list or object at ``keys``, copied on the way so that it may be changed."""
        place: Any = result
        for key in keys:
            index = int(key) if isinstance(place, list) else key
            inner = place[index]
            if id(inner) not in copied:
                inner = inner.copy()
                copied[id(inner)] = place[index] = inner
            place = inner
        return place

    for block in _changed(before, after):
        # "/messages/3/content/0/text": the list itself stands at "/messages".
        keys = block.pointer.split("/")[2:]
        place = own(keys[:-1])
        place[int(keys[-1]) if isinstance(place, list) else keys[-1]] = block.text
    for arrays in _moved(after):
        for one in arrays:
            place = own(one.array.split("/")[2:])
            place[:] = rearranged(place, one.movable, one.placed)
    return result


def _moved(after: ContextDocument) -> list[list[Arrangement]]:
    """What has moved, the deepest arrays first: pointers stay true, and of one depth none is in
    another, so that one pass over the body does for all of them."""
    depths: dict[int, list[Arrangement]] = {}
    for found in arrangements(after.blocks):
        if found.changed:
            depths.setdefault(found.array.count("/"), []).append(found)
    return [depths[depth] for depth in sorted(depths, reverse=True)]


def _changed(before: ContextDocument, after: ContextDocument) -> Iterator[Block]:
    """The blocks whose text has changed into one that a provider takes."""
    known = {block.pointer: block for block in before.blocks if not block.opaque}
    for block in after.blocks:
        old = known.get(block.pointer)
        if old is None or old is block or old.original != block.original:
            continue
        text = block.text
        if text == old.original:
            continue
        # Providers refuse blank texts, and no JSON carries lone surrogates: the original stays.
        if (text.strip() or not old.original.strip()) and is_unicode(text):
            yield block


def _pieces(block: Block) -> Iterator[Piece]:
    """What the block's new text is made of: ranges of the original, or a span's own text."""
    pending: Range | None = None
    for span in block.spans:
        if not _is_extractive(span, block.original):
            if pending is not None:
                yield pending
                pending = None
            yield span.text
            continue
        for piece in span.kept:
            if pending is not None and pending.end == piece.start:
                pending = Range(pending.start, piece.end)
                continue
            if pending is not None:
                yield pending
            pending = piece
    if pending is not None:
        yield pending


def _is_extractive(span: Span, original: str) -> bool:
    length = len(original)
    if not all(0 <= start <= end <= length for start, end in span.kept):
        return False
    return span.text == "".join([original[start:end] for start, end in span.kept])
