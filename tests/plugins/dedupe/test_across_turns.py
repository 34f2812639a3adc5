"""What was sent before need not be sent again, and nothing that was sent ever changes (law 3)."""

from __future__ import annotations

import dataclasses

import orjson
import pytest

from ctxpress.assembly import create_compressor
from ctxpress.cache.key import Namespace
from ctxpress.compressor import RequestPolicy
from ctxpress.config import Config
from ctxpress.testing import make_block
from tests.conversations import anthropic_requests, forwarded_blocks, openai_requests
from tests.plugins.dedupe.running import BOILER, REEFS, dedupe, deduped, retrieved

POLICY = RequestPolicy(namespace=Namespace.derive(b"secret", "acme"), pipeline="rag", mode="on")
ONCE = "The boiler of the north wing was replaced."
OTHER = "Nobody knows who had switched the pump off."
SHAPES = {"openai_chat": openai_requests, "anthropic_messages": anthropic_requests}


def configuration(*stages, store="memory://"):
    rag = {"min_tokens": 0, "deadline_ms": 60_000, "stages": stages or [{"use": "dedupe"}]}
    return Config.model_validate(
        {
            "version": 1,
            "store": f"{store}?timeout_ms=20000",  # a slow machine is no failure
            "pipelines": {"rag": rag},
        }
    )


@pytest.fixture
async def send():
    """Sends a request through a proxy's compressor: the texts that go on, the report."""
    compressor = create_compressor(configuration())

    async def send(messages):
        raw = orjson.dumps({"model": "gpt-4o", "messages": messages})
        result = await compressor.compress_body("openai_chat", raw, POLICY)
        sent = orjson.loads(result.body)["messages"]
        return [message["content"] for message in sent], result.report

    yield send
    await compressor.aclose()


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def context(*documents, question="What follows from this for the school?"):
    numbered = "\n\n".join(f"[{n}] {text}" for n, text in enumerate(documents, start=1))
    return user(f"{numbered}\n\nQuestion: {question}")


async def test_a_document_that_was_sent_before_leaves_and_the_report_says_so(send):
    first = context(BOILER, REEFS)
    second = context(f"{ONCE} {OTHER}", REEFS, BOILER)
    await send([first])
    texts, report = await send([first, assistant("It is cold."), second])
    assert texts[0] == first["content"]
    assert REEFS not in texts[2]
    assert BOILER not in texts[2]
    assert f"{ONCE} {OTHER}" in texts[2]
    reasons = [(document.state, document.reason) for document in report.documents]
    assert reasons == [
        ("kept", None),
        *[("dropped", "dedupe: it was sent earlier in this conversation")] * 2,
    ]


async def test_a_document_that_stands_twice_in_a_request_is_reported_as_that(send):
    _, report = await send([context(REEFS, BOILER, REEFS)])
    assert [document.reason for document in report.documents] == [
        None,
        None,
        "dedupe: another text of this request says the same",
    ]


@pytest.mark.parametrize("speaker", ["system", "assistant"])
async def test_what_others_have_said_counts_too(send, speaker):
    said = {"role": speaker, "content": f"{ONCE} {REEFS}"}
    history = [said, user("Go on.")] if speaker == "system" else [user("Hello."), said]
    texts, _ = await send([*history, context(f"{OTHER} {ONCE}", f"{BOILER} {ONCE}")])
    assert ONCE not in texts[-1]
    assert OTHER in texts[-1]


async def test_tool_results_of_one_turn_that_come_one_by_one_are_compared(send):
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked = {"role": "assistant", "content": None, "tool_calls": [call]}

    def result(text):
        return {"role": "tool", "tool_call_id": "c", "content": text}

    messages = [user("Find out what has happened."), asked, result(f"{BOILER} {ONCE}")]
    before, _ = await send(messages)
    messages += [asked, result(f"{BOILER} {REEFS}")]
    after, _ = await send(messages)
    assert after[: len(before)] == before
    assert after[-1] == REEFS


