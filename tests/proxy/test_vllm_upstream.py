"""vLLM behind the proxy: requests find their replica, and documents go each read by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import orjson
import pytest
from ctxpress_proxy.server import start_up_notes

from ctxpress.assembly import create_compressor
from ctxpress.config import Config
from ctxpress.errors import ConfigError
from tests.engine.small_worker import byte_tokenizer
from tests.proxy.running import RunningProxy, running_proxy
from tests.proxy.vllm_server import ANSWER, VllmApp, served

DOCUMENTS = [f'<document id="{n}">\nFact {n} is {n * 7}.\n</document>\n' for n in range(4)]
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@dataclass
class Cluster:
    """Two replicas over one store, and a folder with their model's tokenizer."""

    apps: list[VllmApp]
    urls: list[str]
    folder: Path

    def config(self, *urls: str, parallel: dict[str, Any] | None = None, **more: Any) -> Config:
        """``parallel``: what differs from a working one; ``{}`` is none of it."""
        settings = {"tokenizer": str(self.folder), "temperature": 1.25, **(parallel or {})}
        upstream = {"kind": "vllm", "base_urls": list(urls or self.urls), "max_retries": 0}
        if parallel is not None:
            upstream["parallel"] = settings
        return Config.model_validate(
            {
                "version": 1,
                "auth": "passthrough",
                "store": "memory://",
                "upstreams": {"cluster": upstream},
                "pipelines": {"kv": {"min_tokens": 0, "stages": [{"use": "kv_reuse"}]}},
                "tenants": {"default": {"upstream": "cluster", "pipeline": "kv"}},
                **more,
            }
        )

    def bodies(self, path: str, *, encode: bool | None = None) -> list[dict[str, Any]]:
        return [body for app in self.apps for body in app.bodies(path, encode=encode)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def cluster(folder: Path) -> Iterator[Cluster]:
    stored: set[tuple[int, ...]] = set()
    apps = [VllmApp(byte_tokenizer().backend_tokenizer, stored) for _ in range(2)]
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(served(app)) for app in apps]
        yield Cluster(apps, urls, folder)


@contextlib.asynccontextmanager
async def proxied(config: Config, state_dir: Path) -> AsyncIterator[RunningProxy]:
    """The proxy with its real pipelines."""
    compressor = create_compressor(config)
    async with running_proxy(config, state_dir, compressor) as proxy:  # type: ignore[arg-type]
        yield proxy
    await compressor.aclose()


def question(*documents: int, **more: Any) -> dict[str, Any]:
    content = "".join(DOCUMENTS[n] for n in documents) + "\nWhat is it?"
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]
    return {"model": "small", "messages": messages, "max_tokens": 6, "temperature": 0, **more}


async def posted(url: str, body: dict[str, Any], path: str = CHAT) -> httpx.Response:
    headers = {"content-type": "application/json"}
    async with httpx.AsyncClient(timeout=60) as http:
        return await http.post(url + path, content=orjson.dumps(body), headers=headers)


def text_of(tokens: list[int]) -> str:
    text: str = byte_tokenizer().decode([token for token in tokens if token != 0])
    return text


