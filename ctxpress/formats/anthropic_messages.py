"""``POST /v1/messages``: Anthropic's messages, with documents and tool results as parts."""

from __future__ import annotations

from typing import Any

from ctxpress.document import Kind, Role, Source
from ctxpress.errors import FormatError
from ctxpress.formats.block_builder import BlockBuilder, known_messages
from ctxpress.stage import Skip

__all__ = ["is_anthropic", "read_body", "read_messages"]

_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM}
_NO_HEAD = frozenset({"role", "content", "cache_control"})
_OWN_PARTS = frozenset(
    {"tool_use", "tool_result", "thinking", "redacted_thinking", "document", "search_result"}
    | {"server_tool_use", "web_search_tool_result", "image"}
)


def read_body(body: dict[str, Any], builder: BlockBuilder) -> None:
    """Feed the system prompt and the messages to ``builder``.

    :raises FormatError: ``messages`` is not a list.
    """
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise FormatError("messages is not a list", Skip.UNSUPPORTED_SHAPE)
    system = body.get("system")
    if system is not None:
        builder.begin("system", Role.SYSTEM, -1, head={})
        _read_content(system, "/system", builder)
        builder.end("/system")
    builder.array = "/messages"
    read_messages(messages, builder)
    if body.get("cache_control") is not None:
        builder.mark_last()


def read_messages(messages: list[Any], builder: BlockBuilder) -> None:
    """Feed Anthropic messages to ``builder``; what is not one is opaque."""
    for index, pointer, message, speaker in known_messages(messages, _ROLES, builder):
        content = message.get("content")
        asks = speaker is Role.USER and not _has_tool_result(content)
        head = {k: v for k, v in message.items() if k not in _NO_HEAD and v is not None}
        builder.begin(message["role"], speaker, index, head=head, asks=asks)
        _read_content(content, f"{pointer}/content", builder)
        builder.end(pointer, breakpoint=message.get("cache_control") is not None)


def is_anthropic(messages: list[Any]) -> bool:
    """Whether a list of messages has parts that only this API knows."""
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            kind = part.get("type") if isinstance(part, dict) else None
            if isinstance(kind, str) and kind in _OWN_PARTS:
                return True
    return False


def _has_tool_result(content: Any) -> bool:
    return isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") == "tool_result" for part in content
    )


def _read_content(content: Any, pointer: str, builder: BlockBuilder) -> None:
    if isinstance(content, str):
        builder.text(pointer, content)
    elif isinstance(content, list):
        row = 0
        for i, part in enumerate(content):
            _read_part(part, f"{pointer}/{i}", builder, row)
            row += not _is_movable(part)
    elif content is not None:
        builder.opaque(pointer, content)


def _read_part(part: Any, pointer: str, builder: BlockBuilder, row: int) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        # Citations of an earlier answer quote by position: that text must stay as it is.
        builder.text(f"{pointer}/text", part["text"], part, protected=bool(part.get("citations")))
    elif kind == "tool_result":
        _read_tool_result(part, pointer, builder)
    elif kind in ("document", "search_result"):
        _read_document(part, pointer, builder, row)
    else:
        builder.opaque(pointer, part)
        if kind == "tool_use":
            builder.note_call(part.get("id"), part.get("name"), part.get("input"))


def _read_tool_result(part: dict[str, Any], pointer: str, builder: BlockBuilder) -> None:
    builder.enter({k: v for k, v in part.items() if k != "content"})
    reads = builder.reads_file(part.get("tool_use_id"))
    content = part.get("content")
    place = f"{pointer}/content"
    if isinstance(content, str):
        builder.tool_or_text(place, content, None, reads=reads, role=Role.TOOL)
    elif isinstance(content, list):
        row = 0
        for i, inner in enumerate(content):
            inside = f"{place}/{i}"
            kind = inner.get("type") if isinstance(inner, dict) else None
            if kind == "text" and isinstance(inner.get("text"), str):
                builder.tool_or_text(
                    f"{inside}/text", inner["text"], inner, reads=reads, role=Role.TOOL
                )
            elif kind in ("document", "search_result"):
                _read_document(inner, inside, builder, row, role=Role.TOOL, protected=reads)
            else:
                builder.opaque(inside, inner, Role.TOOL)
            row += not _is_movable(inner)
    elif content is not None:
        builder.opaque(place, content, Role.TOOL)
    builder.leave(pointer, breakpoint=part.get("cache_control") is not None)


