"""JSON objects and arrays inside a text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from ctxpress.document import Kind
from ctxpress.formats.marks import Mark

__all__ = ["json_values"]

# What may follow an opening bracket in JSON. `[1]` and `[12, 13]` are far more often citations
# than data, so an array of numbers must be longer than that.
_OPENING = re.compile(
    r"""\{\s{0,200}"(?P<key>[^"\\\n]{0,200}"\s{0,20}:)?
      | \[\s{0,200}(?:[\[{]|"|(?:-?\d[\d.eE+-]{0,30}|true|false|null)\s{0,20}(?:,\s{0,200}[-\dtfn]
        [\w.+-]{0,30}\s{0,20}){3})""",
    re.VERBOSE,
)
# A string that is never closed counts as one that reaches to the end.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_CLOSED_BY = {"{": "}", "[": "]"}

# Characters that may be scanned in vain per character of text, and a floor for short texts.
# Text that uses this up (brackets by the thousand that never close) is left to the line shapes.
_VAIN_SCANS = 4
_VAIN_FLOOR = 65_536
# Deeper nesting than this is not parsed: the parser of the standard library is recursive.
_MAX_DEPTH = 200


def json_values(text: str, start: int, end: int) -> Iterator[Mark]:
    """The JSON objects and arrays of ``text[start:end]`` that really parse, outermost first.

    An object that begins as JSON does (``{"key":``) but does not parse, being cut off or sloppy,
    is marked as code: to its closing bracket, or to the end of its line where none closes it.
    The work is linear in ``end - start`` whatever the text.
    """
    whole = _whole(text, start, end)
    if whole is not None:
        yield whole
        return
    budget = _VAIN_SCANS * (end - start) + _VAIN_FLOOR
    position = start
    while budget > 0 and (found := _OPENING.search(text, position, end)):
        opening = found.start()
        closing = _closing(text, opening, end)
        if closing is not None and _parses(text[opening:closing]):
            yield Mark(opening, closing, Kind.JSON)
            position = closing
            continue
        budget -= (closing or end) - opening
        position = opening + 1
        if found["key"]:
            if closing is None:
                newline = text.find("\n", opening, end)
                closing = end if newline < 0 else newline
            yield Mark(opening, closing, Kind.CODE)
            position = closing


def _whole(text: str, start: int, end: int) -> Mark | None:
    """The mark over all of ``text[start:end]`` where that is one JSON object or array."""
    body = text[start:end].strip()
    if len(body) > 2 and body[-1] == _CLOSED_BY.get(body[0]) and not body[1:-1].isdecimal():
        if _OPENING.match(body) and _parses(body):
            return Mark(start, end, Kind.JSON)
    return None


def _closing(text: str, opening: int, end: int) -> int | None:
    """Where the value that opens at ``opening`` ends, or ``None`` where it does not."""
    expected: list[str] = []
    for token in _TOKEN.finditer(text, opening, end):
        bracket = token[0]
        if bracket[0] == '"':
            continue
        if bracket in _CLOSED_BY:
            if len(expected) == _MAX_DEPTH:
                return None
            expected.append(_CLOSED_BY[bracket])
        elif bracket != expected.pop():
            return None
        elif not expected:
            return token.end()
    return None


def _parses(text: str) -> bool:
    try:
        json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return False
    return True
