"""WebSockets (the Realtime API) go through untouched, both ways."""

from __future__ import annotations

import asyncio
import logging

import aiohttp

from ctxpress.stage import Skip

from .errors import RefusedError
from .headers import read_head
from .runtime import Runtime
from .tenants import DEFAULT_TENANT, upstream_credentials
from .types import Message, Receive, Scope, Send

__all__ = ["proxy_websocket"]

access = logging.getLogger("ctxpress_proxy.access")

LABEL = "websocket"
NORMAL_CLOSURE = 1000
INTERNAL_ERROR = 1011
_UNSENDABLE = frozenset({1005, 1006, 1015})  # codes that only a local side may report
_HANDSHAKE = "sec-websocket-"


async def proxy_websocket(runtime: Runtime, scope: Scope, receive: Receive, send: Send) -> None:
    """Connect to the upstream first, so that its refusal is the client's refusal."""
    await receive()  # websocket.connect
    tenant = DEFAULT_TENANT
    status = 101
    runtime.websockets += 1
    try:
        head = read_head(scope["headers"])
        who = runtime.tenants.identify(head)
        tenant = who.name
        upstream = runtime.pool.upstreams[who.target.upstream]
        headers = [pair for pair in head.forwarded if not pair[0].startswith(_HANDSHAKE)]
        headers += upstream_credentials(
            head,
            passthrough=runtime.tenants.passthrough,
            kind=upstream.kind,
            credential=upstream.credential,
        )
        connection = await runtime.pool.session.ws_connect(
            runtime.pool.url(upstream.replicas.bases[0], scope["raw_path"], scope["query_string"]),
            headers=headers,
            protocols=scope.get("subprotocols", ()),
            max_msg_size=0,
            proxy=upstream.proxy,
        )
    except RefusedError as refusal:
        status = refusal.status
        await _deny(scope, send, status, refusal.body("openai"))
    except aiohttp.WSServerHandshakeError as error:
        status = error.status
        refused = RefusedError(status, "upstream_refused", "the upstream refused the WebSocket")
        await _deny(scope, send, status, refused.body("openai"))
    except (aiohttp.ClientError, OSError, TimeoutError):
        status = 502
        runtime.metrics.upstream_failures[upstream.name, "unreachable"] += 1
        message = f"upstream {upstream.name!r} cannot be reached"
        refused = RefusedError(502, "upstream_unreachable", message)
        await _deny(scope, send, 502, refused.body("openai"))
    else:
        async with connection:
            await send({"type": "websocket.accept", "subprotocol": connection.protocol})
            await _pump(connection, receive, send)
    finally:
        runtime.websockets -= 1
        runtime.metrics.requests[tenant, LABEL, f"{status // 100}xx"] += 1
        runtime.metrics.skips[tenant, Skip.UNSUPPORTED_TRANSPORT.value] += 1
        access.info(
            "request tenant=%s endpoint=%s status=%d skipped=%s",
            tenant,
            LABEL,
            status,
            Skip.UNSUPPORTED_TRANSPORT.value,
        )


async def _pump(connection: aiohttp.ClientWebSocketResponse, receive: Receive, send: Send) -> None:
    """Carry messages both ways until one side closes; then close the other with its code."""
    up = asyncio.create_task(_client_to_upstream(connection, receive))
    down = asyncio.create_task(_upstream_to_client(connection, send))
    done, pending = await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()


async def _client_to_upstream(
    connection: aiohttp.ClientWebSocketResponse, receive: Receive
) -> None:
    while True:
        message: Message = await receive()
        if message["type"] == "websocket.disconnect":
            await connection.close(code=_sendable(message.get("code")))
            return
        text = message.get("text")
        try:
            if text is not None:
                await connection.send_str(text)
            else:
                await connection.send_bytes(message["bytes"])
        except (ConnectionError, aiohttp.ClientError):
            return  # the other direction says why


async def _upstream_to_client(connection: aiohttp.ClientWebSocketResponse, send: Send) -> None:
    async for message in connection:
        if message.type is aiohttp.WSMsgType.TEXT:
            await send({"type": "websocket.send", "text": message.data})
        elif message.type is aiohttp.WSMsgType.BINARY:
            await send({"type": "websocket.send", "bytes": message.data})
    code = connection.close_code
    broken = code in _UNSENDABLE or connection.exception() is not None
    await send({"type": "websocket.close", "code": INTERNAL_ERROR if broken else _sendable(code)})


def _sendable(code: int | None) -> int:
    return NORMAL_CLOSURE if code is None or code in _UNSENDABLE else code


async def _deny(scope: Scope, send: Send, status: int, body: bytes) -> None:
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": INTERNAL_ERROR})
        return
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
