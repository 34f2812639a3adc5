"""Just read twice: which models, which blocks, and never more than came."""

from __future__ import annotations

import dataclasses

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress import Pipeline
from ctxpress.assembly import create_compressor
from ctxpress.cache.key import Namespace
from ctxpress.compressor import RequestPolicy
from ctxpress.config import Config
from ctxpress.config_file import check_config, load_config_and_plugins
from ctxpress.document import Kind, Range, Role
from ctxpress.errors import ConfigError, DeadlineError
from ctxpress.laws import check_laws
from ctxpress.manager import create_plugin_manager
from ctxpress.plugins.repeat import RECURRENT_MODELS, RepeatConfig, RepeatStage
from ctxpress.stage import Skip, StageContext, StageSkip
from ctxpress.testing import WordCounter, check_stage, make_block, make_document
from tests.conversations import prose

MODEL = "state-spaces/mamba-2.8b"
WORDS = [f"word{n} " for n in range(60)]
QUESTION = ("Which word is the first?", Kind.QUESTION, True)


async def inline(work):
    return work()


def context(**options):
    return StageContext(counter=WordCounter(), executor=inline, **options)


def shortened(keep: int, *more, role=Role.USER, number=0):
    """A block of sixty words of which the first ``keep`` are left, and what stands behind."""
    pointer = f"/messages/{number}/content"
    block = make_block("".join(WORDS), *more, role=role, message=number, pointer=pointer)
    kept = (Range(0, len("".join(WORDS[:keep]))),)
    return block.with_spans((block.spans[0].keep(block.original, kept), *block.spans[1:]))


def document(*blocks, model=MODEL):
    return dataclasses.replace(make_document(*blocks), model=model)


async def repeated(given_document, **options):
    after = await RepeatStage(RepeatConfig()).apply(given_document, context(**options))
    check_laws(given_document, after, extractive=False)
    return [block.text for block in after.blocks]


async def test_a_block_and_its_question_are_sent_twice():
    once = shortened(20, QUESTION)
    assert await repeated(document(once)) == [f"{once.text}\n{once.text}"]


async def test_only_while_both_copies_have_fewer_tokens_than_the_block_came_with():
    blocks = [shortened(keep, number=number) for number, keep in enumerate((29, 30, 31))]
    texts = [block.text for block in blocks]
    assert await repeated(document(*blocks)) == [f"{texts[0]}\n{texts[0]}", *texts[1:]]
    with pytest.raises(StageSkip) as skip:
        await repeated(document(*blocks[1:]))
    assert skip.value.code is Skip.NO_SAVING


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(0, 70))
def test_neither_the_original_nor_a_budget_is_exceeded(keep, target):
    import asyncio

    block = shortened(keep)
    try:
        (text,) = asyncio.run(repeated(document(block), target_tokens=target))
    except StageSkip:
        text = block.text
    tokens = WordCounter().count(text)
    assert tokens == keep or tokens == 2 * keep <= min(59, target)


async def test_blocks_of_one_budget_are_repeated_while_it_lasts():
    blocks = [shortened(10, number=number) for number in range(3)]
    texts = await repeated(document(*blocks), target_tokens=45)
    assert [WordCounter().count(text) for text in texts] == [20, 10, 10]


@pytest.mark.parametrize("role", [Role.SYSTEM, Role.ASSISTANT])
async def test_instructions_and_answers_go_once(role):
    with pytest.raises(StageSkip):
        await repeated(document(shortened(5, role=role)))


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("state-spaces/mamba-2.8b", True),
        ("mistralai/Codestral-Mamba-7B", True),
        ("BlinkDL/rwkv-6-world", True),
        ("google/recurrentgemma-9b", True),
        ("togethercomputer/StripedHyena-Nous-7B", True),
        ("hazyresearch/based-1b", True),
        ("fla-hub/gla-1.3B", True),
        ("gpt-4o", False),
        ("someone/uncensored-based-llama", False),
        ("sambanova/llama-3", False),
        ("ai21labs/Jamba-1.5-Mini", False),
        (None, False),
    ],
)
async def test_which_models_it_is_for(model, wanted):
    once = document(shortened(10), model=model)
    if wanted:
        assert len(await repeated(once)) == 1
    else:
        with pytest.raises(StageSkip) as skip:
            await repeated(once)
        assert skip.value.code is Skip.OTHER_MODEL


