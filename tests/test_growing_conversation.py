"""Law 3, end to end: a growing conversation forwards a byte-identical prefix every turn."""

from __future__ import annotations

import asyncio
import itertools

import orjson
import pytest
from pydantic import BaseModel, ConfigDict

from ctxpress.assembly import create_compressor
from ctxpress.cache.key import Namespace
from ctxpress.compressor import RequestPolicy
from ctxpress.config import Config
from ctxpress.hookspecs import hookimpl
from ctxpress.manager import create_plugin_manager
from tests.conversations import anthropic_requests, forwarded_blocks, openai_requests
from tests.core.stages import EveryOtherWord

TENANT = Namespace.derive(b"secret", "acme")
SHAPES = {
    "openai_chat": openai_requests,
    "anthropic_messages": anthropic_requests,
}


class FlakyOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    every: int = 3
    keep_ratio: float = 0.5


class FlakyPlugin:
    """A stage that runs into its deadline every few calls."""

    def __init__(self, *, query_aware):
        self.query_aware = query_aware
        self.calls = itertools.count(1)

    @hookimpl
    def register_stages(self, register):
        register("flaky", lambda config, resources: self.stage(config), FlakyOptions)

    def stage(self, config):
        plugin = self

        class Flaky(EveryOtherWord):
            identity = f"flaky:{config.every}"

            async def apply(self, document, context):
                if next(plugin.calls) % config.every == 0:
                    await asyncio.sleep(60)
                return await super().apply(document, context)

        return Flaky(query_aware=plugin.query_aware, keep_ratio=config.keep_ratio)


def configuration(store, stage):
    return Config.model_validate(
        {
            "version": 1,
            "store": store,
            "pipelines": {"rag": {"min_tokens": 50, "deadline_ms": 150, "stages": [stage]}},
        }
    )


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_forwarded_prefix_never_changes(shape, tmp_path):
    requests = SHAPES[shape](20)
    # Where every block precedes a cache_control, question-aware stages would never run.
    plugin = FlakyPlugin(query_aware=shape == "openai_chat")
    sent: list = []
    compressed_turns = set()
    compressor = None
    for number, request in enumerate(requests):
        if number % 5 == 0:  # a restart over the same disk store
            if compressor is not None:
                await compressor.aclose()
            late = number >= len(requests) // 2  # a configuration change in the middle
            stage = {"use": "flaky", "every": 4 if late else 3, "keep_ratio": 0.4 if late else 0.5}
            compressor = create_compressor(
                configuration(f"disk://{tmp_path}/store", stage),
                manager=create_plugin_manager(plugins=[plugin]),
            )
        raw = orjson.dumps(request)
        policy = RequestPolicy(namespace=TENANT, pipeline="rag", mode="on")
        result = await compressor.compress_body(shape, raw, policy)
        before = forwarded_blocks(request)
        now = forwarded_blocks(orjson.loads(result.body))
        assert len(now) == len(before)
        assert now[: len(sent)] == sent
        if now[len(sent) :] != before[len(sent) :]:
            compressed_turns.add(number)
        sent = now
    await compressor.aclose()
    assert len(compressed_turns) > 25
    assert max(compressed_turns) >= len(requests) - 2


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_lost_store_changes_nothing_but_is_counted(shape):
    first, later = SHAPES[shape](2)[1], SHAPES[shape](2)[2]
    policy = RequestPolicy(namespace=TENANT, pipeline="rag", mode="on")
    stage = {"use": "token_classification", "keep_ratio": 0.5}
    compressor = create_compressor(configuration("memory://", stage))
    await compressor.compress_body(shape, orjson.dumps(first), policy)
    await compressor.aclose()
    compressor = create_compressor(configuration("memory://", stage))
    result = await compressor.compress_body(shape, orjson.dumps(later), policy)
    await compressor.aclose()
    earlier = forwarded_blocks(first)
    assert forwarded_blocks(orjson.loads(result.body))[: len(earlier)] == earlier
    assert result.report.cache_risk_blocks > 0


async def test_replicas_over_one_redis_forward_the_same_prefix_also_while_it_is_away(redis_server):
    """Two replicas take turns; for a while the server is stopped; then it is back."""
    requests = openai_requests(8)
    plugins = [create_plugin_manager(plugins=[FlakyPlugin(query_aware=False)]) for _ in range(2)]
    stage = {"use": "flaky", "every": 5}
    replicas = [
        create_compressor(configuration(redis_server.url, stage), manager=manager)
        for manager in plugins
    ]
    policy = RequestPolicy(namespace=TENANT, pipeline="rag", mode="on")
    sent: list = []
    compressed = []
    for number, request in enumerate(requests):
        away = 6 <= number < 9
        if number == 6:
            redis_server.pause()
        if number == 9:
            redis_server.resume()
        # While the store is away one replica carries the conversation by its own memory.
        replica = replicas[1] if away or number == 5 else replicas[number % 2]
        if number == 5:  # it knows the conversation so far
            await replica.compress_body("openai_chat", orjson.dumps(requests[4]), policy)
        result = await replica.compress_body("openai_chat", orjson.dumps(request), policy)
        now = forwarded_blocks(orjson.loads(result.body))
        before = forwarded_blocks(request)
        assert now[: len(sent)] == sent
        if now[len(sent) :] != before[len(sent) :]:
            compressed.append(number)
        assert not (away and number in compressed), "nothing may be rewritten without the store"
        sent = now
    for replica in replicas:
        await replica.aclose()
    assert len(compressed) >= 6
