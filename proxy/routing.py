"""What a request wants to be near to: the votes that choose between equal backends."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from ctxpress.formats.references import References

__all__ = ["votes"]

_PREFIX_BYTES = 1024
_OPENING_BYTES = 16 * 1024
_BEFORE_MESSAGES = ("model", "instructions", "system", "tools")


def votes(raw: bytes, references: References | None, *, by_opening: bool) -> list[tuple[str, int]]:
    """Keys and weights for ``Replicas.order``: its documents, else how the request begins.

    ``by_opening``: go by how its conversation begins instead of by the bytes of its body.
    """
    if references is not None:
        return [(document.sha256, document.n_characters) for document in references.documents]
    start = raw[:_PREFIX_BYTES]
    if by_opening:
        start = _opening(raw) or start
    return [(hashlib.sha256(start).hexdigest(), 1)]


def _opening(raw: bytes) -> bytes | None:
    """The beginning of a conversation that all its turns share; None where there is none.

    It reaches to the end of the first user message: so all turns of a conversation go to one
    backend, and conversations that share a system prompt do not all go to the same.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(body, dict):
        return None
    opening = bytearray()
    for piece in _pieces(body):
        opening += orjson.dumps(piece)
        if len(opening) >= _OPENING_BYTES:
            break
    return bytes(opening[:_OPENING_BYTES])


def _pieces(body: Mapping[str, Any]) -> Iterator[Any]:
    for name in _BEFORE_MESSAGES:
        if name in body:
            yield body[name]
    messages = body.get("messages", body.get("input"))
    if not isinstance(messages, list):
        yield _start(body.get("prompt") if messages is None else messages)
        return
    for message in messages:
        yield message
        if isinstance(message, dict) and message.get("role") == "user":
            return


def _start(prompt: Any) -> Any:
    """How a prompt without turns begins: texts and token ids may be long, and may grow."""
    if isinstance(prompt, list):
        return _start(prompt[0]) if prompt and isinstance(prompt[0], str | list) else prompt[:256]
    return prompt[:_PREFIX_BYTES] if isinstance(prompt, str) else prompt