async def test_the_models_can_be_named():
    stage = RepeatStage(RepeatConfig(models=("My-*",)))
    after = await stage.apply(document(shortened(10), model="my-model"), context())
    assert after.blocks[0].text.count("word0 ") == 2


def test_it_keeps_the_laws():
    samples = [
        document(shortened(10, ("```x\n1\n```", Kind.CODE, True), " tail ", QUESTION)),
        document(shortened(10), shortened(50, number=1), shortened(5, "\ud800", number=2)),
    ]
    check_stage(RepeatStage(RepeatConfig()), documents=samples)


async def test_it_stops_when_the_time_is_over():
    with pytest.raises(DeadlineError):
        await repeated(document(shortened(5)), deadline_s=0)


def test_the_documented_default_is_the_default():
    from tests.test_docs import CONFIGURATION

    assert all(f"`{pattern}`" in CONFIGURATION for pattern in RECURRENT_MODELS)


STAGES = [{"use": "token_classification", "keep_ratio": 0.3}, {"use": "repeat"}]


def compressor_of(stages):
    pipelines = {"rag": {"min_tokens": 0, "deadline_ms": 60_000, "stages": stages}}
    store = "memory://?timeout_ms=20000"  # a slow machine is no failure
    return create_compressor(
        Config.model_validate({"version": 1, "store": store, "pipelines": pipelines})
    )


async def test_a_pipeline_sends_the_compressed_context_twice_and_repeats_that_in_later_turns():
    policy = RequestPolicy(namespace=Namespace.derive(b"s", "acme"), pipeline="rag", mode="on")
    compressor = compressor_of(STAGES)
    ask = {"role": "user", "content": f"{prose('ask', 60)}\n\nWhat was agreed?"}

    async def send(*messages):
        raw = orjson.dumps({"model": MODEL, "messages": messages})
        result = await compressor.compress_body("openai_chat", raw, policy)
        return orjson.loads(result.body)["messages"], result.report

    first, report = await send(ask)
    once, again = first[0]["content"][: len(first[0]["content"]) // 2], first[0]["content"][-40:]
    assert first[0]["content"] == f"{once}\n{once}"
    assert again.endswith("What was agreed?")
    assert report.tokens_after < report.tokens_before
    later, _ = await send(ask, {"role": "assistant", "content": "A report."}, ask)
    assert later[0] == first[0]
    await compressor.aclose()


async def test_what_the_stage_does_not_do_is_no_reason_for_savings_that_failed_to_come():
    async with Pipeline.from_stages(*STAGES[1:]) as pipeline:
        result = await pipeline.compress_messages([{"role": "user", "content": prose("x", 20)}])
    assert result.report.stages[0].skipped is Skip.OTHER_MODEL
    assert result.report.skipped is Skip.NO_SAVING


async def test_a_requests_budget_holds_for_both_copies():
    text = prose("budget", 60)
    given_document = document(make_block(text))
    async with Pipeline.from_stages(*STAGES) as pipeline:
        result = await pipeline.run(given_document, target_tokens=200)
    assert result.report.tokens_after <= 200


def test_a_stage_behind_it_is_an_error_with_its_place(tmp_path):
    with pytest.raises(
        ConfigError, match=r"stages\[0\]: stage 'repeat' must be the last, and 'dedupe' follows it"
    ):
        Pipeline.from_stages({"use": "repeat"}, {"use": "dedupe"})
    path = tmp_path / "ctxpress.yaml"
    path.write_text(
        "version: 1\npipelines:\n  rag:\n    stages:\n      - use: dedupe\n      - use: repeat\n"
        "      - use: dedupe\n",
        "utf-8",
    )
    (problem,) = check_config(path)
    assert problem.startswith(f"{path}:6: pipelines.rag.stages[1].use: stage 'repeat' must be")
    with pytest.raises(ConfigError, match="ctxpress.yaml:6"):
        load_config_and_plugins(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"models": []}, "models"), ({"form": "thrice"}, "form"), ({"model": "x"}, "did you mean")],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        create_plugin_manager().build_stage("repeat", options)
