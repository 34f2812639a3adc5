"""Paths, queries, methods and headers: what goes on, what ends here."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import aiohttp
import orjson
import pytest
from ctxpress_proxy.upstream import join_url

from tests.proxy.running import FakeCompressor, compressing, fetch, passthrough, running_proxy
from tests.proxy.upstream import FakeUpstream, Received, Reply


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("https://a", "/v1/chat/completions", "https://a/v1/chat/completions"),
        ("https://a", "/chat/completions", "https://a/v1/chat/completions"),
        ("https://a/v1", "/v1/chat/completions", "https://a/v1/chat/completions"),
        ("https://a/v1", "/chat/completions", "https://a/v1/chat/completions"),
        ("https://a/v1", "/v1", "https://a/v1"),
        ("https://a/api/v1", "/v1/models", "https://a/api/v1/models"),
        ("https://a/v1beta/openai", "/v1/chat/completions", "https://a/v1beta/openai/chat/completions"),
        ("https://a/v1beta/openai", "/models", "https://a/v1beta/openai/models"),
        ("https://a/api/v4", "/v1/chat/completions", "https://a/api/v4/chat/completions"),
        ("https://a", "/openai/deployments/g/chat/completions", "https://a/openai/deployments/g/chat/completions"),
        ("https://a", "/v1beta/x", "https://a/v1beta/x"),
        ("https://a", "/", "https://a/"),
        ("https://a/v1", "/v1x/y", "https://a/v1/v1x/y"),
        ("https://a", "//evil/v1", "https://a//evil/v1"),
    ],
)  # fmt: skip
def test_join(base: str, path: str, url: str) -> None:
    assert join_url(base, path) == url


@pytest.mark.parametrize(
    "target",
    [
        "/v1/models?a=%2F&b=a%20b&c=a+b&d=%zz&&e",
        "/v1/files/a%2Fb%20c/content",
        "/openai/deployments/gpt/chat/completions?api-version=2024-10-21",
        "/v1/unknown/%C3%A9?x=%e9",
        "/v1/a;b=c/d:e@f,g",
        "/v1/x?",
    ],
)
async def test_targets_are_the_same_bytes(
    upstream: FakeUpstream, tmp_path: Path, target: str
) -> None:
    async with running_proxy(passthrough(upstream.url), tmp_path) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(f"GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        assert b" 200 " in await reader.read()
        writer.close()
        await writer.wait_closed()
    assert upstream.last.target == target.removesuffix("?")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "POST"])
async def test_methods_pass(upstream: FakeUpstream, tmp_path: Path, method: str) -> None:
    async with running_proxy(compressing(upstream.url), tmp_path) as proxy:
        body = None if method in ("GET", "HEAD", "OPTIONS") else b"long long"
        status, _, answer = await fetch(f"{proxy.url}/v1/models/m", method, data=body)
    assert status == 200
    assert upstream.last.method == method
    assert upstream.last.body == (body or b"")
    assert (answer == b"") == (method == "HEAD")


async def test_only_posts_are_compressed(upstream: FakeUpstream, tmp_path: Path) -> None:
    compressor = FakeCompressor()
    async with running_proxy(compressing(upstream.url), tmp_path, compressor) as proxy:
        for path in ("embeddings", "messages/count_tokens", "models", "whatever"):
            _, headers, _ = await fetch(f"{proxy.url}/v1/{path}", data=b'"long long"')
            assert upstream.last.body == b'"long long"'
            assert "x-ctxpress-skipped" not in headers
        await fetch(f"{proxy.url}/v1/chat/completions", "GET")
    assert compressor.calls == []


async def test_request_headers(upstream: FakeUpstream, tmp_path: Path) -> None:
    async with running_proxy(compressing(upstream.url), tmp_path) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(
            b"POST /v1/messages HTTP/1.1\r\nHost: proxy\r\nAuthorization: Bearer sk-1\r\n"
            b"anthropic-beta: a\r\nTraceparent: 00-1\r\nanthropic-beta: b\r\n"
            b"X-Stainless-OS: Linux\r\n"
            b"Connection: close, X-Secret-Hop\r\nX-Secret-Hop: 1\r\nTE: trailers\r\n"
            b"Proxy-Authorization: Basic x\r\nKeep-Alive: 5\r\nCookie: a=1; b=2\r\n"
            b"x-ctxpress-bypass: false\r\nx-ctxpress-keep-ratio: 0.5\r\nx-name: \xc3\xa9\r\n"
            b"Content-Length: 2\r\n\r\n{}"
        )
        await reader.read()
        writer.close()
        await writer.wait_closed()
    host, *rest = upstream.last.headers
    instance = upstream.last.header("x-ctxpress-hop")
    assert host == ("Host", f"127.0.0.1:{upstream.port}")
    assert rest == [
        ("anthropic-beta", "a"),
        ("traceparent", "00-1"),
        ("anthropic-beta", "b"),
        ("x-stainless-os", "Linux"),
        ("cookie", "a=1; b=2"),
        ("x-name", "\xc3\xa9"),
        ("authorization", "Bearer sk-1"),
        ("x-ctxpress-hop", instance),
        ("Content-Length", "2"),
    ]


async def test_response_headers_and_body(upstream: FakeUpstream, tmp_path: Path) -> None:
    async def answer(request: Received, reply: Reply) -> None:
        await reply.raw(
            b"HTTP/1.1 429 Slow Down\r\nRetry-After: 7\r\nretry-after-ms: 7000\r\n"
            b"x-ratelimit-remaining-requests: 0\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
            b"request-id: req_1\r\nx-should-retry: true\r\nContent-Encoding: gzip\r\n"
            b"Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nserver: up\r\n"
            b"Content-Type: application/json\r\nContent-Length: 5\r\n\r\n\x1f\x8b\x00\x00\x01"
        )

    upstream.handler = answer
    async with running_proxy(compressing(upstream.url), tmp_path) as proxy:
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            async with session.post(f"{proxy.url}/v1/chat/completions", data=b"{}") as response:
                body = await response.read()
                raw = [(k.lower().decode(), v.decode()) for k, v in response.raw_headers]
    assert response.status == 429
    assert body == b"\x1f\x8b\x00\x00\x01"
    assert [pair for pair in raw if not pair[0].startswith("x-ctxpress-")] == [
        ("retry-after", "7"),
        ("retry-after-ms", "7000"),
        ("x-ratelimit-remaining-requests", "0"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("request-id", "req_1"),
        ("x-should-retry", "true"),
        ("content-encoding", "gzip"),
        ("server", "up"),
        ("content-type", "application/json"),
        ("content-length", "5"),
    ]
    assert len(upstream.received) == 1, "statuses are the client's to retry"


async def test_redirects_are_the_clients(upstream: FakeUpstream, tmp_path: Path) -> None:
    async def answer(request: Received, reply: Reply) -> None:
        await reply.full(307, b"", (("location", "/elsewhere"),))

    upstream.handler = answer
    async with running_proxy(passthrough(upstream.url), tmp_path) as proxy:
        status, headers, _ = await fetch(f"{proxy.url}/v1/models", "GET")
    assert (status, headers["location"]) == (307, "/elsewhere")
    assert len(upstream.received) == 1


@pytest.mark.parametrize(
    ("header", "value", "hint"),
    [
        ("x-ctxpress-keep-ratio", "7", "up to 1"),
        ("x-ctxpress-keep-ratio", "0", "above 0"),
        ("x-ctxpress-keep-ratio", "nan", "above 0"),
        ("x-ctxpress-keep-ratio", "half", "a number"),
        ("x-ctxpress-pipeline", "nope", "aggressive, balanced, lossless"),
        ("x-ctxpress-bypass", "maybe", "true or false"),
    ],
)
async def test_wrong_headers_of_ours(
    upstream: FakeUpstream, tmp_path: Path, header: str, value: str, hint: str
) -> None:
    async with running_proxy(compressing(upstream.url), tmp_path) as proxy:
        for path, where in (("chat/completions", "code"), ("messages", "type")):
            status, _, body = await fetch(
                f"{proxy.url}/v1/{path}", data=b"{}", headers={header: value}
            )
            error = orjson.loads(body)["error"]
            assert status == 400
            assert header in error["message"]
            assert hint in error["message"]
            assert error[where] in ("invalid_header", "invalid_request_error")
    assert upstream.received == []


async def test_own_headers_reach_the_compressor(upstream: FakeUpstream, tmp_path: Path) -> None:
    compressor = FakeCompressor()
    headers = {"x-ctxpress-pipeline": "lossless", "x-ctxpress-keep-ratio": "0.25"}
    async with running_proxy(compressing(upstream.url), tmp_path, compressor) as proxy:
        await fetch(f"{proxy.url}/v1/chat/completions", data=b"{}", headers=headers)
    policy = compressor.calls[0][2]
    assert (policy.pipeline, policy.keep_ratio, policy.mode) == ("lossless", 0.25, "on")


async def test_a_proxy_in_front_of_itself(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    async with running_proxy(passthrough(f"http://127.0.0.1:{port}"), tmp_path) as proxy:
        relay = await asyncio.start_server(lambda r, w: splice(r, w, proxy.port), "127.0.0.1", port)
        async with relay:
            status, _, body = await fetch(f"{proxy.url}/v1/messages", data=b"{}")
    assert status == 508
    assert orjson.loads(body)["type"] == "error"
    assert "ctxpress itself" in orjson.loads(body)["error"]["message"]


async def splice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)

    async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.close()

    await asyncio.gather(carry(reader, to_writer), carry(to_reader, writer))


async def test_two_proxies_in_a_row(upstream: FakeUpstream, tmp_path: Path) -> None:
    async with running_proxy(passthrough(upstream.url), tmp_path) as second:
        async with running_proxy(passthrough(second.url), tmp_path) as first:
            status, _, _ = await fetch(f"{first.url}/v1/models", "GET")
    assert status == 200
    hops = upstream.last.header("x-ctxpress-hop") or ""
    assert len(hops.split(", ")) == 2


async def test_unreachable_upstreams_are_named(tmp_path: Path) -> None:
    gone = FakeUpstream()
    async with gone.running():
        pass
    async with running_proxy(passthrough(gone.url), tmp_path) as proxy:
        status, headers, body = await fetch(f"{proxy.url}/v1/chat/completions", data=b"{}")
        assert status == 502
        error = orjson.loads(body)["error"]
        assert error["code"] == "upstream_unreachable"
        assert "'main'" in error["message"]
        assert gone.url in error["message"]
        assert headers["x-ctxpress-request-id"]
        status, _, body = await fetch(f"{proxy.url}/v1/messages", data=b"{}")
        assert orjson.loads(body)["error"]["type"] == "api_error"


async def test_a_reset_before_the_answer_is_not_retried(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    async def die(request: Received, reply: Reply) -> None:
        reply.die()

    upstream.handler = die
    async with running_proxy(passthrough(upstream.url), tmp_path) as proxy:
        status, _, body = await fetch(f"{proxy.url}/v1/chat/completions", data=b"{}")
    assert status == 502
    assert orjson.loads(body)["error"]["code"] == "upstream_broke_off"
    assert len(upstream.received) == 1


async def test_silence_longer_than_the_read_timeout(upstream: FakeUpstream, tmp_path: Path) -> None:
    async def hang(request: Received, reply: Reply) -> None:
        await asyncio.sleep(30)

    upstream.handler = hang
    config = passthrough(
        upstream.url, upstreams={"main": {"base_url": upstream.url, "read_timeout_ms": 200}}
    )
    async with running_proxy(config, tmp_path) as proxy:
        status, _, body = await fetch(f"{proxy.url}/v1/chat/completions", data=b"{}")
    assert status == 504
    assert orjson.loads(body)["error"]["code"] == "upstream_timed_out"
