"""A document found in a text."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RecognisedDocument", "trimmed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognisedDocument:
    """One document and where it is, in characters of the text it was found in.

    ``[start, end)`` is the document's own text, without white space around it;
    ``[outer_start, outer_end)`` is that with the markup that makes it a document (tags, numbers,
    titles). Outer ranges do not overlap. ``ordered`` documents are perhaps parts of one: they may
    leave, but not change places.
    """

    id: str
    title: str | None
    start: int
    end: int
    outer_start: int
    outer_end: int
    ordered: bool = False


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """``[start, end)`` without white space at its ends."""
    body = text[start:end]
    stripped = body.strip()
    if not stripped:
        return start, start
    start += len(body) - len(body.lstrip())
    return start, start + len(stripped)
