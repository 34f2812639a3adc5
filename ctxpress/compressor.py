"""A request body in, a shorter one out: formats, pipeline and report put together.

The proxy, ``POST /v1/compress`` and the SDK all go through :class:`RequestCompressor`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ctxpress.report import Report

__all__ = ["CompressedBody", "RequestCompressor", "RequestPolicy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPolicy:
    """What to do with one request. ``namespace`` keys every store entry (law 7)."""

    namespace: object
    pipeline: str | None
    mode: Literal["off", "observe", "on"] = "on"
    keep_ratio: float | None = None
    bypass: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedBody:
    """What to forward, and the report about it."""

    body: bytes
    report: Report


class RequestCompressor:
    """Holds the pipelines of one configuration; safe for concurrent requests.

    Built by ``create_compressor(config)``; ``aclose`` ends its threads and its store.
    """

    async def compress_body(
        self, format_name: str, raw: bytes, policy: RequestPolicy
    ) -> CompressedBody:
        """Compress one request body.

        Never raises for anything in the body or for a failure of a stage, model or store: the
        body then comes back as it was (less our own ``ctxpress`` field) and the report says why.

        :raises FormatError: the ``ctxpress`` field itself is invalid (the caller's mistake).
        :raises StageError: a stage failed and the pipeline is ``strict``.
        :raises ConfigError: ``policy.pipeline`` names nothing.
        """
        raise NotImplementedError

    async def aclose(self) -> None:
        """Release threads, models and the store."""
        raise NotImplementedError
