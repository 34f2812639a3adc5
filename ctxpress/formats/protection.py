"""What inside a released text stays as it is, whoever sent it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ctxpress.document import Kind
from ctxpress.formats.fences import fenced_code
from ctxpress.formats.inline import inline_marks
from ctxpress.formats.json_values import json_values
from ctxpress.formats.line_blocks import line_marks
from ctxpress.formats.marks import Mark, gaps, join
from ctxpress.formats.options import ParseOptions

__all__ = ["protected_marks"]

_NUMBER = re.compile(r"\d+(?:[.,:/'’-]\d+)*%?")

# A tenant's pattern sees windows of this many characters. Each begins inside the one before, so
# that a match of up to the overlap's length is always seen whole.
_WINDOW = 4_096
_OVERLAP = 512
_MAX_MARGIN = 200


def protected_marks(text: str, start: int, end: int, options: ParseOptions) -> list[Mark]:
    """The ranges of ``text[start:end]`` that no stage may touch, in order and without overlaps.

    Code, JSON, tables, tags, addresses, paths, blobs, and what the tenant lists: ``protect_terms``
    are looked up literally; ``protect_patterns`` are run over windows of 4,096 characters, so that
    a slow pattern costs in proportion to the text's length, and a match of more than 512
    characters may be cut at a window's end. A pattern that is exponential stays the tenant's own
    mistake.
    """
    marks = join(fenced_code(text, start, end), text)
    # A fence is a fence whatever is in it; JSON is told from code by its contents, so it comes
    # before the shapes of lines, which see whole lines only: an array inside a line cuts nothing.
    values = [
        mark for gap in gaps(marks, start, end) for mark in json_values(text, gap.start, gap.end)
    ]
    blocks = join([*marks, *(mark for mark in values if _whole_lines(text, mark))], text)
    marks = join([*marks, *values, *line_marks(text, start, end, blocks)], text)
    inline = [
        mark for gap in gaps(marks, start, end) for mark in inline_marks(text, gap.start, gap.end)
    ]
    marks = join([*marks, *inline], text) if inline else marks
    listed = list(_listed(text, start, end, options))
    return join([*marks, *listed], text) if listed else marks


def _whole_lines(text: str, mark: Mark) -> bool:
    """Whether nothing but white space and a comma shares the first and last line of a mark."""
    line = text.rfind("\n", max(0, mark.start - _MAX_MARGIN), mark.start) + 1
    if line == 0 and mark.start > _MAX_MARGIN:
        return False
    stop = text.find("\n", mark.end, mark.end + _MAX_MARGIN)
    after = text[mark.end : stop if stop >= 0 else mark.end + _MAX_MARGIN]
    return not text[line : mark.start].strip() and not after.strip(" \t\r,;")


def _listed(text: str, start: int, end: int, options: ParseOptions) -> Iterator[Mark]:
    """What the tenant asked for beyond the laws."""
    for term in options.protect_terms:
        position = text.find(term, start, end) if term else -1
        while position >= 0:
            yield Mark(position, position + len(term), Kind.OPAQUE, pinned=True)
            position = text.find(term, position + len(term), end)
    if options.protect_numbers:
        for number in _NUMBER.finditer(text, start, end):
            yield Mark(number.start(), number.end(), Kind.OPAQUE)
    for pattern in options.protect_patterns:
        yield from _windowed(pattern, text, start, end)


def _windowed(pattern: re.Pattern[str], text: str, start: int, end: int) -> Iterator[Mark]:
    while start < end:
        stop = min(start + _WINDOW, end)
        following = stop if stop == end else stop - _OVERLAP
        for match in pattern.finditer(text, start, stop):
            if match.start() >= following:  # the next window sees it whole
                break
            if match.end() > match.start():
                yield Mark(match.start(), match.end(), Kind.OPAQUE, pinned=True)
        start = following
