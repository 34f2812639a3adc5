"""Streams: event by event, native errors when they die, nothing left when clients go."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import aiohttp
import pytest
from ctxpress_proxy.headers import response_headers
from ctxpress_proxy.sse import EventStream

from tests.proxy.running import FakeCompressor, compressing, running_proxy
from tests.proxy.upstream import FakeUpstream, Received, Reply

FORMATS = {
    "chat/completions": "openai_chat",
    "responses": "openai_responses",
    "messages": "anthropic_messages",
}


async def test_chunks_go_out_at_once(upstream: FakeUpstream, tmp_path: Path) -> None:
    """The next piece is sent only when the one before has arrived at the client."""
    pieces = [b": ping\n\n", b'event: x\ndata: {"a', b'":1}\n', b"\n", b"data: [DONE]\n\n"]
    arrived = asyncio.Event()

    async def answer(request: Received, reply: Reply) -> None:
        await reply.begin_stream()
        for piece in pieces:
            await reply.chunk(piece)
            await asyncio.wait_for(arrived.wait(), 2)
            arrived.clear()
        await reply.end_stream()

    upstream.handler = answer
    got = []
    async with running_proxy(compressing(upstream.url), tmp_path) as proxy:
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{proxy.url}/v1/messages", data=b"{}") as response:
                assert response.headers["content-type"] == "text/event-stream"
                assert response.headers["x-ctxpress-stages"] == "dedupe"
                async for piece in response.content.iter_any():
                    got.append(piece)
                    arrived.set()
    assert got == pieces


@pytest.mark.parametrize("path", FORMATS)
@pytest.mark.parametrize("half", [b"", b'event: delta\ndata: {"half'])
async def test_a_stream_that_dies_ends_with_the_providers_error(
    upstream: FakeUpstream, tmp_path: Path, path: str, half: bytes
) -> None:
    async def answer(request: Received, reply: Reply) -> None:
        await reply.begin_stream()
        await reply.chunk(b"data: {}\n\n" + half)
        await asyncio.sleep(0.05)
        reply.die()

    upstream.handler = answer
    async with running_proxy(compressing(upstream.url), tmp_path) as proxy:
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{proxy.url}/v1/{path}", data=b"{}") as response:
                body = await response.read()  # a clean end of the connection
        assert proxy.app.runtime.metrics.upstream_failures["main", "broken_stream"] == 1
    assert body.startswith(b"data: {}\n\n" + half)
    assert b"[DONE]" not in body
    last = body.rstrip(b"\n").split(b"\n")
    event = json.loads(last[-1].removeprefix(b"data: "))
    assert "'main' broke off" in event["error"]["message"]
    if path == "messages":
        assert last[-2] == b"event: error"
        assert event["type"] == "error"
        assert body.count(b"\n\n") == 2, "half an event became the error, not one more event"
    elif path == "responses":
        assert (last[-2], event["type"]) == (b"event: error", "error")


async def test_other_answers_that_die_break_the_connection(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    for head in (b"content-length: 100\r\n", b"transfer-encoding: chunked\r\n"):

        async def answer(request: Received, reply: Reply, head: bytes = head) -> None:
            await reply.raw(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + head + b"\r\n"
            )
            await reply.raw(b'5\r\n{"a":\r\n')
            await asyncio.sleep(0.05)
            reply.die()

        upstream.handler = answer
        async with running_proxy(compressing(upstream.url), tmp_path) as proxy:
            async with aiohttp.ClientSession() as session:
                async with session.post(f"{proxy.url}/v1/responses", data=b"{}") as response:
                    with pytest.raises(aiohttp.ClientPayloadError):
                        await response.read()


async def leave(port: int, sent: bytes) -> None:
    """Send a request over a raw socket, wait a moment, hang up."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.close()
    await writer.wait_closed()


REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"


@pytest.mark.parametrize("stage", ["before the answer", "streaming", "silent stream"])
async def test_clients_that_leave_cancel_the_upstream(
    upstream: FakeUpstream, tmp_path: Path, stage: str
) -> None:
    async def answer(request: Received, reply: Reply) -> None:
        if stage != "before the answer":
            await reply.begin_stream()
            await reply.chunk(b"data: 1\n\n")
        while stage == "streaming":
            await reply.chunk(b"data: 2\n\n")
            await asyncio.sleep(0.01)
        await asyncio.sleep(30)

    upstream.handler = answer
    async with running_proxy(compressing(upstream.url), tmp_path) as proxy:
        await leave(proxy.port, REQUEST)
        left = time.monotonic()
        await asyncio.wait_for(upstream.last.gone.wait(), 1)
        assert time.monotonic() - left < 1
        await proxy.until_idle(1)
        assert proxy.app.runtime.metrics.errors["default", "client_gone"] == 1


