"""A proxy on a real socket, and small compressors to put into it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from ctxpress_proxy import ProxyApp, create_app
from ctxpress_proxy.server import create_server
from ctxpress_proxy.settings import ProxySettings

from ctxpress.compressor import CompressedBody, CompressedMessages, RequestPolicy
from ctxpress.config import Config
from ctxpress.report import Report
from ctxpress.results import CompressedDocument, CompressedDocuments
from ctxpress.stage import Skip, StageReport

Work = Callable[[str, bytes, RequestPolicy], bytes]


class FakeCompressor:
    """Replaces bodies by ``work(format, raw, policy)`` and remembers what it was asked."""

    def __init__(self, work: Work | None = None, delay_s: float = 0) -> None:
        self.work = work or (lambda _, raw, __: raw.replace(b"long long", b"long"))
        self.delay_s = delay_s
        self.calls: list[tuple[str, bytes, RequestPolicy]] = []
        self.cancelled = threading.Event()
        self.store_down = False

    async def compress_body(
        self, format_name: str, raw: bytes, policy: RequestPolicy
    ) -> CompressedBody:
        self.calls.append((format_name, raw, policy))
        if self.delay_s:
            try:
                await asyncio.sleep(self.delay_s)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if policy.bypass:
            return CompressedBody(body=raw, report=Report(pipeline=None, skipped=Skip.BYPASS))
        body = self.work(format_name, raw, policy)
        applied = policy.mode == "on"
        report = self._report(policy, len(raw), len(body), applied)
        return CompressedBody(body=body if applied else raw, report=report)

    async def compress_messages(
        self, messages: list[dict[str, Any]], model: str | None, policy: RequestPolicy
    ) -> CompressedMessages:
        self.calls.append((str(model), b"", policy))
        return CompressedMessages(
            messages=[dict(message) for message in messages],
            report=self._report(policy, 100, 60, True),
        )

    async def compress_documents(
        self, question: str | None, documents: Sequence[Mapping[str, Any]], policy: RequestPolicy
    ) -> CompressedDocuments:
        self.calls.append((str(question), b"", policy))
        given = tuple(
            CompressedDocument(
                id=str(d.get("id", n)), title=d.get("title"), text=d["text"], score=None, kept=()
            )
            for n, d in enumerate(documents)
        )
        return CompressedDocuments(
            text="\n\n".join(d.text for d in given),
            documents=given,
            report=self._report(policy, 100, 60, True),
        )

    async def ping(self) -> None:
        if self.store_down:
            raise ConnectionError("no store")

    async def aclose(self) -> None:
        return

    def _report(self, policy: RequestPolicy, before: int, after: int, applied: bool) -> Report:
        stage = StageReport(
            stage="dedupe",
            tokens_in=before,
            tokens_out=after,
            elapsed_ms=1.0,
            blocks=1,
            blocks_run=1,
            memo_hits=1,
        )
        return Report(
            pipeline=policy.pipeline,
            tokens_before=before,
            tokens_after=after,
            applied=applied,
            stages=(stage,),
            cache_risk_blocks=1,
        )


class RunningProxy:
    """A proxy under uvicorn in a thread of its own."""

    def __init__(self, app: ProxyApp, drain_s: int = 2) -> None:
        self.app = app
        self.server = create_server(app, port=0, drain_s=drain_s)
        self.thread = threading.Thread(target=self.server.run)

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def until_idle(self, within_s: float = 2) -> None:
        """Wait until no request is being served."""
        until = time.monotonic() + within_s
        while self.app.runtime.in_flight or self.app.runtime.websockets:
            assert time.monotonic() < until, "a slot was never released"
            await asyncio.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True


def passthrough(upstream: str, **values: Any) -> Config:
    """A configuration without tenants."""
    return Config.model_validate(
        {
            "version": 1,
            "auth": "passthrough",
            "upstreams": {"main": {"base_url": upstream, "max_retries": 1}},
            **values,
        }
    )


def compressing(upstream: str, mode: str = "on", **values: Any) -> Config:
    """Passthrough with a pipeline."""
    tenant = {"upstream": "main", "mode": mode, "pipeline": "balanced"}
    return passthrough(upstream, tenants={"default": tenant}, **values)


@contextlib.asynccontextmanager
async def running_proxy(
    config: Config,
    state_dir: Path,
    compressor: FakeCompressor | None = None,
    *,
    credentials: Mapping[str, str] | None = None,
    drain_s: int = 2,
) -> AsyncIterator[RunningProxy]:
    """Run a proxy for the time of a ``with`` block."""
    settings = ProxySettings(
        state_dir=state_dir, secret=b"s" * 32, credentials=dict(credentials or {})
    )
    app = create_app(config, compressor or FakeCompressor(), settings=settings)
    proxy = RunningProxy(app, drain_s)
    proxy.thread.start()
    try:
        while not proxy.server.started:
            assert proxy.thread.is_alive(), "the proxy did not start"
            await asyncio.sleep(0.005)
        yield proxy
    finally:
        proxy.stop()
        await asyncio.to_thread(proxy.thread.join)


async def fetch(
    url: str, method: str = "POST", **options: Any
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one request on a connection of its own."""
    if isinstance(options.get("data"), bytes):
        options["data"] = io.BytesIO(options["data"])  # aiohttp warns about large bytes
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.request(method, url, allow_redirects=False, **options) as response,
    ):
        return (
            response.status,
            {k.lower(): v for k, v in response.headers.items()},
            (await response.read()),
        )
