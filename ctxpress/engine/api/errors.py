"""Errors in OpenAI's shape, each with its status."""

from __future__ import annotations

import orjson

from ctxpress.errors import (
    CodecError,
    ConfigError,
    ContextLengthError,
    CtxpressError,
    EngineBusyError,
    EngineClosedError,
)

__all__ = ["ApiError", "api_error_of"]

_RETRY_AFTER_S = 1


class ApiError(CtxpressError):
    """A request that is answered with an error.

    ``param`` is the field at fault, as a path; ``code`` a word for programs, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param
        self.code = code

    @property
    def body(self) -> bytes:
        """The answer's body."""
        return orjson.dumps(
            {
                "error": {
                    "message": str(self),
                    "type": self.kind,
                    "param": self.param,
                    "code": self.code,
                }
            }
        )

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers beside the content type."""
        if self.status in (429, 503):
            return [(b"retry-after", str(_RETRY_AFTER_S).encode())]
        return []


def api_error_of(error: BaseException) -> ApiError:
    """What a client is told of ``error``; faults of ours are named by their type only."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ContextLengthError):
        return ApiError(str(error), code="context_length_exceeded", param="messages")
    if isinstance(error, EngineBusyError):
        return ApiError(str(error), status=429, kind="rate_limit_error", code="worker_busy")
    if isinstance(error, EngineClosedError):
        return ApiError(str(error), status=503, kind="server_error", code="worker_closing")
    if isinstance(error, CodecError | ConfigError):
        return ApiError(str(error))
    return ApiError(
        f"the worker failed on this request ({type(error).__name__})",
        status=500,
        kind="server_error",
    )
