"""What the SDK returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ctxpress.document import Range
from ctxpress.report import Report
from ctxpress.stage import StageReport

__all__ = [
    "Citation",
    "CompressedDocument",
    "CompressedDocuments",
    "CompressedMessageList",
    "CompressedText",
    "Document",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document to compress. ``score`` is the retriever's, where there is one."""

    text: str
    id: str | None = None
    title: str | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A kept piece: the characters ``[start, end)`` of a document's own text."""

    document_id: str
    title: str | None
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reported:
    """What every result knows about itself."""

    report: Report

    @property
    def tokens_before(self) -> int:
        """Tokens of the whole input."""
        return self.report.tokens_before

    @property
    def tokens_after(self) -> int:
        """Tokens of the whole output."""
        return self.report.tokens_after

    @property
    def estimated(self) -> bool:
        """Whether token counts are calibrated estimates."""
        return self.report.estimated

    @property
    def reports(self) -> tuple[StageReport, ...]:
        """One report a stage."""
        return self.report.stages


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedText(_Reported):
    """A compressed text and the ranges of the original that it is made of, in order."""

    text: str
    kept: tuple[Range, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedMessageList(_Reported):
    """Messages in the shape they came in: same length, same roles, same order."""

    messages: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedDocument:
    """One document given: what is left of it, or why it was dropped.

    ``place`` is its place in the new order, from 0; ``None`` for a dropped one.
    """

    id: str
    title: str | None
    text: str
    score: float | None
    kept: tuple[Range, ...]
    dropped: str | None = None
    place: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedDocuments(_Reported):
    """One entry per document given, in the order given.

    ``text`` joins what is left, in the order to which the stages brought it.
    """

    text: str
    documents: tuple[CompressedDocument, ...]

    @property
    def citations(self) -> tuple[Citation, ...]:
        """Every kept piece with its document and its offsets there."""
        return tuple(
            Citation(document_id=d.id, title=d.title, start=start, end=end)
            for d in self.documents
            for start, end in d.kept
        )