async def test_clients_that_leave_while_compressing(upstream: FakeUpstream, tmp_path: Path) -> None:
    compressor = FakeCompressor(delay_s=30)
    async with running_proxy(compressing(upstream.url), tmp_path, compressor) as proxy:
        await leave(proxy.port, REQUEST)
        assert await asyncio.to_thread(compressor.cancelled.wait, 1)
        await proxy.until_idle(1)
    assert upstream.received == []


@pytest.mark.parametrize("path", [b"chat/completions", b"files"])
async def test_clients_that_leave_in_mid_body(
    upstream: FakeUpstream, tmp_path: Path, path: bytes
) -> None:
    async with running_proxy(compressing(upstream.url), tmp_path) as proxy:
        head = b"POST /v1/" + path + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf"
        await leave(proxy.port, head)
        await proxy.until_idle(1)
        assert proxy.app.runtime.metrics.upstream_failures == {}


async def test_many_leave_and_no_slot_is_lost(upstream: FakeUpstream, tmp_path: Path) -> None:
    async def answer(request: Received, reply: Reply) -> None:
        await asyncio.sleep(30)

    upstream.handler = answer
    async with running_proxy(compressing(upstream.url), tmp_path) as proxy:
        await asyncio.gather(*(leave(proxy.port, REQUEST) for _ in range(50)))
        await proxy.until_idle(2)
        await asyncio.gather(*(asyncio.wait_for(r.gone.wait(), 2) for r in upstream.received))
    assert len(upstream.received) == 50


async def test_pipelined_requests(upstream: FakeUpstream, tmp_path: Path) -> None:
    """The second of two requests on one connection is served when the first is over."""

    async def answer(request: Received, reply: Reply) -> None:
        await asyncio.sleep(0.5)
        await reply.json({"target": request.target})

    upstream.handler = answer
    async with running_proxy(compressing(upstream.url), tmp_path) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        last = REQUEST.replace(b"chat/completions", b"messages").replace(
            b"host: x", b"host: x\r\nconnection: close"
        )
        writer.write(REQUEST + last)
        answers = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        await writer.wait_closed()
    assert answers.count(b"HTTP/1.1 200") == 2
    assert answers.index(b"chat/completions") < answers.index(b"/v1/messages")


async def test_draining_finishes_streams_and_refuses_more(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    async def answer(request: Received, reply: Reply) -> None:
        await reply.begin_stream()
        for number in range(10):
            await reply.chunk(b"data: %d\n\n" % number)
            await asyncio.sleep(0.05)
        await reply.chunk(b"data: [DONE]\n\n")
        await reply.end_stream()

    upstream.handler = answer
    async with running_proxy(compressing(upstream.url), tmp_path, drain_s=5) as proxy:
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{proxy.url}/v1/chat/completions", data=b"{}") as response:
                await response.content.readany()
                proxy.server.handle_exit(15, None)
                assert proxy.app.runtime.draining
                body = await response.read()
        assert body.endswith(b"data: 9\n\ndata: [DONE]\n\n")
        await asyncio.to_thread(proxy.thread.join, 3)
        assert not proxy.thread.is_alive()
        proxy.server._captured_signals.clear()  # none was sent


async def test_patience_with_a_drain_ends(upstream: FakeUpstream, tmp_path: Path) -> None:
    async def answer(request: Received, reply: Reply) -> None:
        if request.target == "/v1/messages":
            await reply.begin_stream()
            await reply.chunk(b"event: a\ndata: {}\n\n")
        await asyncio.sleep(30)

    upstream.handler = answer
    async with running_proxy(compressing(upstream.url), tmp_path, drain_s=1) as proxy:
        async with aiohttp.ClientSession() as session:
            url = f"{proxy.url}/v1/"
            silent = asyncio.create_task(session.post(url + "chat/completions", data=b"{}"))
            async with session.post(url + "messages", data=b"{}") as stream:
                await stream.content.readany()
                proxy.stop()
                body = await stream.read()
            assert b'event: error\ndata: {"type":"error"' in body
            assert b"shutting down" in body
            async with await silent as response:
                assert response.status == 503
                assert (await response.json())["error"]["code"] == "shutting_down"


def test_what_counts_as_a_stream() -> None:
    plain = (b"Content-Type", b"text/event-stream; charset=utf-8")
    assert response_headers([plain], [])[1]
    assert response_headers([plain, (b"content-encoding", b"identity")], [])[1]
    assert not response_headers([(b"content-encoding", b"gzip"), plain], [])[1]
    assert not response_headers([(b"content-type", b"application/json")], [])[1]
    assert not response_headers([], [])[1]


@pytest.mark.parametrize("cut", [b"\r\n\r\n", b"\n\n", b"\r\r"])
def test_ends_of_events_in_single_bytes(cut: bytes) -> None:
    events = EventStream("anthropic_messages")
    for position in range(len(cut)):
        events.saw(
            b"data: x"[position : position + 1] if position == 9 else cut[position : position + 1]
        )
    assert events.ending("c", "m").startswith(b"event: error")
