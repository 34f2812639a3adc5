"""The whole chain: a chat, the proxy, documents each read by itself, and a real vLLM server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ctxpress.assembly import create_compressor
from ctxpress.config import Config
from ctxpress.engine.reference import reference_model_dir
from ctxpress.evaluation.kv_tasks import ContextTask, generate_tasks
from tests.proxy.running import RunningProxy, running_proxy
from tests.vllm.servers import BLOCK_SIZE, VllmServer, cached_tokens

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# The tasks' documents as they stand in a text.
PATTERN = r"(?P<text>Document: (?P<title>\w+)\n(?:(?!Document: |Question: ).*\n)+)"
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
DEAD = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference model's tokenizer, with a chat template that adds nothing."""
    folder = tmp_path_factory.mktemp("tokenizer")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((reference_model_dir() / name).read_bytes())
    (folder / "chat_template.jinja").write_text(TEMPLATE, "utf-8")
    return folder


@pytest.fixture
async def proxy(exact: VllmServer, folder: Path, tmp_path: Path) -> AsyncIterator[RunningProxy]:
    """In front of the server, and of one that is not there."""
    parallel = {"tokenizer": str(folder), "block_tokens": BLOCK_SIZE, "temperature": 1.25}
    upstream = {
        "kind": "vllm", "base_urls": [exact.url, DEAD],
        "parallel": {**parallel, "encode_timeout_ms": 60_000},
    }  # fmt: skip
    pipeline = {"min_tokens": 0, "document_pattern": PATTERN, "stages": [{"use": "kv_reuse"}]}
    config = Config.model_validate(
        {
            "version": 1,
            "auth": "passthrough",
            "store": "memory://",
            "upstreams": {"cluster": upstream},
            "pipelines": {"kv": pipeline},
            "tenants": {"default": {"upstream": "cluster", "pipeline": "kv"}},
        }
    )
    compressor = create_compressor(config)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(compressor.aclose)
        yield await stack.enter_async_context(
            running_proxy(config, tmp_path, compressor)  # type: ignore[arg-type]
        )


def request(task: ContextTask, order: list[int], question: int, **more: Any) -> dict[str, Any]:
    documents = "".join(task.documents[n] for n in order)
    content = task.prefix + documents + task.questions[question]
    messages = [{"role": "user", "content": content}]
    return {
        "model": "reference", "messages": messages, "temperature": 0, "max_tokens": 4, **more,
    }  # fmt: skip


async def answered(http: httpx.AsyncClient, url: str, body: dict[str, Any]) -> httpx.Response:
    answer = await http.post(f"{url}/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-ctxpress-kv"] == "parallel", answer.headers
    return answer


async def loaded_answer(
    http: httpx.AsyncClient, url: str, body: dict[str, Any]
) -> tuple[dict[str, Any], int]:
    """The first answer for which documents were loaded, and how many came before it.

    A document is stored behind its answer, which takes a moment.
    """
    for n_before in range(200):
        value: dict[str, Any] = (await answered(http, url, body)).json()
        if cached_tokens(value):
            return value, n_before
        await asyncio.sleep(0.5)
    raise AssertionError("documents are not stored")


async def test_documents_are_read_once_and_answer_questions_in_any_order(
    proxy: RunningProxy,
) -> None:
    tasks = generate_tasks("retrieval", n_documents=6, n_tasks=3, seed=77, n_questions=4)
    orders = ([0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4], [2, 4, 0, 5, 1, 3], [4, 5, 0, 1, 3, 2])
    right, waited = [], 0
    async with httpx.AsyncClient(timeout=120) as http:
        for task in tasks:
            for question, order in enumerate(orders):
                body = request(task, order, question)
                value, n_before = await loaded_answer(http, proxy.url, body)
                waited += n_before if question else 0
                assert cached_tokens(value) % BLOCK_SIZE == 0
                said = value["choices"][0]["message"]["content"]
                right.append(said.strip().startswith(task.answers[question]))
        metrics = (await http.get(f"{proxy.url}/metrics")).text
    assert 'kv_documents_total{outcome="done",upstream="cluster"} 18.0' in metrics
    assert waited == 0
    assert sum(right) >= 0.8 * len(right)


async def test_a_stream_says_what_a_whole_answer_says(proxy: RunningProxy) -> None:
    (task,) = generate_tasks("retrieval", n_documents=4, n_tasks=1, seed=78, n_questions=1)
    more = {"logprobs": True, "top_logprobs": 2}
    body = request(task, [0, 1, 2, 3], 0, **more)
    async with httpx.AsyncClient(timeout=120) as http:
        value, _ = await loaded_answer(http, proxy.url, body)
        whole = value["choices"][0]
        options = {"stream": True, "stream_options": {"include_usage": True}}
        stream = await answered(http, proxy.url, {**body, **options})
    *lines, done = [line for line in stream.text.split("\n\n") if line]
    assert done == "data: [DONE]"
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    choices = [event["choices"][0] for event in events if event["choices"]]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(choice["delta"]["content"] for choice in choices)
    assert text == whole["message"]["content"]
    tokens = [t["token"] for c in choices if c["logprobs"] for t in c["logprobs"]["content"]]
    assert tokens == [token["token"] for token in whole["logprobs"]["content"]]
    assert "".join(tokens).startswith(text)  # which the token that ended it is no part of
    assert all(len(token["top_logprobs"]) == 2 for token in whole["logprobs"]["content"])
    assert choices[-1]["finish_reason"] == whole["finish_reason"]
    assert cached_tokens(events[-1]) > 0
