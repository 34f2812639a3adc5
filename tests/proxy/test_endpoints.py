"""The proxy's own endpoints, its switch, its log and its WebSockets."""

from __future__ import annotations

import asyncio
import io
import logging
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from ctxpress_proxy import create_app
from ctxpress_proxy.logs import BatchHandler, LogFormatter
from ctxpress_proxy.server import create_server, start_up_notes
from ctxpress_proxy.settings import ProxySettings
from ctxpress_proxy.switch import SwitchWatcher, read_switch, write_switch
from prometheus_client.parser import text_string_to_metric_families

from tests.proxy.running import FakeCompressor, compressing, fetch, passthrough, running_proxy
from tests.proxy.test_tenants import CREDENTIALS, KEY, two_tenants
from tests.proxy.upstream import FakeUpstream, Received, Reply


async def test_health(upstream: FakeUpstream, tmp_path: Path) -> None:
    compressor = FakeCompressor()
    async with running_proxy(passthrough(upstream.url), tmp_path, compressor) as proxy:
        assert (await fetch(f"{proxy.url}/livez", "GET"))[0] == 200
        assert (await fetch(f"{proxy.url}/readyz", "GET"))[0] == 200
        compressor.store_down = True
        proxy.app.drain()
        status, _, body = await fetch(f"{proxy.url}/readyz", "GET")
        assert status == 503
        assert [reason.split(":")[0] for reason in orjson.loads(body)["reasons"]] == [
            "draining",
            "store",
        ]
        assert (await fetch(f"{proxy.url}/livez", "GET"))[0] == 200
    assert upstream.received == []


async def test_metrics(upstream: FakeUpstream, tmp_path: Path) -> None:
    async with running_proxy(compressing(upstream.url), tmp_path) as proxy:
        body = b'{"model":"a-model-name","text":"long long"}'
        await fetch(f"{proxy.url}/v1/chat/completions", data=body)
        await fetch(f"{proxy.url}/v1/messages", data=body, headers={"x-ctxpress-bypass": "true"})
        await fetch(f"{proxy.url}/v1/nothing/{'x' * 30}", "GET")
        status, headers, text = await fetch(f"{proxy.url}/metrics", "GET")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    assert b"a-model-name" not in text
    assert b"xxx" not in text
    families = {f.name: f.samples for f in text_string_to_metric_families(text.decode())}

    def value(family: str, sample: str, **labels: str) -> float:
        return next(
            s.value
            for s in families[family]
            if s.name == sample and labels.items() <= s.labels.items()
        )

    requests = ("ctxpress_requests", "ctxpress_requests_total")
    assert value(*requests, endpoint="chat_completions", tenant="default", status="2xx") == 1
    assert value(*requests, endpoint="other") == 1
    assert value("ctxpress_skips", "ctxpress_skips_total", code="bypass") == 1
    tokens = ("ctxpress_tokens", "ctxpress_tokens_total")
    assert value(*tokens, when="before", applied="true") == len(body)
    assert value(*tokens, when="after", applied="true") == len(body) - 5
    for family in ("overhead_seconds", "ttfb_seconds"):
        name = f"ctxpress_{family}"
        assert value(name, f"{name}_count", endpoint="chat_completions") == 1
        assert value(name, f"{name}_bucket", endpoint="messages", le="+Inf") == 1
    assert value("ctxpress_stage_seconds", "ctxpress_stage_seconds_count", stage="dedupe") == 1
    assert value("ctxpress_memo_hits", "ctxpress_memo_hits_total", stage="dedupe") == 1
    assert value("ctxpress_cache_risk_blocks", "ctxpress_cache_risk_blocks_total") == 1
    assert value("ctxpress_requests_in_flight", "ctxpress_requests_in_flight") == 0


