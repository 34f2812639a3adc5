"""A worker that dies in the middle of an answer: another one takes the answer over."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp.web
import openai
import orjson
import pytest

from ctxpress.config import Config
from ctxpress.engine.worker import Worker
from tests.engine.small_worker import byte_model, serving
from tests.engine.worker_process import worker_process
from tests.proxy.test_worker_upstream import configuration, proxied

N_TOKENS = 800
KILLED_AFTER = 12  # events


@dataclass
class Answer:
    """What a client saw of one answer."""

    text: str = ""
    ids: set[str] = field(default_factory=set)
    finish: str | None = None
    usage: Any = None
    report: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="module")
def survivor() -> Iterator[tuple[str, Worker]]:
    with serving(model=byte_model()) as found:
        yield found


@pytest.fixture
def mortal() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with worker_process() as found:
        yield found


def client(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)


@asynccontextmanager
async def streamed(url: str, chat: bool, number: int, **how: Any) -> AsyncIterator[Any]:
    question = f"Question {number}?"
    common = {
        "model": "small", "max_tokens": N_TOKENS, "stream": True,
        "stream_options": {"include_usage": True}, "logit_bias": {"2": -100}, **how,
    }  # fmt: skip
    async with client(url) as api:
        create: Any = api.chat.completions.create if chat else api.completions.create
        asked = {"messages": [{"role": "user", "content": question}]} if chat else {}
        async with await create(**common, **(asked or {"prompt": question})) as stream:
            yield stream


async def read(stream: Any, answer: Answer, n_events: int | None = None) -> Answer:
    """All of a stream, or its next ``n_events``."""
    while n_events is None or n_events > 0:
        chunk = await anext(stream, None)
        if chunk is None:
            break
        n_events = None if n_events is None else n_events - 1
        answer.ids.add(chunk.id)
        answer.usage = chunk.usage or answer.usage
        answer.report |= (chunk.model_extra or {}).get("ctxpress") or {}
        for choice in chunk.choices:
            delta = getattr(choice, "delta", None)
            answer.text += (choice.text if delta is None else delta.content) or ""
            answer.finish = choice.finish_reason or answer.finish
    return answer


def until_idle(worker: Worker) -> None:
    while worker.scheduler.state.n_running:
        time.sleep(0.01)


async def killed_in_mid_stream(
    proxy: Any, mortal: subprocess.Popen[str], survivor: Worker, chat: bool, **how: Any
) -> tuple[Answer, str, int]:
    """The answer, what of it came before the kill, and the number of its question."""
    for number in range(64):  # until one goes to the worker that will be killed
        await asyncio.to_thread(until_idle, survivor)
        async with streamed(proxy.url, chat, number, **how) as stream:
            answer = await read(stream, Answer(), 1)
            if survivor.scheduler.state.n_running:
                continue
            await read(stream, answer, KILLED_AFTER)
            mortal.send_signal(signal.SIGKILL)
            mortal.wait()
            before = answer.text
            return await read(stream, answer), before, number
    raise AssertionError("no question goes to the worker that is to be killed")


@pytest.mark.parametrize("chat", [True, False])
async def test_a_greedy_answer_is_the_one_that_would_have_come(
    chat: bool,
    mortal: tuple[str, subprocess.Popen[str]],
    survivor: tuple[str, Worker],
    tmp_path: Path,
) -> None:
    config = configuration(mortal[0], survivor[0])
    async with proxied(config, tmp_path) as proxy:
        got, before, number = await killed_in_mid_stream(
            proxy, mortal[1], survivor[1], chat, temperature=0
        )
        async with streamed(proxy.url, chat, number, temperature=0) as stream:
            undisturbed = await read(stream, Answer())
        resumed = dict(proxy.app.runtime.metrics.resumed)
    assert got.text == undisturbed.text
    assert got.text.startswith(before)
    assert len(got.text) > len(before)
    assert len(got.ids) == 1
    assert got.finish == undisturbed.finish
    assert got.usage.model_dump() == undisturbed.usage.model_dump() | {
        "prompt_tokens_details": got.usage.prompt_tokens_details.model_dump()
    }
    assert got.report["resumed"] == 1
    assert resumed == {("gpu", "replayed"): 1}


async def test_an_answer_that_was_drawn_goes_on_behind_what_was_sent(
    mortal: tuple[str, subprocess.Popen[str]], survivor: tuple[str, Worker], tmp_path: Path
) -> None:
    async with proxied(configuration(mortal[0], survivor[0]), tmp_path) as proxy:
        got, before, _ = await killed_in_mid_stream(
            proxy, mortal[1], survivor[1], True, temperature=1.0
        )
        resumed = dict(proxy.app.runtime.metrics.resumed)
    assert got.text.startswith(before)
    assert len(got.text) > len(before)
    assert got.finish == "length"
    assert got.usage.completion_tokens == N_TOKENS
    assert resumed == {("gpu", "continued"): 1}


# From here on the dying is played, so that it happens at a certain byte.


def event(text: str | None = None, **more: Any) -> bytes:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": more.pop("finish", None)}
    body = {"id": more.pop("id", "chatcmpl-1"), "choices": [choice], **more}
    return b"data: " + orjson.dumps(body) + b"\n\n"


DONE = b"data: [DONE]\n\n"
BEGINNING = [event(""), event("One"), event(" two")]


class Played:
    """An upstream that sends given bytes and then closes or breaks the connection."""

    def __init__(self, *answers: tuple[list[bytes], bool], kind: str = "text/event-stream") -> None:
        self.kind = kind
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        self.url = ""

    async def answer(self, request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        self.asked.append(orjson.loads(await request.read()))
        if not self.answers:
            return aiohttp.web.json_response({"error": {"message": "busy"}}, status=503)
        pieces, breaks = self.answers.pop(0)
        response = aiohttp.web.StreamResponse(headers={"content-type": self.kind})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0.01)
        if breaks and request.transport is not None:
            request.transport.abort()
        return response

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Played]:
        app = aiohttp.web.Application()
        app.router.add_post("/v1/chat/completions", self.answer)
        runner = aiohttp.web.AppRunner(app)
        await runner.setup()
        site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


def with_fallback(worker: str, fallback: str) -> Config:
    body = configuration(worker).model_dump(mode="json", exclude_none=True)
    body["upstreams"]["gpu"] |= {"fallback": "plain", "fallback_model": "other"}
    body["upstreams"]["plain"] = {"base_url": fallback, "max_retries": 0}
    return Config.model_validate(body)


async def answered(url: str, **how: Any) -> bytes:
    body = {
        "model": "small", "messages": [{"role": "user", "content": "Say it."}], "stream": True,
        "max_tokens": 10, **how,
    }  # fmt: skip
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/v1/chat/completions", json=body) as response,
    ):
        return await response.read()


def content(raw: bytes) -> str:
    bodies = [orjson.loads(part[6:]) for part in raw.split(b"\n\n") if part[6:7] == b"{"]
    choices = [choice for body in bodies for choice in body.get("choices", ())]
    return "".join(choice["delta"].get("content", "") for choice in choices)


async def test_a_broken_connection_to_the_only_worker_is_made_anew(tmp_path: Path) -> None:
    whole = [*BEGINNING, event(" three"), event(finish="stop"), DONE]
    # The second answer cuts the text into other pieces, and has another id.
    again = [event("", id="2"), event("One tw", id="2"), event("o thr", id="2"),
             event("ee", id="2"), event(finish="stop", id="2"), DONE]  # fmt: skip
    worker = Played((BEGINNING, True), (again, False))
    async with worker.served(), proxied(configuration(worker.url), tmp_path) as proxy:
        got = await answered(proxy.url, seed=1)
    assert content(got) == content(b"".join(whole)) == "One two three"
    assert b'"id":"2"' not in got
    assert got.endswith(DONE)
    assert worker.asked[0] == worker.asked[1]


async def test_half_an_event_of_a_dying_worker_is_not_sent(tmp_path: Path) -> None:
    half = event(" three")[:20]
    rest = [event("", id="2"), event(" 3", id="2"), event(finish="stop", id="2"), DONE]
    worker = Played(([*BEGINNING, half], True), (rest, False))
    async with worker.served(), proxied(configuration(worker.url), tmp_path) as proxy:
        got = await answered(proxy.url)
    assert content(got) == "One two 3"
    assert half + b"data" not in got
    assert worker.asked[1]["ctxpress"]["continue_from"] == "One two"


async def test_a_replay_that_departs_is_left_and_the_answer_continued(tmp_path: Path) -> None:
    other = [event("", id="2"), event("One", id="2"), event(" day", id="2"), DONE]
    rest = [event("", id="3"), event(" 3", id="3"), event(finish="stop", id="3"), DONE]
    worker = Played((BEGINNING, True), (other, False), (rest, False))
    async with worker.served(), proxied(configuration(worker.url), tmp_path) as proxy:
        got = await answered(proxy.url, temperature=0)
    assert content(got) == "One two 3"
    assert "ctxpress" not in worker.asked[1]
    assert worker.asked[2]["ctxpress"]["continue_from"] == "One two"


async def test_an_error_event_of_a_worker_that_leaves_is_a_death_too(tmp_path: Path) -> None:
    leaving = b'data: {"error":{"message":"shutting down","type":"server_error"}}\n\n'
    rest = [event(" 3"), event(finish="stop"), DONE]
    worker = Played(([*BEGINNING, leaving], False), (rest, False))
    async with worker.served(), proxied(configuration(worker.url), tmp_path) as proxy:
        got = await answered(proxy.url)
    assert content(got) == "One two 3"
    assert b"error" not in got


@pytest.mark.parametrize("ending", [b"", event(finish="stop")])
async def test_an_answer_lacking_only_its_end_gets_it_once(ending: bytes, tmp_path: Path) -> None:
    end = [event("", id="2"), event(finish="stop", id="2"), DONE]
    worker = Played(([*BEGINNING, ending], True), (end, False))
    async with worker.served(), proxied(configuration(worker.url), tmp_path) as proxy:
        got = await answered(proxy.url)
    assert content(got) == "One two"
    assert got.count(b'"finish_reason":"stop"') == 1
    assert got.endswith(DONE)


async def test_log_probabilities_that_were_sent_are_not_sent_again(tmp_path: Path) -> None:
    def token(text: str) -> bytes:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": None,
                  "logprobs": {"content": [{"token": text or "?"}]}}  # fmt: skip
        return b"data: " + orjson.dumps({"id": "1", "choices": [choice]}) + b"\n\n"

    tokens = [token("One"), token(""), token(""), token(" two"), token(" 3")]
    worker = Played((tokens[:2], True), ([*tokens, event(finish="stop"), DONE], False))
    async with worker.served(), proxied(configuration(worker.url), tmp_path) as proxy:
        got = await answered(proxy.url, temperature=0, logprobs=True)
    assert got.count(b'"token":') == len(tokens)
    assert content(got) == "One two 3"


async def test_a_whole_answer_that_breaks_off_is_asked_for_again(tmp_path: Path) -> None:
    body = orjson.dumps({"id": "1", "choices": [{"index": 0, "message": {"content": "Yes"}}]})
    worker = Played(([body[:20]], True), ([body], False), kind="application/json")
    async with worker.served():
        both = configuration(worker.url, worker.url.replace("127.0.0.1", "localhost"))
        async with proxied(both, tmp_path) as proxy:
            assert await answered(proxy.url, stream=False) == body
    assert len(worker.asked) == 2


async def test_when_no_worker_is_left_the_stream_ends_with_an_error(tmp_path: Path) -> None:
    worker = Played((BEGINNING, True))
    async with worker.served(), proxied(configuration(worker.url), tmp_path) as proxy:
        got = await answered(proxy.url)
    assert content(got) == "One two"
    assert b'"code":"upstream_broke_off"' in got
    assert DONE not in got


async def test_when_no_worker_is_left_the_fallback_goes_on_in_plain_text(tmp_path: Path) -> None:
    rest = [event("", id="2"), event(" 3", id="2"), event(finish="stop", id="2"), DONE]
    worker, plain = Played((BEGINNING, True)), Played((rest, False))
    async with worker.served(), plain.served():
        async with proxied(with_fallback(worker.url, plain.url), tmp_path) as proxy:
            got = await answered(proxy.url)
    assert content(got) == "One two 3"
    asked = plain.asked[0]
    assert asked["model"] == "other"
    assert "ctxpress" not in asked
    assert asked["messages"][-1] == {"role": "assistant", "content": "One two"}
    assert asked["continue_final_message"] is True
    assert asked["max_tokens"] == 8


async def test_without_any_worker_the_fallback_gets_the_documents_as_text(tmp_path: Path) -> None:
    whole = [event("Yes"), event(finish="stop"), DONE]
    plain = Played((whole, False))
    text = '<document id="1">\nFact one.\n</document>\n\nIs it so?'
    async with plain.served():
        async with proxied(with_fallback("http://127.0.0.1:9", plain.url), tmp_path) as proxy:
            got = await answered(proxy.url, messages=[{"role": "user", "content": text}])
    assert content(got) == "Yes"
    assert plain.asked[0]["messages"][0]["content"] == text
    assert "ctxpress" not in plain.asked[0]
