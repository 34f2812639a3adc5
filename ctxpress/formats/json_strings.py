"""The inside of a JSON string, made of parts of the old one and of text of its own.

A string made of ranges of the old one is made of its *raw* slices: escapes stay spelt as they were.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Sequence

from ctxpress.document import Range
from ctxpress.errors import FormatError
from ctxpress.stage import Skip

__all__ = ["Piece", "rewrite_string"]

Piece = Range | str
"""A part of a new string: characters of the old one, or text of its own."""

_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)"
)


def rewrite_string(raw: bytes, pieces: Sequence[Piece]) -> bytes:
    """The inside of a JSON string made of ``pieces``; ``raw`` is the inside of the old one.

    Ranges keep their escapes as they are spelt. Text of its own is escaped, to ASCII only where
    the old string was ASCII only.

    :raises FormatError: a text holds a lone surrogate, which no JSON body can carry.
    """
    old = raw.decode()
    ascii_only = raw.isascii()
    escapes, shifts = _escapes(old)
    parts: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            parts.append(_escape(piece, ascii_only=ascii_only))
            continue
        start, end = piece
        if escapes:
            start += shifts[bisect_left(escapes, start)]
            end += shifts[bisect_left(escapes, end)]
        parts.append(old[start:end])
    return "".join(parts).encode()


def _escapes(old: str) -> tuple[list[int], list[int]]:
    """Which characters of a string's value are spelt as escapes, and by how much the spelling
    before the first, the second, … of them is longer than the value."""
    escapes: list[int] = []
    shifts = [0]
    if "\\" in old:
        shift = 0
        for match in _ESCAPE.finditer(old):
            start, end = match.span()
            escapes.append(start - shift)
            shift += end - start - 1  # an escape, a surrogate pair too, is one character
            shifts.append(shift)
    return escapes, shifts


def _escape(text: str, *, ascii_only: bool) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise FormatError("a text holds a lone surrogate", code=Skip.UNSUPPORTED_SHAPE) from None
    return json.dumps(text, ensure_ascii=ascii_only)[1:-1]