async def test_one_log_line_a_request(
    upstream: FakeUpstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ctxpress_proxy.access")
    async with running_proxy(compressing(upstream.url), tmp_path) as proxy:
        _, headers, _ = await fetch(f"{proxy.url}/v1/chat/completions", data=b'"long long"')
    lines = [r.getMessage() for r in caplog.records if r.name == "ctxpress_proxy.access"]
    assert len(lines) == 1
    fields = dict(part.split("=") for part in lines[0].split()[1:])
    assert fields.pop("id") == headers["x-ctxpress-request-id"]
    assert float(fields.pop("overhead_ms")) >= 0
    assert fields == {
        "tenant": "default",
        "endpoint": "chat_completions",
        "status": "200",
        "before": "11",
        "after": "6",
        "skipped": "-",
    }


def test_log_lines_are_written_in_order() -> None:
    stream = io.StringIO()
    handler = BatchHandler(stream)
    handler.setFormatter(LogFormatter())
    line = logging.LogRecord("ctxpress_proxy.access", logging.INFO, "", 0, "request", None, None)
    line.created, line.msecs = 1.5, 500
    handler.emit(line)
    assert stream.getvalue() == "", "lines of requests wait"
    handler.emit(logging.LogRecord("other", logging.ERROR, "", 0, "trouble", None, None))
    first, second = stream.getvalue().splitlines()
    assert first == "1970-01-01T00:00:01.500Z INFO request"
    assert second.endswith("Z ERROR trouble")
    handler.emit(line)
    handler.flush()
    assert stream.getvalue().endswith("INFO request\n")


async def test_the_switch(upstream: FakeUpstream, tmp_path: Path) -> None:
    compressor = FakeCompressor()
    async with running_proxy(passthrough(upstream.url), tmp_path, compressor) as proxy:

        async def seen() -> tuple[str | None, bool]:
            _, headers, _ = await fetch(f"{proxy.url}/v1/chat/completions", data=b'"long long"')
            return headers.get("x-ctxpress-skipped"), upstream.last.body == b'"long"'

        assert await seen() == ("observe", False)
        for on, pipeline, expected in (
            (True, None, (None, True)),
            (False, None, ("off", False)),
            (True, "lossless", (None, True)),
        ):
            write_switch(on, pipeline=pipeline, folder=tmp_path)
            await asyncio.sleep(0.7)
            assert await seen() == expected
    assert [call[2].pipeline for call in compressor.calls] == ["balanced", "balanced", "lossless"]


def test_damaged_switches_keep_the_last_state(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = SwitchWatcher(tmp_path)
    assert watcher.state is None
    path = write_switch(False, folder=tmp_path)
    watcher.poll()
    assert watcher.state is not None
    assert watcher.state.mode == "off"
    for damage in ("", "{", "[]", '{"mode": "maybe"}', '{"mode":"on","pipeline":3}', "x" * 5000):
        caplog.clear()
        path.write_text(damage)
        with pytest.raises(ValueError):  # noqa: PT011 - JSON's own errors are among them
            read_switch(tmp_path)
        watcher.poll()
        watcher.poll()
        assert watcher.state.mode == "off"
        assert len(caplog.records) == 1, "said once"
    path.unlink()
    watcher.poll()
    assert watcher.state is None


def test_operators_chosen_modes_stay(tmp_path: Path) -> None:
    """``on`` means as configured: a tenant that observes by its own file goes on observing."""
    from ctxpress_proxy.switch import SwitchState
    from ctxpress_proxy.tenants import Target

    target = Target(upstream="a", mode="observe", pipeline="lossless")
    assert target.switched(SwitchState("on")) == ("observe", "lossless")
    assert target.switched(SwitchState("off")) == ("off", "lossless")
    assert target.switched(None) == ("observe", "lossless")


def test_start_up_notes() -> None:
    config = passthrough("https://api.example")
    assert start_up_notes(config, "127.0.0.1") == [
        "observing: nothing is changed; enable with --pipeline balanced"
    ]
    assert "share the tenant 'default'" in start_up_notes(config, "0.0.0.0")[0]
    assert start_up_notes(compressing("https://api.example"), "::1") == []
    assert start_up_notes(two_tenants("https://a", "https://b"), "0.0.0.0") == []


MESSAGES = [
    {"role": "user", "content": "x"},
    {"role": "user", "content": [{"type": "text", "text": "y"}]},
]


async def test_compress_messages(upstream: FakeUpstream, tmp_path: Path) -> None:
    compressor = FakeCompressor()
    async with running_proxy(passthrough(upstream.url), tmp_path, compressor) as proxy:
        value = {"messages": MESSAGES, "model": "m", "config": {"mode": "ccr", "other": 1}}
        status, headers, body = await fetch(f"{proxy.url}/v1/compress", json=value)
        answer = orjson.loads(body)
        assert status == 200
        assert answer.pop("report")["tokens_saved"] == 40
        assert answer == {
            "messages": MESSAGES,
            "tokens_before": 100,
            "tokens_after": 60,
            "tokens_saved": 40,
            "compression_ratio": 0.6,
            "transforms_applied": ["dedupe"],
        }
        assert "x-ctxpress-overhead-ms" in headers
        value["config"] = {"pipeline": "lossless", "keep_ratio": 0.5, "mode": "observe"}
        await fetch(f"{proxy.url}/v1/compress", json=value)
    first, second = (call[2] for call in compressor.calls)
    assert (first.mode, first.pipeline) == ("on", "balanced")
    assert (second.mode, second.pipeline, second.keep_ratio) == ("observe", "lossless", 0.5)
    assert upstream.received == []


async def test_compress_documents(upstream: FakeUpstream, tmp_path: Path) -> None:
    async with running_proxy(passthrough(upstream.url), tmp_path) as proxy:
        value: Any = {"question": "q", "documents": ["a", {"id": "7", "title": "t", "text": "b"}]}
        status, _, body = await fetch(f"{proxy.url}/v1/compress", json=value)
    answer = orjson.loads(body)
    assert status == 200
    assert [(d["id"], d["title"], d["text"]) for d in answer["documents"]] == [
        ("0", None, "a"),
        ("7", "t", "b"),
    ]
    assert answer["text"] == "a\n\nb"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"messages": 1}',
        b'{"messages": [1]}',
        b'{"messages": [], "model": 1}',
        b'{"messages": [], "config": []}',
        b'{"messages": [], "config": {"pipeline": "nope"}}',
        b'{"messages": [], "config": {"keep_ratio": "x"}}',
        b'{"documents": "x"}',
        b'{"documents": [1]}',
        b'{"documents": [{"text": "x", "nope": 1}]}',
        b'{"documents": [], "question": 1}',
    ],
)
async def test_compress_refuses(upstream: FakeUpstream, tmp_path: Path, body: bytes) -> None:
    async with running_proxy(passthrough(upstream.url), tmp_path) as proxy:
        status, _, answer = await fetch(f"{proxy.url}/v1/compress", data=body)
    assert status == 400
    assert orjson.loads(answer)["error"]["message"]


