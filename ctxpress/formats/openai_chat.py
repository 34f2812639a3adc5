"""``POST /v1/chat/completions``: OpenAI's chat messages."""

from __future__ import annotations

from typing import Any

from ctxpress.document import Role
from ctxpress.errors import FormatError
from ctxpress.formats.block_builder import BlockBuilder, known_messages
from ctxpress.stage import Skip

__all__ = ["ROLES", "read_body", "read_messages"]

ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}

_NO_HEAD = frozenset({"role", "content", "tool_calls", "cache_control"})


def read_body(body: dict[str, Any], builder: BlockBuilder) -> None:
    """Feed the messages of a chat body to ``builder``.

    :raises FormatError: ``messages`` is not a list.
    """
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise FormatError("messages is not a list", Skip.UNSUPPORTED_SHAPE)
    builder.array = "/messages"
    read_messages(messages, builder)


def read_messages(messages: list[Any], builder: BlockBuilder) -> None:
    """Feed chat messages to ``builder``; what is not one is opaque."""
    for index, pointer, message, speaker in known_messages(messages, ROLES, builder):
        # A field that is null is a field that is absent: SDKs write either.
        head = {k: v for k, v in message.items() if k not in _NO_HEAD and v is not None}
        builder.begin(message["role"], speaker, index, head=head, asks=speaker is Role.USER)
        protected = speaker is Role.TOOL and builder.reads_file(
            message.get("tool_call_id"), message.get("name")
        )
        _read_content(message.get("content"), pointer, builder, protected=protected)
        _read_calls(message, pointer, builder)
        builder.end(pointer, breakpoint=message.get("cache_control") is not None)


def _read_content(content: Any, pointer: str, builder: BlockBuilder, *, protected: bool) -> None:
    if isinstance(content, str):
        builder.tool_or_text(f"{pointer}/content", content, None, reads=protected)
    elif isinstance(content, list):
        for i, part in enumerate(content):
            place = f"{pointer}/content/{i}"
            text = part.get("text") if isinstance(part, dict) else None
            if isinstance(text, str) and part.get("type") == "text":
                builder.tool_or_text(f"{place}/text", text, part, reads=protected)
            else:
                builder.opaque(place, part)
    elif content is not None:
        builder.opaque(f"{pointer}/content", content)


def _read_calls(message: dict[str, Any], pointer: str, builder: BlockBuilder) -> None:
    calls = message.get("tool_calls")
    if calls is None:
        return
    builder.opaque(f"{pointer}/tool_calls", calls)
    for call in calls if isinstance(calls, list) else ():
        if not isinstance(call, dict):
            continue
        # `function` for JSON arguments, `custom` for free text.
        called = call.get("function") or call.get("custom")
        if isinstance(called, dict):
            arguments = called.get("arguments", called.get("input"))
            builder.note_call(call.get("id"), called.get("name"), arguments)
