"""Why a request's documents went to vLLM as text."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["NotParallelError", "PlainPath"]


class PlainPath(StrEnum):
    """Header ``x-ctxpress-kv-reason``. ``docs/skips.md`` documents every code."""

    NO_DOCUMENTS = "no_documents"
    TOOLS = "tools"
    CONTENT = "content"
    FIELD = "field"
    MODEL = "model"
    PROMPT = "prompt"
    TOO_LONG = "too_long"
    NOT_ENCODED = "not_encoded"
    UNAVAILABLE = "unavailable"
    REFUSED = "refused"
    FAILED = "failed"


class NotParallelError(Exception):
    """This request takes the plain path; never leaves the proxy."""

    def __init__(self, reason: PlainPath, message: str = "") -> None:
        super().__init__(message or reason.value)
        self.reason = reason
