"""The official clients through the proxy: nothing but ``base_url`` changes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.proxy.running import RunningProxy, compressing, running_proxy
from tests.proxy.upstream import FakeUpstream, Received, Reply

ARGUMENTS = ['{"city": "Par', 'is", "note": "\\u00e9\\n', '\\"x\\""}']
IMAGE = "data:image/png;base64," + "iVBORw0KGgo" * 50
LONG = "a long long text"


def chat(content: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
    }


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    value = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
             "choices": [choice]}  # fmt: skip
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def event(name: str, **value: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **value})}\n\n".encode()


RESPONSE = {
    "id": "r1", "object": "response", "created_at": 1, "model": "m", "status": "completed",
    "output": [{"type": "message", "id": "m1", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": "hello", "annotations": []}]}],
    "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
}  # fmt: skip
MESSAGE = {
    "id": "m1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
    "stop_sequence": None, "content": [{"type": "text", "text": "hello"}],
    "usage": {"input_tokens": 1, "output_tokens": 1},
}  # fmt: skip


def streamed(target: str, tools: bool) -> list[bytes]:
    if target == "/v1/chat/completions":
        if not tools:
            return [b": ping\n\n", chunk({"content": "hel"}), chunk({"content": "lo"}),
                    chunk({}, "stop"), b"data: [DONE]\n\n"]  # fmt: skip
        calls = [
            chunk({"tool_calls": [{"index": 0, "id": "t1", "type": "function",
                                   "function": {"name": "f", "arguments": piece}}]})
            for piece in ARGUMENTS
        ]  # fmt: skip
        return [*calls, chunk({}, "tool_calls"), b"data: [DONE]\n\n"]
    if target == "/v1/responses":
        delta = {"item_id": "m1", "output_index": 0, "content_index": 0, "logprobs": []}
        return [
            event("response.created", sequence_number=0, response=RESPONSE),
            event("response.output_text.delta", sequence_number=1, delta="hello", **delta),
            event("response.completed", sequence_number=2, response=RESPONSE),
        ]
    block: dict[str, Any] = {"type": "text", "text": ""}
    deltas: list[dict[str, Any]] = [
        {"type": "text_delta", "text": piece} for piece in ("hel", "lo")
    ]
    if tools:
        block = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ARGUMENTS]
    return [
        event("message_start", message={**MESSAGE, "content": [], "stop_reason": None}),
        event("content_block_start", index=0, content_block=block),
        event("ping"),
        *(event("content_block_delta", index=0, delta=delta) for delta in deltas),
        event("content_block_stop", index=0),
        event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None},
              usage={"output_tokens": 1}),
        event("message_stop"),
    ]  # fmt: skip


PLAIN: dict[str, Any] = {
    "/v1/embeddings": {
        "object": "list",
        "model": "m",
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 1]}],
    },
    "/v1/models": {
        "object": "list",
        "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "o"}],
    },
    "/v1/messages/count_tokens": {"input_tokens": 7},
    "/v1/completions": {
        "id": "c",
        "object": "text_completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "text": "hello", "finish_reason": "stop"}],
    },
}


async def provider(request: Received, reply: Reply) -> None:
    body = json.loads(request.body or b"{}")
    target = request.target
    if body.get("stream"):
        await reply.begin_stream()
        for piece in streamed(target, bool(body.get("tools"))):
            await reply.chunk(piece)
            await asyncio.sleep(0)
        await reply.end_stream()
    elif target in PLAIN:
        await reply.json(PLAIN[target])
    else:
        answers = {"/v1/responses": RESPONSE, "/v1/messages": MESSAGE}
        await reply.json(
            answers.get(target) or chat("hello"), x_request_id="req_7", request_id="req_7"
        )


@contextlib.asynccontextmanager
async def clients(
    upstream: FakeUpstream, tmp_path: Path, retries: int = 0
) -> AsyncIterator[tuple[openai.AsyncOpenAI, anthropic.AsyncAnthropic, RunningProxy]]:
    async with running_proxy(compressing(upstream.url), tmp_path) as proxy:
        async with (
            openai.AsyncOpenAI(
                api_key="sk-1", base_url=f"{proxy.url}/v1", max_retries=retries
            ) as first,
            anthropic.AsyncAnthropic(
                api_key="sk-ant", base_url=proxy.url, max_retries=retries
            ) as second,
        ):
            yield first, second, proxy


@pytest.fixture(autouse=True)
def speaks_provider(upstream: FakeUpstream) -> None:
    upstream.handler = provider


USER: Any = [{"role": "user", "content": LONG}]
TOOLS: Any = [{"type": "function", "function": {"name": "f", "parameters": {}}}]


async def test_openai(upstream: FakeUpstream, tmp_path: Path) -> None:
    async with clients(upstream, tmp_path) as (client, _, proxy):
        answer = await client.chat.completions.create(model="m", messages=USER)
        assert answer.choices[0].message.content == "hello"
        assert b"a long text" in upstream.last.body
        assert upstream.last.header("authorization") == "Bearer sk-1"
        stream = await client.chat.completions.create(model="m", messages=USER, stream=True)
        text = "".join([part.choices[0].delta.content or "" async for part in stream])
        assert text == "hello"
        completion = await client.completions.create(model="m", prompt=LONG)
        assert completion.choices[0].text == "hello"
        response = await client.responses.create(model="m", input=LONG)
        assert response.output_text == "hello"
        events = await client.responses.create(model="m", input=LONG, stream=True)
        assert [e.type async for e in events][-1] == "response.completed"
        raw = await client.embeddings.with_raw_response.create(
            model="m", input=LONG, encoding_format="float"
        )
        assert raw.parse().data[0].embedding == [0.5, 1]
        assert LONG.encode() in upstream.last.body
        assert [model.id async for model in client.models.list()] == ["m"]
    async with running_proxy(compressing(upstream.url), tmp_path) as proxy:
        async with openai.AsyncOpenAI(api_key="k", base_url=proxy.url) as bare:
            await bare.chat.completions.create(model="m", messages=USER)
    assert upstream.last.target == "/v1/chat/completions"


async def test_openai_tool_calls(upstream: FakeUpstream, tmp_path: Path) -> None:
    async with clients(upstream, tmp_path) as (client, _, __):
        stream = await client.chat.completions.create(
            model="m", messages=USER, tools=TOOLS, stream=True
        )
        pieces = []
        async for part in stream:
            for call in part.choices[0].delta.tool_calls or []:
                assert call.function is not None
                pieces.append(call.function.arguments)
    assert pieces == ARGUMENTS


async def test_anthropic(upstream: FakeUpstream, tmp_path: Path) -> None:
    async with clients(upstream, tmp_path) as (_, client, __):
        answer = await client.messages.create(model="m", max_tokens=9, messages=USER)
        assert getattr(answer.content[0], "text", None) == "hello"
        assert b"a long text" in upstream.last.body
        assert upstream.last.header("anthropic-version")
        async with client.messages.stream(model="m", max_tokens=9, messages=USER) as stream:
            assert await stream.get_final_text() == "hello"
        counted = await client.messages.count_tokens(model="m", messages=USER)
        assert counted.input_tokens == 7
        assert LONG.encode() in upstream.last.body


async def test_anthropic_tool_calls(upstream: FakeUpstream, tmp_path: Path) -> None:
    tools: Any = [{"name": "f", "input_schema": {"type": "object"}}]
    async with clients(upstream, tmp_path) as (_, client, __):
        pieces = []
        async for part in await client.messages.create(
            model="m", max_tokens=9, messages=USER, tools=tools, stream=True
        ):
            if part.type == "content_block_delta" and part.delta.type == "input_json_delta":
                pieces.append(part.delta.partial_json)
    assert pieces == ARGUMENTS


async def test_images_pass(upstream: FakeUpstream, tmp_path: Path) -> None:
    image: Any = {"type": "image_url", "image_url": {"url": IMAGE}}
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "x"}, image]}]
    async with clients(upstream, tmp_path) as (client, _, __):
        await client.chat.completions.create(model="m", messages=messages)
    assert json.loads(upstream.last.body)["messages"][0]["content"][1] == image


async def test_the_clients_own_retry(upstream: FakeUpstream, tmp_path: Path) -> None:
    """A 429 reaches the client with its headers; the client waits and tries again, once."""
    refused: list[str] = []

    async def busy(request: Received, reply: Reply) -> None:
        if request.target not in refused:
            refused.append(request.target)
            await reply.json({"error": {"message": "slow down"}}, status=429, retry_after_ms="10")
        else:
            await provider(request, reply)

    upstream.handler = busy
    async with clients(upstream, tmp_path, retries=2) as (first, second, _):
        await first.chat.completions.create(model="m", messages=USER)
        await second.messages.create(model="m", max_tokens=9, messages=USER)
    assert [request.target for request in upstream.received] == [
        "/v1/chat/completions", "/v1/chat/completions", "/v1/messages", "/v1/messages",
    ]  # fmt: skip
    assert upstream.received[0].body == upstream.received[1].body


async def test_errors_are_the_clients_own_types(upstream: FakeUpstream, tmp_path: Path) -> None:
    async def fail(request: Received, reply: Reply) -> None:
        await reply.json({"error": {"message": "boom", "type": "server_error"}}, status=500)

    upstream.handler = fail
    async with clients(upstream, tmp_path) as (first, second, _):
        with pytest.raises(openai.InternalServerError, match="boom"):
            await first.chat.completions.create(model="m", messages=USER)
        with pytest.raises(anthropic.InternalServerError, match="boom"):
            await second.messages.create(model="m", max_tokens=9, messages=USER)
        wrong = {"x-ctxpress-keep-ratio": "7"}
        with pytest.raises(openai.BadRequestError, match="keep-ratio"):
            await first.chat.completions.create(model="m", messages=USER, extra_headers=wrong)
        with pytest.raises(anthropic.BadRequestError, match="keep-ratio"):
            await second.messages.create(
                model="m", max_tokens=9, messages=USER, extra_headers=wrong
            )


async def test_broken_streams_raise_in_the_clients(upstream: FakeUpstream, tmp_path: Path) -> None:
    async def die(request: Received, reply: Reply) -> None:
        await reply.begin_stream()
        await reply.chunk(streamed(request.target, False)[0])
        await asyncio.sleep(0.05)
        reply.die()

    upstream.handler = die
    message = re.escape("upstream 'main' broke off in mid-answer")
    async with clients(upstream, tmp_path) as (first, second, _):
        stream = await first.chat.completions.create(model="m", messages=USER, stream=True)
        with pytest.raises(openai.APIError, match=message):
            [part async for part in stream]
        events = await first.responses.create(model="m", input=LONG, stream=True)
        with pytest.raises(openai.APIError, match=message):
            [part async for part in events]
        with pytest.raises(anthropic.APIStatusError, match=message):
            [
                part
                async for part in await second.messages.create(
                    model="m", max_tokens=9, messages=USER, stream=True
                )
            ]
