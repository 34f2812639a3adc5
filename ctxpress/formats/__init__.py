"""Provider bodies to :class:`~ctxpress.document.ContextDocument` and back, byte for byte.

:func:`parse` reads the body of one of four endpoints, :func:`render` puts compressed texts back
and leaves every other byte as it was. :func:`parse_messages` and :func:`render_messages` do the
same for lists of messages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from ctxpress.document import ContextDocument
from ctxpress.errors import FormatError
from ctxpress.formats import (
    anthropic_messages,
    openai_chat,
    openai_completions,
    openai_responses,
)
from ctxpress.formats.block_builder import BlockBuilder, one_span
from ctxpress.formats.endpoints import format_of_path
from ctxpress.formats.extension import (
    FIELD,
    Extension,
    Placement,
    parse_extension,
    place_documents,
)
from ctxpress.formats.json_edit import DeleteMember, apply_edits
from ctxpress.formats.options import ParseOptions
from ctxpress.formats.printed_documents import ExtensionDocument
from ctxpress.formats.rendering import render_body, render_list
from ctxpress.formats.segmentation import segment
from ctxpress.stage import Skip

__all__ = [
    "Extension",
    "ExtensionDocument",
    "ParseOptions",
    "ParsedMessages",
    "ParsedRequest",
    "format_of_path",
    "parse",
    "parse_messages",
    "render",
    "render_messages",
]

_Reader = Callable[[dict[str, Any], BlockBuilder], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRequest:
    """A request body and what is in it.

    ``body`` is what untouched forwarding sends: the body as it came, less our own ``ctxpress``
    field, with that field's documents filled in.
    """

    format: str
    body: bytes
    document: ContextDocument
    extension: Extension | None
    stream: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedMessages:
    """A caller's list of messages, which is never changed, and what is in it."""

    messages: list[dict[str, Any]]
    document: ContextDocument


def parse(format: str, raw: bytes, options: ParseOptions) -> ParsedRequest:
    """Read a request body. ``format`` is a value of :func:`format_of_path`.

    :raises FormatError: with a ``code``, the body is not JSON or not of the endpoint's shape and
        is to be forwarded as it came (as ``error.body``, where our own field was taken out);
        without one, the ``ctxpress`` field is wrong, which the caller is to be told.
    """
    read = _reader(format)
    body = _load(raw)
    ours = FIELD in body
    extension: Extension | None = None
    placed = Placement()
    if ours:
        field = body.pop(FIELD)
        extension = None if field is None else parse_extension(field)
        raw = apply_edits(raw, [DeleteMember(f"/{FIELD}")])
    try:
        if extension is not None and extension.documents is not None:
            raw, body, placed = _fill(raw, body, read, extension.documents)
        builder = BlockBuilder(
            options, segment, documents_message=placed.inserted, printed=placed.printed
        )
        read(body, builder)
        seed = openai_responses.seed_of(body) if format == "openai_responses" else b""
    except FormatError as error:
        # Whatever else is wrong with the body, our own field does not go upstream.
        error.body = raw if ours else None
        raise
    document = builder.document(
        model=body.get("model"), seed=seed, question=extension.question if extension else None
    )
    return ParsedRequest(
        format=format,
        body=raw,
        document=document,
        extension=extension,
        stream=body.get("stream") is True,
    )


def render(parsed: ParsedRequest, document: ContextDocument) -> bytes:
    """The body to send: ``parsed.body`` with the texts of ``document``.

    Only strings whose text has changed are edited; where none has, it is ``parsed.body`` itself.
    A text that became blank goes as it was.

    :raises FormatError: an object on the way to a changed text has a key twice: readers may
        differ about its meaning, so the body is to be forwarded as it is.
    """
    return render_body(parsed.body, parsed.document, document)


def parse_messages(
    messages: list[dict[str, Any]], model: str | None, options: ParseOptions
) -> ParsedMessages:
    """Read a list of messages in OpenAI's or Anthropic's shape, whichever its parts are of.

    :raises FormatError: ``messages`` is not a list, or holds what JSON cannot.
    """
    if not isinstance(messages, list):
        raise FormatError("messages is not a list", Skip.UNSUPPORTED_SHAPE)
    builder = BlockBuilder(options, segment)
    if anthropic_messages.is_anthropic(messages):
        anthropic_messages.read_messages(messages, builder)
    else:
        openai_chat.read_messages(messages, builder)
    return ParsedMessages(messages=messages, document=builder.document(model=model))


def render_messages(parsed: ParsedMessages, document: ContextDocument) -> list[dict[str, Any]]:
    """A new list, of the same length, with the texts of ``document``; the input stays as it is."""
    return render_list(parsed.messages, parsed.document, document)


def _reader(format: str) -> _Reader:
    readers: dict[str, _Reader] = {
        "openai_chat": openai_chat.read_body,
        "openai_responses": openai_responses.read_body,
        "openai_completions": openai_completions.read_body,
        "anthropic_messages": anthropic_messages.read_body,
    }
    if format not in readers:
        raise FormatError(f"no format is called {format!r}", Skip.UNSUPPORTED_SHAPE)
    return readers[format]


def _load(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise FormatError(f"not JSON: {error}", Skip.UNPARSEABLE) from None
    if not isinstance(body, dict):
        raise FormatError("the body is not an object", Skip.UNSUPPORTED_SHAPE)
    return body


def _fill(
    raw: bytes, body: dict[str, Any], read: _Reader, documents: tuple[ExtensionDocument, ...]
) -> tuple[bytes, dict[str, Any], Placement]:
    """The body with the documents in it; failing is the caller's fault: they would be lost."""
    structure = BlockBuilder(ParseOptions(), one_span)
    try:
        read(body, structure)
        placement = place_documents(structure, documents)
        raw = apply_edits(raw, placement.edits)
    except FormatError as error:
        raise FormatError(f"{FIELD}.documents: {error}") from None
    return raw, _load(raw), placement
