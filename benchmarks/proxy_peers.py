"""What the proxy is measured beside: a mock API, a bare forwarder, LiteLLM; each in a process."""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
from pathlib import Path
from typing import Any

import uvloop

STREAM_EVENTS = 50
ANSWER = (
    b'{"id":"c1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
    b'"finish_reason":"stop","message":{"role":"assistant","content":"' + b"word " * 60 + b'"}}]}'
)
EVENT = (
    b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":"word "}}]}\n\n'
)


class MockUpstream(asyncio.Protocol):
    """Answers at once; as little work as possible, so that the proxies are what is measured."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            body = self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            if b'"stream":true' in body:
                asyncio.ensure_future(self.stream())
            else:
                self.transport.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: r\r\n"
                    b"content-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)
                )

    async def stream(self) -> None:
        write = self.transport.write
        write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        for _ in range(STREAM_EVENTS):
            write(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
            await asyncio.sleep(0.0005)
        write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")


def serve_mock(port: int) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(MockUpstream, "127.0.0.1", port, backlog=2048)
        await server.serve_forever()

    uvloop.run(main())


def serve_bare(port: int, upstream: str) -> None:
    """The bare forwarder: raw ASGI and aiohttp, no features."""
    import aiohttp
    import uvicorn
    from yarl import URL

    dropped = {b"host", b"content-length", b"connection", b"transfer-encoding", b"keep-alive"}
    session: aiohttp.ClientSession | None = None

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal session
        if scope["type"] != "http":
            return
        if session is None:
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = [(k.decode(), v.decode()) for k, v in scope["headers"] if k not in dropped]
        url = URL(upstream + scope["raw_path"].decode(), encoded=True)
        async with session.request(
            scope["method"], url, headers=headers, data=body, allow_redirects=False
        ) as response:
            raw = [
                (k, v)
                for k, v in response.raw_headers
                if k.lower() not in (b"transfer-encoding", b"connection", b"keep-alive")
            ]
            await send({"type": "http.response.start", "status": response.status, "headers": raw})
            async for chunk in response.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    gc.collect()  # the same as ctxpress does for its process, or the ratios would measure that
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    uvicorn.run(
        app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", lifespan="off",
        log_level="error", access_log=False, server_header=False, date_header=False,
    )  # fmt: skip


def serve_ctxpress(port: int, upstream: str, mode: str) -> None:
    """ctxpress as ``ctxpress serve`` runs it, its log line included (written to nowhere)."""
    from ctxpress_proxy import create_app
    from ctxpress_proxy.logs import configure_logging
    from ctxpress_proxy.server import create_server, settle_garbage_collector
    from ctxpress_proxy.settings import ProxySettings

    from ctxpress.compressor import CompressedBody, RequestPolicy
    from ctxpress.config import Config
    from ctxpress.report import Report

    class Nothing:
        async def compress_body(
            self, format_name: str, raw: bytes, policy: RequestPolicy
        ) -> CompressedBody:
            report = Report(
                pipeline=policy.pipeline, tokens_before=400, tokens_after=400, applied=True
            )
            return CompressedBody(body=raw, report=report)

        async def ping(self) -> None:
            return

    configure_logging(open(os.devnull, "w"))
    config = Config.model_validate(
        {
            "version": 1,
            "auth": "passthrough",
            "upstreams": {"mock": {"base_url": upstream}},
            "tenants": {"default": {"upstream": "mock", "mode": mode, "pipeline": "balanced"}},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        settings = ProxySettings(state_dir=Path(folder), secret=b"s" * 32)
        compressor: Any = Nothing()
        settle_garbage_collector()
        create_server(create_app(config, compressor, settings=settings), port=port).run()


def serve_litellm(port: int, upstream: str, python: str) -> None:
    """A LiteLLM proxy from another environment, in front of the same mock; never returns."""
    file = Path(tempfile.mkdtemp()) / "config.yaml"
    file.write_text(
        "model_list:\n- model_name: m\n  litellm_params:\n    model: openai/m\n"
        f"    api_base: {upstream}/v1\n    api_key: none\n"
    )
    environment = {
        **os.environ,
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
    }
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    command = str(Path(python).parent / "litellm")
    arguments = [command, "--config", str(file), "--port", str(port), "--host", "127.0.0.1"]
    os.execve(command, arguments, environment)


def serve(kind: str, port: int, upstream: str) -> None:
    name, _, option = kind.partition(":")
    if name == "mock":
        serve_mock(port)
    elif name == "bare":
        serve_bare(port, upstream)
    elif name == "ctxpress":
        serve_ctxpress(port, upstream, option)
    else:
        serve_litellm(port, upstream, option)