async def test_documents_are_encoded_once_and_then_loaded_in_any_combination(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with proxied(cluster.config(parallel={}), tmp_path) as proxy:
        for numbers in ((0, 1), (1, 0), (0, 1)):
            answer = await posted(proxy.url, question(*numbers))
            assert answer.headers["x-ctxpress-kv"] == "parallel"
            value = answer.json()
            assert value["choices"][0]["message"]["content"] == ANSWER
            loaded = value["usage"]["prompt_tokens_details"]["cached_tokens"]
            assert loaded % 16 == 0
            assert loaded > len("".join(DOCUMENTS[:2]))
        async with httpx.AsyncClient() as http:
            metrics = (await http.get(f"{proxy.url}/metrics")).text
    assert len(cluster.bodies(COMPLETIONS, encode=True)) == 2
    assert 'kv_documents_total{outcome="done",upstream="cluster"} 2.0' in metrics
    assert 'kv_requests_total{path="parallel",upstream="cluster"} 3.0' in metrics
    assert not cluster.bodies(CHAT)


async def test_vllm_reads_the_prompt_that_its_chat_template_would_have_made(
    cluster: Cluster, tmp_path: Path
) -> None:
    body = question(2, 0, max_tokens=None)
    async with proxied(cluster.config(parallel={}), tmp_path) as proxy:
        await posted(proxy.url, body)
    (sent,) = cluster.bodies(COMPLETIONS, encode=False)
    wanted = byte_tokenizer().apply_chat_template(
        body["messages"], tokenize=False, add_generation_prompt=True
    )
    assert text_of(sent["prompt"]) == wanted
    own = sent["kv_transfer_params"]["ctxpress"]
    assert own["temperature"] == 1.25
    assert len(own["document_tokens"]) == 2
    assert len(sent["prompt"]) + sent["max_tokens"] == 4096  # all of the window, as in a chat
    assert sent["cache_salt"]
    encoded = cluster.bodies(COMPLETIONS, encode=True)
    assert all(one["max_tokens"] == 1 and "cache_salt" not in one for one in encoded)


ASKED: list[dict[str, Any]] = [
    {}, {"logprobs": True}, {"logprobs": True, "top_logprobs": 2}, {"n": 2},
]  # fmt: skip


async def test_answers_have_the_shape_of_a_chat(cluster: Cluster, tmp_path: Path) -> None:
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    async with proxied(cluster.config(parallel={}), tmp_path) as proxy:
        for more in [*ASKED, *(one | stream for one in ASKED)]:
            reshaped = await posted(proxy.url, question(0, 1, **more))
            direct = await posted(cluster.urls[0], question(0, 1, **more))
            assert reshaped.headers["x-ctxpress-kv"] == "parallel", more
            assert reshaped.headers["content-type"] == direct.headers["content-type"], more
            assert shape(reshaped) == shape(direct), more


def shape(answer: httpx.Response) -> list[Any]:
    """An answer's events, or itself, without counts; events of one choice after the other."""
    if "json" in answer.headers["content-type"]:
        events = [answer.json()]
    else:
        *lines, done = [line for line in answer.text.split("\n\n") if line]
        assert done == "data: [DONE]"
        events = [orjson.loads(line.removeprefix("data: ")) for line in lines]
        events.sort(key=lambda e: [c["index"] for c in e["choices"]] or [99])
    for value in events:
        value.pop("kv_transfer_params", None)
        if value.get("usage"):
            value["usage"] = sorted(value["usage"])
    return events


async def test_the_official_client_reads_both_kinds_of_answers(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with proxied(cluster.config(parallel={}), tmp_path) as proxy:
        async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="k") as client:
            body = question(0, 1, logprobs=True, top_logprobs=1)
            whole = await client.chat.completions.create(**body)
            stream = await client.chat.completions.create(**body, stream=True)
            chunks = [chunk async for chunk in stream]
        with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="k") as sync:
            again = await asyncio.to_thread(sync.chat.completions.create, **body)
    assert whole.choices[0].message.content == again.choices[0].message.content == ANSWER
    assert whole.id.startswith("chatcmpl-")
    assert whole.choices[0].finish_reason == "stop"
    assert whole.choices[0].logprobs is not None
    tokens = whole.choices[0].logprobs.content or []
    assert [token.logprob for token in tokens] == [-0.5] * len(ANSWER.encode())
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == ANSWER
    assert chunks[-1].choices[0].finish_reason == "stop"
    sent = [headers for app in cluster.apps for headers in app.headers]
    assert all(headers["authorization"] == "Bearer k" for headers in sent)


