"""The worker as clients see it: OpenAI's own client, and bodies that are wrong."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from ctxpress.engine.parallel import Mixing
from ctxpress.engine.scheduler import SchedulerLimits
from ctxpress.engine.worker import Worker, WorkerOptions
from tests.engine.small_worker import byte_model, serving

ASK: list[dict[str, str]] = [{"role": "user", "content": "What is it?"}]
DOCUMENTS = [
    {"title": "A", "text": "One and two. " * 6},
    {"title": "B", "text": "Three {text} four. " * 4},
    {"text": "Nothing but text."},
]


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, Worker]]:
    options = WorkerOptions(mixing=Mixing(temperature=0.9, scale=0.9))
    with serving(options) as found:
        yield found


@pytest.fixture
def client(served: tuple[str, Worker]) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served[0]}/v1", api_key="none", max_retries=0) as made:
        yield made


def chat(client: openai.OpenAI, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "model": "small", "messages": ASK, "max_tokens": 8, "temperature": 0, **changes,
    }  # fmt: skip
    return client.chat.completions.create(**values)


def test_a_chat_is_answered_with_its_usage(client: openai.OpenAI) -> None:
    found = chat(client)
    assert found.object == "chat.completion"
    assert found.choices[0].message.role == "assistant"
    assert found.choices[0].finish_reason == "length"
    assert found.usage.completion_tokens == 8
    assert found.usage.prompt_tokens == len("<user>What is it?\n<assistant>")
    assert found.usage.total_tokens == found.usage.prompt_tokens + 8


def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI) -> None:
    whole = chat(client, max_tokens=20).choices[0].message.content
    events = list(chat(client, max_tokens=20, stream=True, stream_options={"include_usage": True}))
    text = "".join(e.choices[0].delta.content or "" for e in events if e.choices)
    assert text == whole
    assert events[0].choices[0].delta.role == "assistant"
    assert [e.choices[0].finish_reason for e in events if e.choices][-1] == "length"
    assert events[-1].usage.completion_tokens == 20


def completed(client: openai.OpenAI, begun: str = "", **changes: Any) -> Any:
    values: dict[str, Any] = {
        "model": "small", "prompt": "Go on: ", "max_tokens": 24, "temperature": 0, **changes,
    }  # fmt: skip
    body = {"ctxpress": {"continue_from": begun}} if begun else {}
    return client.completions.create(**values, extra_body=body)


def test_an_answer_that_another_worker_began_goes_on_behind_its_text(
    client: openai.OpenAI,
) -> None:
    ascii_only = {str(token): -100 for token in range(3, 259) if not 35 <= token < 94}
    whole = completed(client, logit_bias=ascii_only, logprobs=0)
    text = whole.choices[0].text
    rest = completed(client, text[:10], logit_bias=ascii_only, logprobs=0)
    assert rest.choices[0].text == text[10:]
    assert rest.usage == whole.usage.model_copy(
        update={"prompt_tokens_details": rest.usage.prompt_tokens_details}
    )
    offsets = whole.choices[0].logprobs.text_offset
    assert rest.choices[0].logprobs.text_offset == offsets[10:]
    # Penalties count what was begun, and an answer that has all its tokens gets its end.
    repeated = {"frequency_penalty": 2.0, "logit_bias": ascii_only}
    penalised = completed(client, **repeated).choices[0].text
    assert completed(client, penalised[:10], **repeated).choices[0].text == penalised[10:]
    ended = completed(client, text, logit_bias=ascii_only)
    assert (ended.choices[0].text, ended.choices[0].finish_reason) == ("", "length")
    assert ended.usage.completion_tokens == 24


def test_seeds_repeat_and_stop_strings_stop(client: openai.OpenAI) -> None:
    def text(**changes: Any) -> str:
        found: str = (
            chat(client, temperature=1.5, max_tokens=24, **changes).choices[0].message.content
        )
        return found

    first = text(seed=3)
    assert text(seed=3) == first
    assert len({text(seed=seed) for seed in range(4)}) > 1
    stop = first[5:7]
    stopped = chat(client, temperature=1.5, max_tokens=24, seed=3, stop=stop).choices[0]
    assert stopped.message.content == first[: first.index(stop)]
    assert stopped.finish_reason == "stop"


def test_log_probabilities_come_with_their_tokens(client: openai.OpenAI) -> None:
    content = chat(client, logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert len(content) == 8
    for token in content:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob == token.logprob  # greedy: the best one


def test_completions_take_text_and_token_ids_and_reuse_prefixes(client: openai.OpenAI) -> None:
    prompt = "Tell me more. " * 40

    def complete(prompt: Any) -> Any:
        return client.completions.create(
            model="small", prompt=prompt, max_tokens=6, temperature=0, logprobs=2
        )

    first, second = complete(prompt), complete(prompt)
    assert first.choices[0].text == second.choices[0].text
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    assert second.usage.prompt_tokens_details.cached_tokens == 512
    assert len(second.choices[0].logprobs.tokens) == 6
    assert complete([5, 6, 7, 8]).usage.prompt_tokens == 4


def test_documents_are_encoded_once_and_found_again(client: openai.OpenAI) -> None:
    def ask(documents: Any) -> Any:
        return chat(client, extra_body={"ctxpress": {"documents": documents}})

    first = ask(DOCUMENTS)
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    again = ask(DOCUMENTS)
    assert again.choices[0].message.content == first.choices[0].message.content
    assert again.ctxpress["cached_documents"] == 3
    turned = ask(DOCUMENTS[::-1])
    assert turned.ctxpress["cached_documents"] == 3
    assert turned.choices[0].message.content == first.choices[0].message.content
    other = ask([*DOCUMENTS[:1], {"title": "C", "text": "Something new."}])
    assert other.ctxpress["cached_documents"] == 1


def test_documents_stand_where_the_marker_says(client: openai.OpenAI) -> None:
    body = {"ctxpress": {"documents": DOCUMENTS}}
    marked = [{"role": "user", "content": "{{ctxpress.documents}}What is it?"}]
    before = chat(client, extra_body=body).choices[0].message.content
    assert chat(client, messages=marked, extra_body=body).choices[0].message.content == before


def test_a_prefetched_document_is_there_when_it_is_asked_about(
    served: tuple[str, Worker], client: openai.OpenAI
) -> None:
    documents = [{"title": "Late", "text": "Fetched before it was needed. " * 3}]
    body = {"messages": ASK, "ctxpress": {"documents": documents}}
    answer = httpx.post(f"{served[0]}/v1/ctxpress/prefetch", json=body, timeout=60)
    assert answer.status_code == 200
    assert answer.json()["computed_tokens"] > 0
    found = chat(client, extra_body={"ctxpress": {"documents": documents}})
    assert found.ctxpress["cached_documents"] == 1


@pytest.mark.parametrize("documents", [[], [{"text": ""}], [{"title": "T", "text": " \n"}]])
def test_documents_without_text_are_no_documents(
    client: openai.OpenAI, documents: list[dict[str, str]]
) -> None:
    plain = chat(client).choices[0].message.content
    found = chat(client, extra_body={"ctxpress": {"documents": documents}})
    assert found.choices[0].message.content == plain


def test_five_hundred_documents_are_answered(client: openai.OpenAI) -> None:
    documents = [{"title": str(n), "text": f"Fact {n}."} for n in range(500)]
    found = chat(client, max_tokens=2, extra_body={"ctxpress": {"documents": documents}})
    assert found.ctxpress["documents"] == 500


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({"messages": []}, 400, "messages must hold at least one"),
    ({"messages": "hello"}, 400, "messages must be a list"),
    ({"messages": [{"role": "user"}]}, 400, "messages[0].content is required"),
    ({"messages": [{"content": "x"}]}, 400, "messages[0].role is required"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "no images"),
    ({"temperature": 3}, 400, "temperature must be 0 to 2"),
    ({"temperature": "hot"}, 400, "temperature must be a number"),
    ({"max_tokens": 0}, 400, "max_tokens must be at least 1"),
    ({"max_tokens": 5000}, 400, "2048"),
    ({"n": 2}, 400, "n must be 1"),
    ({"stop": ["a", "b", "c", "d", "e"]}, 400, "up to 4 texts"),
    ({"stop": ""}, 400, "not empty"),
    ({"top_logprobs": 2}, 400, "needs logprobs"),
    ({"tools": [{"type": "function"}]}, 400, "tools is not supported"),
    ({"response_format": {"type": "json_object"}}, 400, "response_format is not supported"),
    ({"temperatur": 1}, 400, "did you mean 'temperature'"),
    ({"model": "other"}, 404, "this worker serves 'small'"),
    ({"logit_bias": {"x": 1}}, 400, "token ids"),
    ({"ctxpress": {"documents": [{"title": "x"}]}}, 400, "ctxpress.documents[0].text is required"),
    ({"ctxpress": {"documents": [{"text": "x", "sha256": "0"}]}}, 400, "not that of the document"),
    ({"ctxpress": {"document": []}}, 400, "did you mean 'documents'"),
    ({"messages": [{"role": "user", "content": "x" * 3000}]}, 400, "2048"),
    ({"ctxpress": {"documents": [{"text": "x" * 3000}]}}, 400, "2048"),
]


@pytest.mark.parametrize(("changes", "status", "message"), WRONG, ids=[m for _, _, m in WRONG])
def test_a_wrong_request_is_told_what_is_wrong(
    served: tuple[str, Worker], changes: dict[str, Any], status: int, message: str
) -> None:
    body = {"model": "small", "messages": ASK, "max_tokens": 4, **changes}
    answer = httpx.post(f"{served[0]}/v1/chat/completions", json=body, timeout=60)
    error = answer.json()["error"]
    assert answer.status_code == status
    assert message in error["message"]
    assert set(error) == {"message", "type", "param", "code"}


def test_what_is_no_json_or_no_path_is_said_so(served: tuple[str, Worker]) -> None:
    url = served[0]
    assert "not JSON" in httpx.post(f"{url}/v1/chat/completions", content=b"{").text
    assert "JSON object" in httpx.post(f"{url}/v1/chat/completions", content=b"[]").text
    assert httpx.get(f"{url}/v1/nothing").status_code == 404
    assert httpx.post(f"{url}/v1/chat/completions", content=b" " * 2**21).status_code == 413


def test_a_prompt_of_unknown_tokens_is_refused(served: tuple[str, Worker]) -> None:
    body = {"model": "small", "prompt": [5, 99999]}
    answer = httpx.post(f"{served[0]}/v1/completions", json=body)
    assert answer.status_code == 400
    assert "token id 99999" in answer.json()["error"]["message"]


def test_many_clients_at_once_get_the_answers_that_each_gets_alone(client: openai.OpenAI) -> None:
    def ask(number: int) -> str:
        asked = [{"role": "user", "content": f"Number {number}?"}]
        found: str = chat(client, messages=asked).choices[0].message.content
        return found

    alone = [ask(number) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, range(6))) == alone


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("text", "max_tokens"), [("Go on.", 1900), ("x" * 1900, 8)], ids=["in decode", "in prefill"]
)
def test_a_client_that_leaves_frees_its_place(
    served: tuple[str, Worker], stream: bool, text: str, max_tokens: int
) -> None:
    url, worker = served
    messages = [{"role": "user", "content": text}]
    body = json.dumps({"messages": messages, "max_tokens": max_tokens, "stream": stream}).encode()
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: "
            + str(len(body)).encode()
            + b"\r\n\r\n"
            + body
        )
        deadline = time.monotonic() + 30
        while worker.scheduler.state.n_running == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    while worker.scheduler.state.n_running:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_worker_that_leaves_ends_its_streams_with_an_error_and_no_end() -> None:
    body = {"messages": ASK, "max_tokens": 1900, "stream": True, "logit_bias": {"2": -100}}
    with (
        serving() as (url, worker),
        httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as answer,
    ):
        lines = answer.iter_lines()
        seen = [next(lines)]
        worker.close()
        seen += lines
    last = json.loads([line for line in seen if line][-1].removeprefix("data: "))
    assert last["error"]["code"] == "worker_closing"
    assert "data: [DONE]" not in seen


def test_a_full_worker_says_429_and_when_to_come_back() -> None:
    options = WorkerOptions(limits=SchedulerLimits(max_rows=1, max_waiting=0))
    with serving(options) as (url, worker):
        with httpx.Client(base_url=url, timeout=60) as http:
            endless = {"max_tokens": 1900, "logit_bias": {"2": -100}}  # no early end
            body = {"messages": ASK, "stream": True, **endless}
            with http.stream("POST", "/v1/chat/completions", json=body) as first:
                events = first.iter_bytes()  # held: the connection may end with it
                next(events)
                second = http.post("/v1/chat/completions", json={"messages": ASK})
        assert second.status_code == 429
        assert second.headers["retry-after"] == "1"
        assert second.json()["error"]["code"] == "worker_busy"
        assert worker.model.name == "small"


def test_without_a_chat_template_chats_are_refused_and_completions_are_not() -> None:
    model = byte_model()
    model.tokenizer.chat_template = None
    with serving(model=model) as (url, _):
        chat_answer = httpx.post(f"{url}/v1/chat/completions", json={"messages": ASK})
        assert chat_answer.status_code == 400
        assert "use /v1/completions" in chat_answer.json()["error"]["message"]
        body = {"prompt": "x", "max_tokens": 1}
        assert httpx.post(f"{url}/v1/completions", json=body).status_code == 200


def test_a_template_that_loses_the_documents_is_said_so() -> None:
    model = byte_model()
    model.tokenizer.chat_template = "{% for m in messages %}{{ m.content[:3] }}{% endfor %}"
    with serving(model=model) as (url, _):
        body = {"messages": ASK, "ctxpress": {"documents": DOCUMENTS}}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert "0 places for the documents" in answer.json()["error"]["message"]
