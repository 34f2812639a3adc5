"""A worker behind the proxy: documents go as references, and to the worker that knows them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ctxpress_proxy.replicas import Replicas

from ctxpress.assembly import create_compressor
from ctxpress.config import Config
from ctxpress.engine.parallel import Mixing
from ctxpress.engine.scheduler import SchedulerLimits
from ctxpress.engine.worker import Worker, WorkerOptions
from ctxpress.errors import ConfigError
from tests.engine.small_worker import byte_model, serving
from tests.proxy.running import RunningProxy, running_proxy

MIXING = Mixing(temperature=0.9, scale=0.9)
DOCUMENTS = [f'<document id="{n}">\nFact {n} is {n * 7}.\n</document>\n' for n in range(4)]


def configuration(*urls: str, stages: list[dict[str, Any]] | None = None) -> Config:
    return Config.model_validate(
        {
            "version": 1,
            "auth": "passthrough",
            "store": "memory://",
            "upstreams": {"gpu": {"kind": "worker", "base_urls": list(urls), "max_retries": 0}},
            "pipelines": {"kv": {"min_tokens": 0, "stages": stages or [{"use": "kv_reuse"}]}},
            "tenants": {"default": {"upstream": "gpu", "pipeline": "kv"}},
        }
    )


def question(*documents: int, **more: Any) -> dict[str, Any]:
    content = "".join(DOCUMENTS[n] for n in documents) + "\nWhat is it?"
    return {
        "model": "small", "messages": [{"role": "user", "content": content}],
        "max_tokens": 6, "temperature": 0, **more,
    }  # fmt: skip


@pytest.fixture
def two_workers() -> Iterator[list[tuple[str, Worker]]]:
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(serving(WorkerOptions(mixing=MIXING), model=byte_model()))
            for _ in range(2)
        ]


@contextlib.asynccontextmanager
async def proxied(config: Config, state_dir: Path) -> AsyncIterator[RunningProxy]:
    """The proxy with its real pipelines."""
    compressor = create_compressor(config)
    async with running_proxy(config, state_dir, compressor) as proxy:  # type: ignore[arg-type]
        yield proxy
    await compressor.aclose()


async def asked(url: str, body: dict[str, Any]) -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=60) as http:
        answer = await http.post(f"{url}/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_documents_are_found_again_in_any_combination(
    two_workers: list[tuple[str, Worker]], tmp_path: Path
) -> None:
    async with proxied(configuration(*(url for url, _ in two_workers)), tmp_path) as proxy:
        first = await asked(proxy.url, question(0, 1))
        again = await asked(proxy.url, question(0, 1))
        turned = await asked(proxy.url, question(1, 0))
    assert first["ctxpress"]["documents"] == 2
    assert first["ctxpress"]["cached_documents"] == 0
    assert again["ctxpress"]["cached_documents"] == 2
    assert again["choices"] == first["choices"]
    assert turned["ctxpress"]["cached_documents"] == 2


async def test_a_worker_that_is_gone_costs_a_retry_and_no_answer(
    two_workers: list[tuple[str, Worker]], tmp_path: Path
) -> None:
    dead = "http://127.0.0.1:9"
    for living, _ in two_workers[:1]:
        for order in ((dead, living), (living, dead)):
            async with proxied(configuration(*order), tmp_path) as proxy:
                for n in range(4):
                    found = await asked(proxy.url, question(n))
                    assert found["ctxpress"]["documents"] == 1


async def test_a_full_worker_sends_its_requests_to_the_next(tmp_path: Path) -> None:
    full = WorkerOptions(mixing=MIXING, limits=SchedulerLimits(max_rows=1, max_waiting=0))
    with serving(full) as (busy, _), serving(WorkerOptions(mixing=MIXING)) as (free, _):
        body = question(0, max_tokens=1500, stream=True, logit_bias={"2": -100})
        async with httpx.AsyncClient(timeout=60) as http:
            async with http.stream("POST", f"{busy}/v1/chat/completions", json=body) as held:
                events = held.aiter_bytes()  # held: the connection may end with it
                await anext(events)
                config = configuration(busy, free)
                async with proxied(config, tmp_path) as proxy:
                    for n in range(4):
                        assert (await asked(proxy.url, question(n)))["usage"]


async def test_without_documents_a_worker_is_an_upstream_like_others(
    two_workers: list[tuple[str, Worker]], tmp_path: Path
) -> None:
    url, _ = two_workers[0]
    body = {"model": "small", "messages": [{"role": "user", "content": "Hello."}], "max_tokens": 3}
    async with proxied(configuration(url), tmp_path) as proxy:
        found = await asked(proxy.url, body)
        async with httpx.AsyncClient() as http:
            models = (await http.get(f"{proxy.url}/v1/models")).json()
    assert found["ctxpress"]["kv_reuse"] == "prefix"
    assert models["data"][0]["id"] == "small"


def test_a_question_aware_stage_before_references_is_a_configuration_error() -> None:
    stages = [{"use": "restructure", "keep_ratio": 0.4}, {"use": "kv_reuse"}]
    with pytest.raises(ConfigError, match=r"stage 1 restructure; no KV would repeat"):
        create_compressor(configuration("http://127.0.0.1:1", stages=stages))


def test_the_same_documents_find_the_same_worker_and_few_move_with_one_more() -> None:
    bases = [f"http://10.0.0.{n}:9000" for n in range(5)]
    keys = [f"document {n}" for n in range(400)]
    before = {key: Replicas(bases).order([(key, 1)])[0] for key in keys}
    assert before == {key: Replicas(bases[::-1]).order([(key, 1)])[0] for key in keys}
    after = {key: Replicas([*bases, "http://10.0.0.9:9000"]).order([(key, 1)])[0] for key in keys}
    moved = [key for key in keys if before[key] != after[key]]
    assert all(after[key] == "http://10.0.0.9:9000" for key in moved)
    assert len(moved) < len(keys) / 3
    assert min(list(before.values()).count(base) for base in bases) > 400 / 5 / 2


def test_long_documents_decide_and_failures_are_asked_last() -> None:
    replicas = Replicas([f"http://10.0.0.{n}:9000" for n in range(5)])
    (alone, *_) = replicas.order([("long", 1)])
    votes = [("long", 1000), *((f"short {n}", 1) for n in range(20))]
    assert replicas.order(votes)[0] == alone
    replicas.failed(alone)
    assert replicas.order(votes)[-1] == alone
    replicas.answered(alone)
    assert replicas.order(votes)[0] == alone
