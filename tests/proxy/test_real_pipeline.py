"""The proxy with its real pipelines and the bundled model, over sockets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from ctxpress_proxy import create_app
from ctxpress_proxy.settings import ProxySettings

from ctxpress.config import Config
from tests.conversations import anthropic_requests, forwarded_blocks, openai_requests, prose
from tests.proxy.running import RunningProxy, fetch
from tests.proxy.upstream import FakeUpstream

PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
REQUESTS = {"openai": openai_requests, "anthropic": anthropic_requests}
SHORT_OF_TIME = {"min_tokens": 50, "deadline_ms": 1}
IN_TIME = {"min_tokens": 50, "deadline_ms": 20_000}


class Proxies:
    """One proxy after another over the same state folder."""

    def __init__(self, upstream: FakeUpstream, folder: Path) -> None:
        self._upstream = upstream
        self._folder = folder
        self._running: RunningProxy | None = None

    async def start(self, keep_ratio: float, **pipeline: Any) -> RunningProxy:
        self.stop()
        stage = {"use": "token_classification", "keep_ratio": keep_ratio}
        config = Config.model_validate(
            {
                "version": 1,
                "auth": "passthrough",
                "store": f"disk://{self._folder}/store",
                "upstreams": {"main": {"base_url": self._upstream.url}},
                "pipelines": {"rag": {"stages": [stage], **pipeline}},
                "tenants": {"default": {"upstream": "main", "mode": "on", "pipeline": "rag"}},
            }
        )
        settings = ProxySettings(state_dir=self._folder, secret=b"s" * 32)
        self._running = RunningProxy(create_app(config, settings=settings))
        self._running.thread.start()
        while not self._running.server.started:
            assert self._running.thread.is_alive(), "the proxy did not start"
        return self._running

    def stop(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running.thread.join()
            self._running = None


@pytest.fixture
async def proxies(upstream: FakeUpstream, tmp_path: Path):
    made = Proxies(upstream, tmp_path)
    yield made
    made.stop()


@pytest.mark.parametrize("api", PATHS)
async def test_a_growing_conversation_forwards_an_identical_prefix(
    api: str, proxies: Proxies, upstream: FakeUpstream
) -> None:
    requests = REQUESTS[api](20)
    sent: list[Any] = []
    compressed = []
    for number, request in enumerate(requests):
        if number % 8 == 0:  # a restart; now and then without enough time; later another ratio
            late = number >= len(requests) // 2
            hurried = SHORT_OF_TIME if number % 16 == 8 else IN_TIME
            proxy = await proxies.start(0.4 if late else 0.6, **hurried)
        status, _, _ = await fetch(proxy.url + PATHS[api], data=orjson.dumps(request))
        assert status == 200
        now = forwarded_blocks(orjson.loads(upstream.last.body))
        before = forwarded_blocks(request)
        assert len(now) == len(before)
        assert now[: len(sent)] == sent
        if now[len(sent) :] != before[len(sent) :]:
            compressed.append(number)
        sent = now
    assert compressed == [n for n in range(40) if n % 16 < 8]


async def test_what_is_compressed_is_reported_in_the_headers(
    proxies: Proxies, upstream: FakeUpstream
) -> None:
    proxy = await proxies.start(0.5, **IN_TIME)
    request = openai_requests(1)[0]
    _, headers, _ = await fetch(proxy.url + PATHS["openai"], data=orjson.dumps(request))
    before = int(headers["x-ctxpress-tokens-before"])
    after = int(headers["x-ctxpress-tokens-after"])
    assert after < 0.7 * before
    assert headers["x-ctxpress-stages"] == "token_classification"
    assert len(upstream.last.body) < len(orjson.dumps(request))


async def test_tools_images_and_unknown_blocks_arrive_as_they_were(
    proxies: Proxies, upstream: FakeUpstream
) -> None:
    proxy = await proxies.start(0.5, **IN_TIME)
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    strange = {"type": "hologram", "data": [1, 2.50, {"z": None}]}
    content = [{"type": "text", "text": prose("x", 60)}, image, strange]
    question = {"type": "text", "text": "What is in the picture?"}
    tools = [{"type": "function", "function": {"name": "f", "description": prose("t", 40)}}]
    body = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": [*content, question]}],
        "tools": tools,
    }
    await fetch(proxy.url + PATHS["openai"], data=orjson.dumps(body))
    received = orjson.loads(upstream.last.body)
    assert received["tools"] == tools
    assert received["messages"][0]["content"][1:] == [image, strange, question]
    assert len(received["messages"][0]["content"][0]["text"]) < len(prose("x", 60))


async def test_litellms_guardrail_contract(proxies: Proxies) -> None:
    proxy = await proxies.start(0.5, **IN_TIME)
    messages = openai_requests(1)[0]["messages"]
    asked = {"messages": messages, "model": "gpt-4o", "config": {"mode": "ccr"}}
    status, _, answer = await fetch(f"{proxy.url}/v1/compress", data=orjson.dumps(asked))
    assert status == 200
    result = orjson.loads(answer)
    assert [m["role"] for m in result["messages"]] == [m["role"] for m in messages]
    assert result["tokens_saved"] == result["tokens_before"] - result["tokens_after"] > 0
    assert result["transforms_applied"] == ["token_classification"]


async def test_documents_are_compressed_for_rag(proxies: Proxies) -> None:
    proxy = await proxies.start(0.5, **IN_TIME)
    documents = [{"id": "a", "title": "Boiler", "text": prose("a", 30)}, {"text": prose("b", 30)}]
    asked = {"documents": documents, "question": "When is the offer valid?"}
    status, _, answer = await fetch(f"{proxy.url}/v1/compress", data=orjson.dumps(asked))
    assert status == 200, answer
    result = orjson.loads(answer)
    assert [d["id"] for d in result["documents"]] == ["a", "1"]
    assert result["tokens_after"] < result["tokens_before"]
