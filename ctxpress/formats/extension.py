"""Our own field of a request body: ``ctxpress: {documents, question, pipeline, …}``.

It is checked, taken out of the bytes, and its documents are printed into the prompt in one
canonical form, so that they reach the model even when every stage fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from ctxpress.document import Range, Role
from ctxpress.errors import FormatError
from ctxpress.formats.block_builder import BlockBuilder
from ctxpress.formats.json_edit import Edit, InsertElement, ReplaceString
from ctxpress.formats.printed_documents import (
    ExtensionDocument,
    PrintedDocuments,
    print_documents,
)

__all__ = [
    "FIELD",
    "MARKER",
    "Extension",
    "Placement",
    "parse_extension",
    "place_documents",
]

FIELD = "ctxpress"
MARKER = "{{ctxpress.documents}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """The ``ctxpress`` field. ``None`` where the caller said nothing."""

    documents: tuple[ExtensionDocument, ...] | None = None
    question: str | None = None
    pipeline: str | None = None
    keep_ratio: float | None = None
    bypass: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """Where documents go.

    ``printed`` are the strings that hold them after the ``edits``, by pointer; ``inserted`` is
    the index of the user message that the edits insert before another.
    """

    edits: tuple[Edit, ...] = ()
    printed: Mapping[str, PrintedDocuments] = field(default_factory=dict)
    inserted: int | None = None


def parse_extension(value: Any) -> Extension:
    """Check the field.

    :raises FormatError: naming what is wrong; without a ``code``, since it is the caller's fault.
    """
    _fields(value, FIELD, ("documents", "question", "pipeline", "keep_ratio", "bypass"))
    documents = value.get("documents")
    if documents is not None:
        if not isinstance(documents, list):
            raise FormatError(f"{FIELD}.documents: a list is needed")
        documents = tuple(_document(item, i) for i, item in enumerate(documents))
    ratio = value.get("keep_ratio")
    if ratio is not None and not (_is_number(ratio) and 0 < ratio <= 1):
        raise FormatError(f"{FIELD}.keep_ratio: a number above 0 and up to 1 is needed")
    bypass = value.get("bypass")
    if not isinstance(bypass, bool | None):
        raise FormatError(f"{FIELD}.bypass: true or false is needed")
    return Extension(
        documents=documents,
        question=_text(value, "question", FIELD),
        pipeline=_text(value, "pipeline", FIELD),
        keep_ratio=None if ratio is None else float(ratio),
        bypass=bool(bypass),
    )


def _document(item: Any, index: int) -> ExtensionDocument:
    place = f"{FIELD}.documents[{index}]"
    _fields(item, place, ("id", "title", "text", "score"))
    text = item.get("text")
    if not isinstance(text, str):
        raise FormatError(f"{place}.text: a string is needed")
    identity = item.get("id")
    if isinstance(identity, int) and not isinstance(identity, bool):
        identity = str(identity)
    if not isinstance(identity, str | None):
        raise FormatError(f"{place}.id: a string or a whole number is needed")
    title = item.get("title")
    if not isinstance(title, str | None):
        raise FormatError(f"{place}.title: a string is needed")
    score = item.get("score")
    if score is not None and not _is_number(score):
        raise FormatError(f"{place}.score: a number is needed")
    return ExtensionDocument(
        text=text,
        id=identity or str(index + 1),
        title=title or None,
        score=None if score is None else float(score),
    )


def _fields(value: Any, place: str, known: Sequence[str]) -> None:
    if not isinstance(value, dict):
        raise FormatError(f"{place}: an object is needed")
    for key in value:
        if key not in known:
            raise FormatError(f"{place}.{key}: no such field; there are {', '.join(known)}")


def _text(value: dict[str, Any], key: str, place: str) -> str | None:
    text = value.get(key)
    if text is None:
        return None
    if not isinstance(text, str) or not text.strip():
        raise FormatError(f"{place}.{key}: a string that is not blank is needed")
    return text


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def place_documents(builder: BlockBuilder, documents: Sequence[ExtensionDocument]) -> Placement:
    """Where ``documents`` go in the body that ``builder`` has read.

    Into the newest marker in a text of the system or the user; else as a user message before the
    user's last one; else, where there are no messages, in front of the text.

    :raises FormatError: the prompt is made of token ids, or there is no prompt.
    """
    printed = print_documents(documents)
    for block in reversed(builder.blocks):
        if block.role not in (Role.SYSTEM, Role.USER):
            continue
        at = block.original.rfind(MARKER)
        if at >= 0:
            end = Range(at + len(MARKER), len(block.original))
            edit: Edit = ReplaceString(block.pointer, (Range(0, at), printed.text, end))
            return Placement((edit,), {block.pointer: printed.moved(at)})
    if not documents:
        return Placement()
    if builder.array is not None:
        index = builder.turn_messages[-1] if builder.turn_messages else builder.n_messages
        pointer = f"{builder.array}/{index}"
        edit = InsertElement(pointer, orjson.dumps({"role": "user", "content": printed.text}))
        inserted = index if builder.turn_messages else None
        return Placement((edit,), {f"{pointer}/content": printed}, inserted)
    texts = [
        block
        for block in builder.blocks
        if block.role is Role.USER and not block.opaque and block.pointer != "/suffix"
    ]
    if not texts:
        raise FormatError("there is no text prompt that they could go to")
    edits = tuple(
        ReplaceString(block.pointer, (f"{printed.text}\n\n", Range(0, len(block.original))))
        for block in texts
    )
    return Placement(edits, {block.pointer: printed for block in texts})
