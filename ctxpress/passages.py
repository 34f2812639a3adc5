"""Documents given by the caller: into a :class:`ContextDocument`, and back into results."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from ctxpress.document import Block, ContextDocument, Kind, Role, Source, Span
from ctxpress.elements import arrangements
from ctxpress.errors import ConfigError
from ctxpress.formats.options import ParseOptions
from ctxpress.formats.segmentation import segment
from ctxpress.pipeline import PipelineResult
from ctxpress.results import CompressedDocument, CompressedDocuments, Document

__all__ = [
    "DocumentLike",
    "compressed_documents",
    "document_of_texts",
    "read_documents",
    "to_context",
]

DocumentLike = str | Document | Mapping[str, Any]

SEPARATOR = "\n\n"

_FIELDS: tuple[tuple[str, tuple[type, ...], str], ...] = (
    ("text", (str,), "a string"),
    ("id", (str, type(None)), "a string"),
    ("title", (str, type(None)), "a string"),
    ("score", (float, int, type(None)), "a number"),
)


def read_documents(given: Sequence[DocumentLike]) -> list[Document]:
    """Strings, ``Document`` objects and mappings as ``Document`` objects.

    :raises ConfigError: one is none of these, or ``given`` no list; the message names the place.
    """
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Sequence):
        raise ConfigError(f"documents: a list of documents is needed, not {type(given).__name__}")
    return [_read(number, one) for number, one in enumerate(given)]


def to_context(
    documents: Sequence[Document],
    *,
    question: str | None,
    model: str | None,
    options: ParseOptions,
) -> ContextDocument:
    """One block a document, in the order given."""
    parts = []
    for document in documents:
        spans = segment(
            document.text, role=Role.USER, kind=Kind.DOCUMENT, options=options, ask=False
        )
        source = Source(id=document.id or "", title=document.title, score=document.score)
        parts.append(
            (document.text, tuple(dataclasses.replace(span, source=source) for span in spans))
        )
    return document_of_texts(parts, question=question, model=model, movable=True)


def document_of_texts(
    parts: Sequence[tuple[str, tuple[Span, ...]]],
    *,
    question: str | None,
    model: str | None,
    movable: bool = False,
) -> ContextDocument:
    """A document of one turn that consists of texts that are already cut into spans.

    ``movable``: each text is a document that may change its place or leave.
    """
    blocks = tuple(
        Block(
            pointer=f"/{number}",
            role=Role.USER,
            turn=0,
            message=0,
            original=text,
            spans=spans,
            element=f"/{number}" if movable else None,
            digest=hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(),
        )
        for number, (text, spans) in enumerate(parts)
    )
    return ContextDocument(blocks=blocks, model=model, questions=(question,))


def compressed_documents(given: Sequence[Document], result: PipelineResult) -> CompressedDocuments:
    """What is left of each document, joined by blank lines in ``text``."""
    blocks = result.document.blocks
    order = [n for found in arrangements(blocks) for n in found.order if blocks[n].text.strip()]
    place = {number: rank for rank, number in enumerate(order)}
    reasons = {fate.pointer: fate.reason for fate in result.report.documents}
    compressed = tuple(
        CompressedDocument(
            id=document.id or str(number),
            title=document.title,
            text=block.text,
            score=document.score,
            kept=block.kept,
            dropped=None if number in place else _why_dropped(document, reasons.get(f"/{number}")),
            place=place.get(number),
        )
        for number, (document, block) in enumerate(zip(given, blocks, strict=True))
    )
    text = SEPARATOR.join(compressed[number].text for number in order)
    return CompressedDocuments(text=text, documents=compressed, report=result.report)


def _why_dropped(document: Document, reason: str | None) -> str:
    if not document.text.strip():
        return "it has no text"
    return reason or "nothing of it was kept"


def _read(number: int, given: DocumentLike) -> Document:
    if isinstance(given, str):
        return Document(text=given)
    if isinstance(given, Document):
        return _checked(number, given)
    fields = {field.name for field in dataclasses.fields(Document)}
    if not isinstance(given, Mapping) or not isinstance(given.get("text"), str):
        raise ConfigError(
            f"documents[{number}]: a string, a Document, or a mapping with text and, at will, "
            "id, title, score"
        )
    unknown = sorted(set(given) - fields)
    if unknown:
        raise ConfigError(f"documents[{number}]: unknown key {unknown[0]!r}")
    return _checked(number, Document(**given))


def _checked(number: int, document: Document) -> Document:
    for name, types, wanted in _FIELDS:
        value = getattr(document, name)
        if isinstance(value, bool) or not isinstance(value, types):
            raise ConfigError(
                f"documents[{number}].{name}: {wanted} is needed, not {type(value).__name__}"
            )
    return document