async def test_completions_with_documents_go_in_parallel_too(
    cluster: Cluster, tmp_path: Path
) -> None:
    prompt = "".join(DOCUMENTS[:2]) + "\nWhat is it?"
    async with proxied(cluster.config(parallel={}), tmp_path) as proxy:
        body = {"model": "small", "prompt": prompt, "seed": 5}
        answer = await posted(proxy.url, body, COMPLETIONS)
    assert answer.headers["x-ctxpress-kv"] == "parallel"
    assert answer.json()["choices"][0]["text"] == ANSWER
    (sent,) = cluster.bodies(COMPLETIONS, encode=False)
    assert text_of(sent["prompt"]) == prompt
    assert (sent["seed"], sent["max_tokens"]) == (5, 16)


TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}


PLAIN: list[tuple[dict[str, Any], str]] = [
    ({"tools": [TOOL]}, "tools"),
    ({"reasoning_effort": "low"}, "field"),
    ({"cache_salt": "mine"}, "field"),
    ({"chat_template_kwargs": {"tokenize": True}}, "field"),
    ({"model": "adapter"}, "model"),
    ({"max_tokens": 4000}, "too_long"),
]


async def test_what_a_completion_cannot_do_takes_the_plain_path(
    cluster: Cluster, tmp_path: Path
) -> None:
    bodies = [question(0, 1, **more) for more, _ in PLAIN]
    async with proxied(cluster.config(parallel={}), tmp_path) as proxy:
        for body, (_, reason) in zip(bodies, PLAIN, strict=True):
            answer = await posted(proxy.url, body)
            assert answer.status_code == 200, reason
            assert answer.headers["x-ctxpress-kv"] == "plain", reason
            assert answer.headers["x-ctxpress-kv-reason"] == reason
    sent = [body for app in cluster.apps for path, body in app.requests if path == CHAT]
    assert sorted(sent) == sorted(map(orjson.dumps, bodies))  # byte for byte
    assert not cluster.bodies(COMPLETIONS)


async def test_pictures_and_tool_calls_among_the_messages_take_the_plain_path(
    cluster: Cluster, tmp_path: Path
) -> None:
    picture = {"role": "user", "content": [{"type": "text", "text": "See."}, PICTURE]}
    called = {"role": "tool", "tool_call_id": "1", "content": "42"}
    async with proxied(cluster.config(parallel={}), tmp_path) as proxy:
        for message, reason in ((picture, "content"), (called, "tools")):
            body = question(0, 1)
            body["messages"].append(message)
            answer = await posted(proxy.url, body)
            assert answer.headers["x-ctxpress-kv-reason"] == reason
    assert len(cluster.bodies(CHAT)) == 2


async def test_an_error_is_the_one_that_the_chat_gives(cluster: Cluster, tmp_path: Path) -> None:
    body = question(0, 1, temperature=99)
    async with proxied(cluster.config(parallel={}), tmp_path) as proxy:
        answer = await posted(proxy.url, body)
    direct = await posted(cluster.urls[0], body)
    assert (answer.status_code, answer.content) == (400, direct.content)
    assert answer.headers["x-ctxpress-kv-reason"] == "refused"


async def test_encoding_that_takes_too_long_costs_one_request_its_reuse(
    cluster: Cluster, tmp_path: Path
) -> None:
    for app in cluster.apps:
        app.encode_s = 0.6
    config = cluster.config(parallel={"encode_timeout_ms": 50})
    async with proxied(config, tmp_path) as proxy:
        late = await posted(proxy.url, question(0, 1))
        assert late.headers["x-ctxpress-kv-reason"] == "not_encoded"
        assert late.json()["choices"][0]["message"]["content"] == ANSWER
        await asyncio.sleep(1)  # it went on being encoded
        answer = await posted(proxy.url, question(0, 1))
        assert answer.headers["x-ctxpress-kv"] == "parallel"
    assert len(cluster.bodies(COMPLETIONS, encode=True)) == 2


