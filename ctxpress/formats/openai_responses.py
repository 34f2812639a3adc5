"""``POST /v1/responses``: OpenAI's items.

Every item of ``input`` is a message of its own here. With ``previous_response_id`` or
``conversation`` earlier turns stand elsewhere: their name seeds the conversation's hash.
"""

from __future__ import annotations

from typing import Any

import orjson

from ctxpress.document import Role
from ctxpress.errors import FormatError
from ctxpress.formats.block_builder import BlockBuilder
from ctxpress.stage import Skip

__all__ = ["read_body", "seed_of"]

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
}
_CALLS = frozenset({"function_call", "custom_tool_call", "local_shell_call"})
_OUTPUTS = frozenset({"function_call_output", "custom_tool_call_output", "local_shell_call_output"})
_TEXTS = frozenset({"input_text", "output_text", "text"})
_NO_HEAD = frozenset({"type", "role", "content", "cache_control"})


def seed_of(body: dict[str, Any]) -> bytes:
    """What stands for the turns that are not in the body; empty where all of them are."""
    named = [body.get("previous_response_id"), body.get("conversation")]
    if named == [None, None]:
        return b""
    try:
        return orjson.dumps(named, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise FormatError(f"conversation: {error}", Skip.UNSUPPORTED_SHAPE) from None


def read_body(body: dict[str, Any], builder: BlockBuilder) -> None:
    """Feed instructions and input items to ``builder``.

    :raises FormatError: ``input`` is neither a string nor a list, or is missing without
        ``prompt`` (a template that the provider holds).
    """
    builder.unknown_tools_read = bool(seed_of(body))
    for field in ("prompt", "instructions"):
        value = body.get(field)
        if value is None:
            continue
        builder.begin("system", Role.SYSTEM, -1, head=field)
        if isinstance(value, str) and field == "instructions":
            builder.text(f"/{field}", value)
        else:
            builder.opaque(f"/{field}", value)
        builder.end(f"/{field}")
    given = body.get("input")
    if isinstance(given, str):
        builder.begin("user", Role.USER, 0, head={}, asks=True)
        builder.text("/input", given)
        builder.end("/input")
    elif isinstance(given, list):
        builder.array = "/input"
        for index, item in enumerate(given):
            _read_item(item, index, builder)
    elif given is not None or body.get("prompt") is None:
        raise FormatError("input is neither text nor items", Skip.UNSUPPORTED_SHAPE)


def _read_item(item: Any, index: int, builder: BlockBuilder) -> None:
    pointer = f"/input/{index}"
    kind = item.get("type", "message") if isinstance(item, dict) else None
    role = item.get("role") if isinstance(item, dict) else None
    if kind == "message" and isinstance(role, str) and role in _ROLES:
        speaker = _ROLES[role]
        head = {k: v for k, v in item.items() if k not in _NO_HEAD and v is not None}
        builder.begin(role, speaker, index, head=head, asks=speaker is Role.USER)
        _read_parts(item.get("content"), f"{pointer}/content", builder)
    elif isinstance(kind, str) and kind in _OUTPUTS:
        head = {k: v for k, v in item.items() if k not in ("output", "cache_control")}
        builder.begin(kind, Role.TOOL, index, head=head)
        reads = builder.reads_file(item.get("call_id", item.get("id")))
        _read_parts(item.get("output"), f"{pointer}/output", builder, reads=reads)
    else:
        builder.begin("", Role.ASSISTANT, index)
        builder.opaque(pointer, item)
        if isinstance(kind, str) and kind in _CALLS:
            called = item.get("arguments", item.get("input", item.get("action")))
            name = item.get("name", "shell" if kind == "local_shell_call" else None)
            for key in ("call_id", "id"):
                builder.note_call(item.get(key), name, called)
    carries = isinstance(item, dict) and item.get("cache_control") is not None
    builder.end(pointer, breakpoint=carries)


def _read_parts(value: Any, pointer: str, builder: BlockBuilder, *, reads: bool = False) -> None:
    if isinstance(value, str):
        builder.tool_or_text(pointer, value, None, reads=reads)
    elif isinstance(value, list):
        for i, part in enumerate(value):
            place = f"{pointer}/{i}"
            text = part.get("text") if isinstance(part, dict) else None
            kind = part.get("type") if isinstance(part, dict) else None
            if isinstance(text, str) and isinstance(kind, str) and kind in _TEXTS:
                # Annotations point into the text by offsets: it must stay as it is.
                annotated = bool(part.get("annotations"))
                plain = {**part, "type": "text"}
                builder.tool_or_text(f"{place}/text", text, plain, reads=reads, protected=annotated)
            else:
                builder.opaque(place, part)
    elif value is not None:
        builder.opaque(pointer, value)