def _read_document(
    part: dict[str, Any],
    pointer: str,
    builder: BlockBuilder,
    row: int,
    *,
    role: Role | None = None,
    protected: bool = False,
) -> None:
    """The texts of a document or a search result; a PDF, an image or a file is opaque.

    Documents between which something else stands are in different rows.
    """
    movable = pointer if _is_movable(part) else None
    protected = protected or _is_cited(part)
    if part["type"] == "search_result":
        identity, place = part.get("source"), f"{pointer}/content"
        holder: Any = part
    else:
        identity, place = None, f"{pointer}/source/content"
        holder = part.get("source")
    source = builder.next_document(part.get("title"), identity, row)
    if not isinstance(holder, dict):
        builder.opaque(pointer, part, role)
        return
    if holder is not part and holder.get("type") == "text" and isinstance(holder.get("data"), str):
        builder.text(
            f"{pointer}/source/data",
            holder["data"],
            part,
            kind=Kind.DOCUMENT,
            role=role,
            protected=protected,
            source=source,
            movable=movable,
        )
        return
    content = holder.get("content")
    if (holder is not part and holder.get("type") != "content") or not content:
        builder.opaque(pointer, part, role)
        return
    head = {k: v for k, v in part.items() if k not in ("content", "source")}
    if holder is part:
        head["source"] = identity
    else:
        head["source"] = {k: v for k, v in holder.items() if k != "content"}
    builder.enter(head)
    _read_document_content(
        content, place, builder, source, role=role, protected=protected, movable=movable
    )
    builder.leave(pointer, breakpoint=part.get("cache_control") is not None)


def _read_document_content(
    content: Any,
    pointer: str,
    builder: BlockBuilder,
    source: Source,
    *,
    role: Role | None,
    protected: bool,
    movable: str | None,
) -> None:
    pairs: list[tuple[str, Any, Any]]
    if isinstance(content, list):
        pairs = [
            (f"{pointer}/{i}", part, part.get("text") if isinstance(part, dict) else None)
            for i, part in enumerate(content)
        ]
    else:
        pairs = [(pointer, None if isinstance(content, str) else content, content)]
    for place, part, text in pairs:
        if not isinstance(text, str) or (part is not None and part.get("type") != "text"):
            builder.opaque(place, part, role)
            continue
        builder.text(
            place if part is None else f"{place}/text",
            text,
            part,
            kind=Kind.DOCUMENT,
            role=role,
            protected=protected,
            source=source,
            movable=movable,
        )


def _is_cited(part: dict[str, Any]) -> bool:
    citations = part.get("citations")
    return isinstance(citations, dict) and bool(citations.get("enabled"))


def _is_movable(part: Any) -> bool:
    """Whether an element is a document of text only, which no answer quotes by its position.

    Nothing here may come and go between the turns of a conversation: a document that has moved
    must do so again. Who decides about a new one also heeds its cache breakpoint.
    """
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in ("document", "search_result") or _is_cited(part):
        return False
    holder = part if kind == "search_result" else part.get("source")
    if not isinstance(holder, dict):
        return False
    if kind == "document" and holder.get("type") == "text":
        return isinstance(holder.get("data"), str)
    if kind == "document" and holder.get("type") != "content":
        return False
    content = holder.get("content")
    if not isinstance(content, list):
        return isinstance(content, str)
    return bool(content) and all(
        isinstance(inner, dict)
        and inner.get("type") == "text"
        and isinstance(inner.get("text"), str)
        for inner in content
    )