async def test_compress_takes_the_same_keys(upstream: FakeUpstream, tmp_path: Path) -> None:
    config = two_tenants(upstream.url, upstream.url)
    value = {"messages": MESSAGES, "model": "gpt-5"}
    async with running_proxy(config, tmp_path, credentials=CREDENTIALS) as proxy:
        url = f"{proxy.url}/v1/compress"
        assert (await fetch(url, json=value))[0] == 401
        assert (await fetch(url, json=value, headers={"x-api-key": KEY}))[0] == 200


class RealtimeServer:
    """A WebSocket upstream that echoes, and notes its headers and how it was closed."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.close_code: int | None = None
        self.closed = asyncio.Event()
        self.port = 0

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        if request.query.get("refuse"):
            return web.json_response({"error": "no"}, status=403)
        socket = web.WebSocketResponse(protocols=("realtime",))
        await socket.prepare(request)
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT and message.data == "close":
                await socket.close(code=4001)
            elif message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data)
            else:
                await socket.send_bytes(message.data)
        self.close_code = socket.close_code
        self.closed.set()
        return socket

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/v1/realtime", self._serve)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        return runner


async def test_websockets(tmp_path: Path) -> None:
    realtime = RealtimeServer()
    runner = await realtime.start()
    config = compressing(f"http://127.0.0.1:{realtime.port}")
    async with running_proxy(config, tmp_path) as proxy:
        url = f"{proxy.url}/v1/realtime?model=m"
        async with aiohttp.ClientSession(headers={"authorization": "Bearer sk-1"}) as session:
            async with session.ws_connect(url, protocols=("realtime", "x")) as socket:
                assert socket.protocol == "realtime"
                await socket.send_str("long long")
                assert await socket.receive_str() == "long long"
                await socket.send_bytes(b"\x00" * 200_000)
                assert await socket.receive_bytes() == b"\x00" * 200_000
                assert proxy.app.runtime.websockets == 1
                await socket.send_str("close")
                message = await socket.receive()
                assert message.type is aiohttp.WSMsgType.CLOSE
                assert message.data == 4001
            assert realtime.headers["authorization"] == "Bearer sk-1"
            realtime.closed.clear()
            async with session.ws_connect(url) as socket:
                await socket.close(code=4002)
            await asyncio.wait_for(realtime.closed.wait(), 1)
            assert realtime.close_code == 4002
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(url + "&refuse=1")
            assert refused.value.status == 403
        await proxy.until_idle()
        skips = proxy.app.runtime.metrics.skips
        assert skips["default", "unsupported_transport"] == 3
    await runner.cleanup()


async def test_websockets_need_a_key_too(upstream: FakeUpstream, tmp_path: Path) -> None:
    config = two_tenants(upstream.url, upstream.url)
    async with running_proxy(config, tmp_path, credentials=CREDENTIALS) as proxy:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"{proxy.url}/v1/realtime")
            assert refused.value.status == 401
    assert upstream.received == []


async def test_many_requests_at_once(upstream: FakeUpstream, tmp_path: Path) -> None:
    """More than a hundred at a time: nothing queues at the upstream's side of the proxy."""
    together = asyncio.Event()

    async def answer(request: Received, reply: Reply) -> None:
        if len(upstream.received) >= 150:
            together.set()
        await asyncio.wait_for(together.wait(), 5)
        await reply.json({})

    upstream.handler = answer
    async with running_proxy(passthrough(upstream.url), tmp_path) as proxy:
        answers = await asyncio.gather(
            *(fetch(f"{proxy.url}/v1/embeddings", data=b"{}") for _ in range(150))
        )
    assert {status for status, _, _ in answers} == {200}


def test_an_app_that_cannot_start_says_why(tmp_path: Path) -> None:
    bad = {"balanced2": {"stages": [{"use": "no_such_stage"}]}}
    config = passthrough("http://127.0.0.1:9", store="memory://", pipelines=bad)
    settings = ProxySettings(state_dir=tmp_path, secret=b"s" * 32)
    app = create_app(config, settings=settings)
    with pytest.raises(SystemExit):
        create_server(app, port=0).run()
    assert "no_such_stage" in str(app.failure)
