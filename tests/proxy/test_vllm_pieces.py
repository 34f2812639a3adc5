"""The parts of upstreams of kind vllm: where requests go, and answers cut anywhere."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import orjson
import pytest
from ctxpress_proxy.replicas import Replicas
from ctxpress_proxy.routing import votes
from ctxpress_proxy.vllm.answers import ChatAnswer
from ctxpress_proxy.vllm.cards import ModelCards
from ctxpress_proxy.vllm.encoding import DocumentEncoder
from ctxpress_proxy.vllm.reasons import NotParallelError
from ctxpress_proxy.vllm.requests import read_request
from ctxpress_proxy.vllm.tokens import PieceCache
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.config import ParallelConfig

BASES = [f"http://10.0.0.{n}:8000" for n in range(5)]
SYSTEM = {"role": "system", "content": "You answer questions about ferries. " * 200}


def turn(user: str, *after: str, **more: Any) -> bytes:
    messages = [SYSTEM, {"role": "user", "content": user}]
    roles = ("assistant", "user")
    messages += [{"role": roles[n % 2], "content": text} for n, text in enumerate(after)]
    return orjson.dumps({**more, "model": "m", "messages": messages})


def place(body: bytes) -> str:
    return Replicas(BASES).order(votes(body, None, by_opening=True))[0]


def test_all_turns_of_a_conversation_go_to_one_replica_and_conversations_spread() -> None:
    firsts = [place(turn(f"Question {n}?")) for n in range(200)]
    for n, first in enumerate(firsts):
        assert place(turn(f"Question {n}?", "Yes.", "And then?")) == first
        assert place(turn(f"Question {n}?", "Yes.", temperature=0.5)) == first
    assert min(Counter(firsts).values()) > 200 / 5 / 2


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[1]", b"not JSON", b'{"prompt": "Once"}', b'{"prompt": [1, 2]}',
        b'{"prompt": ["a", "b"]}', b'{"input": "hello"}', b'{"messages": []}', b"{}",
    ],
)  # fmt: skip
def test_any_body_has_a_place(body: bytes) -> None:
    assert place(body) == place(body)


def test_a_prompt_that_grows_stays_where_it_is() -> None:
    start = "Once upon a time. " * 100
    places = {place(orjson.dumps({"prompt": start + "more " * n})) for n in range(20)}
    assert len(places) == 1


def test_a_replica_with_too_much_to_do_is_asked_after_the_others() -> None:
    key = [("everybody's document", 100)]
    replicas = Replicas(BASES, spread=True)
    first, second, *_ = replicas.order(key)
    for _ in range(8):
        assert replicas.order(key)[0] == first  # few requests are never too many
        replicas.taken(first)
    assert replicas.order(key)[0] == second
    for base in BASES:
        for _ in range(8):
            replicas.taken(base)
    assert replicas.order(key)[0] == second  # 8 above the others is more than its share
    for _ in range(8):
        replicas.left(first)
    assert replicas.order(key)[0] == first


def test_workers_keep_their_documents_whatever_they_have_to_do() -> None:
    replicas = Replicas(BASES)
    first = replicas.order([("a document", 1)])[0]
    for _ in range(100):
        replicas.taken(first)
    assert replicas.order([("a document", 1)])[0] == first


def completion(text: str, **more: Any) -> bytes:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": None, **more}
    value = {"id": "cmpl-7", "object": "text_completion", "created": 1, "model": "m"}
    return b"data: " + orjson.dumps(value | {"choices": [choice]}) + b"\n\n"


STREAM = b"".join(
    [
        b": a comment\n\n", completion("né"), completion(" €\n\n", finish_reason="stop"),
        b'data: {"error": {"message": "broke", "code": 500}}\r\n\r\n', b"data: [DONE]\n\n", b"rest",
    ]
)  # fmt: skip


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
@settings(deadline=None, max_examples=100)
def test_a_stream_reads_the_same_wherever_it_is_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    answer = ChatAnswer(None, str)
    pieces = [STREAM[a:b] for a, b in zip(places, places[1:], strict=False)]
    got = b"".join(answer.events(p, last=n == len(pieces) - 1) for n, p in enumerate(pieces))
    assert got == ChatAnswer(None, str).events(STREAM, last=True)
    assert got.startswith(b": a comment\n\ndata: ")
    assert got.endswith(
        b'data: {"error": {"message": "broke", "code": 500}}\r\n\r\ndata: [DONE]\n\nrest'
    )
    assert b"text_completion" not in got


@pytest.mark.parametrize("body", [b"", b"not JSON", b"[]", b'{"error": {"message": "no"}}'])
def test_what_is_no_completion_stays_as_it_came(body: bytes) -> None:
    assert ChatAnswer(None, str).whole(body) == body


def test_tokens_are_remembered_up_to_a_number() -> None:
    calls: list[str] = []

    class Characters:
        def token_ids(self, text: str) -> list[int]:
            calls.append(text)
            return list(map(ord, text))

    cache = PieceCache(Characters(), max_tokens=1000)  # type: ignore[arg-type]
    texts = [letter * 400 for letter in "abc"]
    for text in (*texts, texts[2], texts[1], texts[0], "short", "short"):
        assert list(cache.token_ids(text)) == list(map(ord, text))
    assert calls == [*texts, texts[0], "short", "short"]


async def test_encoding_that_fails_or_is_asked_for_too_often_is_not_done() -> None:
    encoder = DocumentEncoder(ParallelConfig(tokenizer="t", encode_timeout_ms=20))
    tried: list[int] = []

    async def fails(document: tuple[int, ...]) -> bool:
        tried.append(document[0])
        return False

    async def hangs(document: tuple[int, ...]) -> bool:
        await asyncio.sleep(60)
        return True

    documents = [(n,) for n in range(3)]
    keys = [bytes([n]) for n in range(3)]
    assert not await encoder.ensure(documents, keys, fails)
    assert not await encoder.ensure(documents, keys, fails)
    assert sorted(tried) == [0, 0, 1, 1, 2, 2]
    many = [(n,) for n in range(2000)]
    names = [n.to_bytes(2, "big") for n in range(2000)]
    assert not await encoder.ensure(many, names, hangs)  # at once: nobody could wait for so many
    assert not await encoder.ensure(documents, keys, hangs)
    await encoder.aclose()
    assert not asyncio.all_tasks() - {asyncio.current_task()}


async def test_a_list_of_models_that_cannot_be_had_is_no_model() -> None:
    answers: list[Any] = [None]

    async def fetch() -> Any:
        return answers[-1]

    cards = ModelCards()
    with pytest.raises(NotParallelError, match="cannot be had"):
        await cards.of("m", fetch)
    for value in ([], {"data": [7]}, {"data": [{"id": "m", "max_model_len": None}]}):
        answers.append(value)
        with pytest.raises(NotParallelError):
            await ModelCards().of("m", fetch)
    answers.append({"data": [{"id": "m", "max_model_len": 5}]})
    assert (await ModelCards().of(None, fetch)).max_tokens == 5


WORDS = st.text(max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["messages", "prompt", "model", "stop", "tools", "tool_choice", "logprobs", "top_logprobs", "n",
     "max_tokens", "chat_template_kwargs", "echo", "role", "content", "unheard_of", "stream"]
)  # fmt: skip
DOCUMENT = {"documents": [{"sha256": "", "text": "A text."}]}
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "system", "tool"]) | VALUES, "content": st.text() | VALUES},
    optional={"name": VALUES, "tool_calls": VALUES},
)


@given(
    body=st.dictionaries(NAMES, VALUES, max_size=8),
    messages=st.lists(MESSAGE, max_size=3),
    format_name=st.sampled_from(["openai_chat", "openai_completions"]),
)
@settings(deadline=None, max_examples=100)
def test_whatever_a_body_holds_it_is_understood_or_goes_as_text(
    body: dict[str, Any], messages: list[Any], format_name: str
) -> None:
    if messages:
        body["messages"] = messages
    try:
        request = read_request(format_name, orjson.dumps({**body, "ctxpress": DOCUMENT}))
    except NotParallelError:
        return
    read = {"messages", "prompt", "max_tokens", "logprobs", "top_logprobs", "chat_template_kwargs"}
    for name, value in body.items():
        if name not in read and value is not None:
            nothing = value in ([], False, "none", "")
            assert request.fields.get(name) == value or nothing, name
    assert [document.text for document in request.documents] == ["A text."]
