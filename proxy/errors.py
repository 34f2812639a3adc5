"""Refusals and broken streams, said in the words of the provider that the client expects.

The official clients turn these bodies into their own exception types, so a caller sees the same
classes whether the provider or the proxy said no.
"""

from __future__ import annotations

from typing import Any, Literal

import orjson

__all__ = ["ClientGoneError", "RefusedError", "Shape", "error_body", "stream_error"]

Shape = Literal["openai", "anthropic"]

_OPENAI_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    413: "request_too_large",
}
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    503: "overloaded_error",
    504: "timeout_error",
}


class ClientGoneError(Exception):
    """The client closed its connection; there is nobody left to answer."""


class RefusedError(Exception):
    """The proxy itself answers this request with an error; ``code`` is ours and stable."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def body(self, shape: Shape) -> bytes:
        """The JSON body in the provider's shape."""
        return error_body(shape, self.status, self.code, self.message)


def error_body(shape: Shape, status: int, code: str, message: str) -> bytes:
    """An error as OpenAI or Anthropic would have written it."""
    if shape == "anthropic":
        kind = _ANTHROPIC_TYPES.get(status, "api_error")
        return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}})
    kind = _OPENAI_TYPES.get(status, "api_error")
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


def stream_error(format_name: str | None, code: str, message: str) -> bytes:
    """The event with which this provider reports an error in the middle of a stream.

    It never looks like an end that was reached: no ``[DONE]``, no ``message_stop``.
    """
    error: dict[str, Any] = {"type": "api_error", "message": message}
    if format_name == "anthropic_messages":
        return _event("error", {"type": "error", "error": error})
    error |= {"param": None, "code": code}
    if format_name == "openai_responses":
        # The plain members are what the API documents, `error` is what its clients look for.
        event = {"type": "error", "code": code, "message": message, "param": None}
        return _event("error", {**event, "sequence_number": 0, "error": error})
    return b"data: " + orjson.dumps({"error": error}) + b"\n\n"


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"
