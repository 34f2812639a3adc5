"""Ranges with an explicit beginning and end: ``<keep>`` tags and fenced code blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ctxpress.document import Kind
from ctxpress.formats.marks import Mark

__all__ = ["fenced_code", "kept_by_tag"]

_KEEP = re.compile(r"<(/?)keep>", re.IGNORECASE)
_FENCE = re.compile(
    r"^[ \t>]*(?:(?:[-*+]|\d{1,3}[.)])[ \t]+)?(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)\n?",
    re.MULTILINE,
)


def kept_by_tag(text: str) -> Iterator[Mark]:
    """Every ``<keep>…</keep>``, tags included.

    Nested tags belong to the outermost one; a tag that is never closed reaches to the end.
    """
    depth = start = 0
    for tag in _KEEP.finditer(text):
        if not tag[1]:
            if depth == 0:
                start = tag.start()
            depth += 1
        elif depth:
            depth -= 1
            if depth == 0:
                yield Mark(start, tag.end(), Kind.OPAQUE, pinned=True)
    if depth:
        yield Mark(start, len(text), Kind.OPAQUE, pinned=True)


def fenced_code(text: str, start: int, end: int) -> Iterator[Mark]:
    """The fenced code blocks of ``text[start:end]``, fences included.

    As in CommonMark a block is closed by a fence of the same character, at least as long and with
    nothing behind it; one that is never closed reaches to ``end``. Unlike there, a fence may be
    indented at will, because models and people write them inside lists.
    """
    if text.find("```", start, end) < 0 and text.find("~~~", start, end) < 0:
        return
    opener: re.Match[str] | None = None
    for line in _FENCE.finditer(text, start, end):
        fence, info = line["fence"], line["info"]
        if opener is None:
            if fence[0] == "~" or "`" not in info:
                opener = line
        elif fence.startswith(opener["fence"]) and not info.strip():
            yield Mark(opener.start(), line.end(), Kind.CODE)
            opener = None
    if opener is not None:
        yield Mark(opener.start(), end, Kind.CODE)
