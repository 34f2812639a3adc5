"""Digests: one content in two spellings agrees, two contents differ."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.formats import ParseOptions, parse
from tests.formats.bodies import BODIES
from tests.formats.spelling import spell

CACHE = {"cache_control": {"type": "ephemeral"}}


def digests(format: str, body: dict[str, Any], raw: bytes | None = None) -> list[bytes]:
    request = parse(format, raw or orjson.dumps(body), ParseOptions())
    return [block.digest for block in request.document.blocks]


def chat(*messages: dict[str, Any]) -> list[bytes]:
    return digests("openai_chat", {"messages": list(messages)})


def anthropic(*messages: dict[str, Any], **body: Any) -> list[bytes]:
    return digests("anthropic_messages", {"messages": list(messages), **body})


def text(value: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": value, **more}


def test_a_string_is_a_list_of_one_text() -> None:
    for read in (chat, anthropic):
        plain = read({"role": "user", "content": "x"})
        assert plain == read({"role": "user", "content": [text("x")]})
        assert plain == read({"content": [text("x", **CACHE)], "role": "user"})
        assert plain == read({"role": "user", "content": "x", **CACHE})
    assert anthropic(system="x") == anthropic(system=[text("x", **CACHE)])
    results = [
        anthropic({"role": "user", "content": [{"type": "tool_result", "content": c}]})
        for c in ("x", [text("x")], [text("x", **CACHE)])
    ]
    assert results[0] == results[1] == results[2]
    inputs = ["x", [{"role": "user", "content": "x"}]]
    inputs += [
        [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}]
    ]
    assert len({digests("openai_responses", {"input": i})[0] for i in inputs}) == 1
    assert digests("openai_completions", {"prompt": "x"}) == digests(
        "openai_completions", {"prompt": ["x"]}
    )


def test_null_fields_of_a_message_are_absent() -> None:
    message = {"role": "assistant", "content": "x"}
    assert chat(message) == chat({**message, "refusal": None, "function_call": None})


def test_boundaries_count() -> None:
    one = anthropic({"role": "user", "content": [text("a"), text("b")]})
    two = anthropic({"role": "user", "content": "a"}, {"role": "user", "content": "b"})
    assert one[0] == two[0]
    assert one[1] != two[1]

    def result(*inner: Any) -> dict[str, Any]:
        return {"type": "tool_result", "tool_use_id": "t", "content": list(inner)}

    nested = anthropic({"role": "user", "content": [result(text("a"), text("b"))]})
    beside = anthropic({"role": "user", "content": [result(text("a")), text("b")]})
    assert nested[0] == beside[0]
    assert nested[1] != beside[1]


@pytest.mark.parametrize(
    "field", [{"name": "bob"}, {"tool_call_id": "c"}, {"x": 1}, {"function_call": {"name": "f"}}]
)
def test_fields_of_a_message_count(field: dict[str, Any]) -> None:
    message = {"role": "user", "content": "x"}
    assert chat(message) != chat({**message, **field})


def test_fields_beside_the_conversation_do_not_count() -> None:
    message = {"role": "user", "content": "x"}
    bare = digests("openai_chat", {"messages": [message]})
    more = {"messages": [message], "tools": [{"x": 1}], "model": "m", "temperature": 1}
    assert digests("openai_chat", more) == bare


def test_a_tools_input_may_be_called_cache_control() -> None:
    def call(value: Any) -> list[bytes]:
        part = {"type": "tool_use", "id": "t", "name": "n", "input": {"cache_control": value}}
        return anthropic({"role": "assistant", "content": [part]})

    assert call(1) != call(2)


@pytest.mark.parametrize(("format", "body"), BODIES)
@given(seed=st.integers(0, 10_000))
def test_spelling_does_not_count(format: str, body: dict[str, Any], seed: int) -> None:
    rng = random.Random(seed)

    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            items = [(k, shuffled(v)) for k, v in value.items() if k != "cache_control"]
            rng.shuffle(items)
            return dict(items)
        return [shuffled(v) for v in value] if isinstance(value, list) else value

    raw = spell(shuffled(body), rng, floats=False).encode()
    assert digests(format, {}, raw) == digests(format, body)


def leaves(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if key != "cache_control":
                yield from leaves(inner, (*way, key))
    else:
        yield way


def changed(body: dict[str, Any], way: tuple[Any, ...]) -> dict[str, Any]:
    body = copy.deepcopy(body)
    place: Any = body
    for key in way[:-1]:
        place = place[key]
    old = place[way[-1]]
    place[way[-1]] = f"{old}!" if isinstance(old, str) else [old, "changed"]
    return body


CONTENT = ("messages", "input", "system", "instructions", "prompt", "suffix")
WAYS = [(format, body, way) for format, body in BODIES for way in leaves(body) if way[0] in CONTENT]


@pytest.mark.parametrize(("format", "body", "way"), WAYS, ids=lambda v: str(v)[:60])
def test_every_change_of_content_counts(
    format: str, body: dict[str, Any], way: tuple[Any, ...]
) -> None:
    assert digests(format, changed(body, way)) != digests(format, body)


def test_every_block_has_one() -> None:
    for format, body in BODIES:
        assert all(len(digest) == 32 for digest in digests(format, body))