async def test_what_was_not_sent_in_full_does_not_count():
    """Words that a stage deleted before were not sent: the sentence that has them is."""
    half = {"use": "token_classification", "keep_ratio": 0.4}
    compressor = create_compressor(configuration({"use": "dedupe"}, half))
    first, second = context(BOILER, REEFS), context(f"{OTHER} {REEFS}", BOILER)
    raw = orjson.dumps({"model": "gpt-4o", "messages": [first]})
    sent = orjson.loads((await compressor.compress_body("openai_chat", raw, POLICY)).body)
    assert BOILER not in sent["messages"][0]["content"]
    raw = orjson.dumps({"model": "gpt-4o", "messages": [first, assistant("Cold."), second]})
    result = await compressor.compress_body("openai_chat", raw, POLICY)
    await compressor.aclose()
    assert orjson.loads(result.body)["messages"][0] == sent["messages"][0]
    stage = result.report.stages[0]
    assert stage.tokens_in == stage.tokens_out > 100


async def test_the_same_message_becomes_the_same_whatever_comes_after_it(send):
    first, second = context(BOILER, REEFS), context(f"{ONCE} {OTHER}", f"{REEFS} {ONCE}")
    early, _ = await send([first, assistant("Cold."), second])
    late, _ = await send([first, assistant("Cold."), second, assistant("So."), user(f"{BOILER}")])
    assert late[: len(early)] == early


def test_earlier_texts_count_only_where_that_is_wanted():
    block = make_block(f"{ONCE} {OTHER}")
    assert deduped(block, earlier=[f"{REEFS} {ONCE}"]) == [OTHER]
    assert deduped(block, earlier=[ONCE], across_turns=False) == [f"{ONCE} {OTHER}"]
    assert deduped(block, earlier=[ONCE + OTHER]) == [
        f"{ONCE} {OTHER}"
    ]  # no sentences of their own
    assert deduped(block, earlier=[f"{ONCE} {OTHER}"]) == [f"{ONCE} "]  # no text becomes blank


def test_an_earlier_document_that_differs_in_a_number_does_not_count():
    sent = f"[1] {REEFS}\n\n[2] {BOILER.replace('4,300', '4,500')}\n\nQuestion: why?"
    given = dataclasses.replace(retrieved(BOILER, REEFS), earlier=(sent,))
    after = dedupe(given, sentences=False)
    assert [block.dropped for block in after.blocks] == [False, True]


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_growing_conversation_sends_the_same_prefix_every_turn(shape, tmp_path):
    sent = []
    saved = 0
    compressor = None
    for number, request in enumerate(SHAPES[shape](6)):
        if number % 3 == 0:  # a restart over the same store
            if compressor is not None:
                await compressor.aclose()
            compressor = create_compressor(configuration(store=f"disk://{tmp_path}/store"))
        result = await compressor.compress_body(shape, orjson.dumps(request), POLICY)
        now = forwarded_blocks(orjson.loads(result.body))
        assert now[: len(sent)] == sent
        before = forwarded_blocks(request)
        saved += now[len(sent) :] != before[len(sent) :]
        sent = now
    await compressor.aclose()
    assert saved >= 6


async def test_a_cached_prefix_does_not_depend_on_what_was_sent_before_it():
    """Two conversations whose newest block is marked as a shared prefix send the same for it."""
    compressor = create_compressor(configuration())
    marked = {"type": "text", "text": f"{ONCE} {OTHER}", "cache_control": {"type": "ephemeral"}}
    texts = []
    for history in (REEFS, f"{ONCE} {OTHER} {REEFS}"):
        body = {
            "model": "claude-sonnet-4-6",
            "max_tokens": 9,
            "messages": [
                user(history),
                assistant("Well."),
                {"role": "user", "content": [marked, {"type": "text", "text": "And now?"}]},
            ],
        }
        result = await compressor.compress_body("anthropic_messages", orjson.dumps(body), POLICY)
        texts.append(orjson.loads(result.body)["messages"][2])
    await compressor.aclose()
    assert texts[0] == texts[1]
