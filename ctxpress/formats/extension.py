"""Our own field of a request body: ``ctxpress: {documents, question, pipeline, …}``.

It is checked, taken out of the bytes, and its documents are printed into the prompt in one
canonical form, so that they reach the model even when every stage fails.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ctxpress.document import Block, ContextDocument, Range, Role, Span
from ctxpress.errors import FormatError
from ctxpress.formats.block_builder import BlockBuilder
from ctxpress.formats.json_edit import Edit, InsertElement, ReplaceString

__all__ = [
    "FIELD",
    "MARKER",
    "Extension",
    "ExtensionDocument",
    "Placement",
    "parse_extension",
    "place_documents",
    "print_documents",
    "with_scores",
]

FIELD = "ctxpress"
MARKER = "{{ctxpress.documents}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionDocument:
    """A document that the caller passed beside the messages. ``score``: higher is better."""

    text: str
    id: str
    title: str | None = None
    score: float | None = None


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
    """Where documents go: the edits, and the index of the user message that they insert."""

    edits: tuple[Edit, ...]
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


_TAG = re.compile(r"<(?=\s*/?\s*documents?\b)", re.IGNORECASE)


def print_documents(documents: Sequence[ExtensionDocument]) -> str:
    """The canonical form of documents, which the recogniser reads back.

    A document's own ``<document`` and ``</document`` lose their ``<`` to ``‹``: the text keeps
    its length, so character offsets in it stay true.
    """
    lines = ["<documents>"]
    for document in documents:
        title = "" if document.title is None else f' title="{_attribute(document.title)}"'
        lines.append(f'<document id="{_attribute(document.id)}"{title}>')
        lines.append(_TAG.sub("‹", document.text))
        lines.append("</document>")
    lines.append("</documents>")
    return "\n".join(lines)


def _attribute(text: str) -> str:
    for character, name in (("&", "amp"), ('"', "quot"), ("<", "lt"), (">", "gt"), ("\n", "#10")):
        text = text.replace(character, f"&{name};")
    return text


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
            pieces = (Range(0, at), printed, end)
            return Placement((ReplaceString(block.pointer, pieces),))
    if not documents:
        return Placement(())
    if builder.array is not None:
        index = builder.turn_messages[-1] if builder.turn_messages else builder.n_messages
        message = orjson.dumps({"role": "user", "content": printed})
        joined = index if builder.turn_messages else None
        return Placement((InsertElement(f"{builder.array}/{index}", message),), joined)
    edits = tuple(
        ReplaceString(block.pointer, (f"{printed}\n\n", Range(0, len(block.original))))
        for block in builder.blocks
        if block.role is Role.USER and not block.opaque and block.pointer != "/suffix"
    )
    if not edits:
        raise FormatError("there is no text prompt that they could go to")
    return Placement(edits)


def with_scores(
    document: ContextDocument, pointers: frozenset[str], documents: Sequence[ExtensionDocument]
) -> ContextDocument:
    """``document`` with the callers' scores at the sources that were printed at ``pointers``.

    Scores are not printed: they are for stages, not for the model. Equal ids are told apart by
    their order.
    """
    if all(given.score is None for given in documents):
        return document
    blocks = tuple(
        _score_block(block, documents) if block.pointer in pointers else block
        for block in document.blocks
    )
    return document.with_blocks(blocks)


def _score_block(block: Block, documents: Sequence[ExtensionDocument]) -> Block:
    waiting = list(documents)
    scores: dict[int, float | None] = {}
    spans: list[Span] = []
    for span in block.spans:
        source = span.source
        if source is not None:
            if source.start not in scores:
                at = next((i for i, d in enumerate(waiting) if d.id == source.id), None)
                scores[source.start] = None if at is None else waiting[at].score
                del waiting[: 0 if at is None else at + 1]
            score = scores[source.start]
            span = dataclasses.replace(span, source=dataclasses.replace(source, score=score))
        spans.append(span)
    return block.with_spans(tuple(spans))