async def test_requests_that_wait_for_a_document_share_one_encoding(
    cluster: Cluster, tmp_path: Path
) -> None:
    for app in cluster.apps:
        app.encode_s = 0.2
    async with proxied(cluster.config(parallel={}), tmp_path) as proxy:
        answers = await asyncio.gather(*(posted(proxy.url, question(0)) for _ in range(5)))
    assert [answer.headers["x-ctxpress-kv"] for answer in answers] == ["parallel"] * 5
    assert len(cluster.bodies(COMPLETIONS, encode=True)) == 1


async def test_a_replica_that_is_gone_costs_no_answer(cluster: Cluster, tmp_path: Path) -> None:
    dead = "http://127.0.0.1:9"
    for urls in ((dead, cluster.urls[0]), (cluster.urls[0], dead)):
        async with proxied(cluster.config(*urls, parallel={}), tmp_path) as proxy:
            for n in range(4):
                answer = await posted(proxy.url, question(n))
                assert answer.headers["x-ctxpress-kv"] == "parallel"
                plain = await posted(proxy.url, question())
                assert plain.status_code == 200


async def test_a_stream_that_breaks_off_ends_with_an_error(
    cluster: Cluster, tmp_path: Path
) -> None:
    for app in cluster.apps:
        app.break_after = 1
    async with proxied(cluster.config(parallel={}), tmp_path) as proxy:
        async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="k") as client:
            stream = await client.chat.completions.create(**question(0), stream=True)
            with pytest.raises(openai.APIError):
                async for _ in stream:
                    pass


async def test_documents_that_the_store_lost_are_encoded_again(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctxpress_proxy.vllm.encoding._FORGET_AGAIN_S", 0)
    async with proxied(cluster.config(parallel={}), tmp_path) as proxy:
        await posted(proxy.url, question(0, 1))
        cluster.apps[0].stored.clear()
        lost = await posted(proxy.url, question(0, 1))
        assert lost.json()["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        again = await posted(proxy.url, question(0, 1))
        assert again.json()["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


async def test_without_the_setting_documents_go_as_text_and_byte_identical(
    cluster: Cluster, tmp_path: Path
) -> None:
    body = orjson.dumps(question(0, 1))
    async with proxied(cluster.config(), tmp_path) as proxy:
        async with httpx.AsyncClient() as http:
            answer = await http.post(proxy.url + CHAT, content=body)
    assert "x-ctxpress-kv" not in answer.headers
    assert [(p, b) for app in cluster.apps for p, b in app.requests] == [(CHAT, body)]


async def test_a_tokenizer_that_is_not_there_is_an_error_at_the_start(
    cluster: Cluster, tmp_path: Path
) -> None:
    config = cluster.config(parallel={"tokenizer": str(tmp_path / "none")})
    compressor = create_compressor(config)
    from ctxpress_proxy import create_app
    from ctxpress_proxy.settings import ProxySettings

    settings = ProxySettings(state_dir=tmp_path, secret=b"s" * 32)
    app = create_app(config, compressor, settings=settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"upstreams\.cluster\.parallel\.tokenizer: .*none"):
        await app.start()
    await compressor.aclose()


def test_parallel_documents_are_announced_at_the_start(cluster: Cluster) -> None:
    (note,) = start_up_notes(cluster.config(parallel={}), "127.0.0.1")
    assert "upstream cluster: documents are read in parallel" in note
    assert note.endswith("T = 1.25")
    assert start_up_notes(cluster.config(), "127.0.0.1") == []


def test_settings_of_vllm_are_for_vllm() -> None:
    parallel = {"tokenizer": "folder"}
    for kind, more in (("openai", {"parallel": parallel}), ("anthropic", {})):
        upstream = {"kind": kind, "base_urls": ["http://a"], **more}
        with pytest.raises(ValueError, match=r"kind: vllm"):
            Config.model_validate({"version": 1, "upstreams": {"u": upstream}})
    alone = {"kind": "openai", "base_url": "http://a", "parallel": parallel}
    with pytest.raises(ValueError, match=r"parallel is for kind: vllm"):
        Config.model_validate({"version": 1, "upstreams": {"u": alone}})
