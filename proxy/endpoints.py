"""The proxy's own small endpoints: is it alive, is it ready, what has it counted."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from .metrics import CONTENT_TYPE
from .runtime import Runtime
from .types import RawHeaders, Send

__all__ = ["answer", "livez", "metrics", "readyz"]

PING_TIMEOUT_S = 2.0


async def livez(send: Send) -> None:
    """200 while the event loop turns."""
    await answer(send, 200, {"status": "alive"})


async def readyz(runtime: Runtime, send: Send) -> None:
    """200 when requests are welcome; else 503 and every reason why not."""
    reasons: list[str] = []
    if runtime.draining:
        reasons.append("draining: the proxy is shutting down")
    try:
        await asyncio.wait_for(runtime.compressor.ping(), PING_TIMEOUT_S)
    except TimeoutError:
        reasons.append(f"store: no answer within {PING_TIMEOUT_S:g} s")
    except Exception as error:  # whatever a store's client raises, it is not ready
        reasons.append(f"store: {type(error).__name__}: {error}")
    status = "not ready" if reasons else "ready"
    await answer(send, 503 if reasons else 200, {"status": status, "reasons": reasons})


async def metrics(runtime: Runtime, send: Send) -> None:
    """What Prometheus scrapes."""
    await _send(send, 200, CONTENT_TYPE.encode(), runtime.metrics.render(), [])


async def answer(send: Send, status: int, value: Any, headers: RawHeaders | None = None) -> None:
    """Send a JSON answer."""
    await _send(send, status, b"application/json", orjson.dumps(value), headers or [])


async def _send(
    send: Send, status: int, content_type: bytes, body: bytes, headers: RawHeaders
) -> None:
    head = [
        (b"content-type", content_type),
        (b"content-length", str(len(body)).encode()),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body, "more_body": False})
