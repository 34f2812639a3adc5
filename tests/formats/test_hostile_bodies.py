"""No body makes anything but a FormatError, or takes long."""

from __future__ import annotations

import copy
import random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.document import Range
from ctxpress.errors import FormatError
from ctxpress.formats import ParseOptions, parse, parse_messages, render
from ctxpress.stage import Skip
from tests.formats.bodies import BODIES
from tests.formats.spelling import json_values
from tests.formats.test_rendering import RELEASED, halved

OPTIONS = ParseOptions()

words = st.sampled_from(
    "text user assistant tool system tool_result tool_use document search_result message "
    "function_call_output input_text content enabled name cache_control ctxpress".split()
)
nodes = json_values | words | st.lists(st.dictionaries(words, json_values | words, max_size=4))


def nodes_of(value: Any) -> list[tuple[Any, Any]]:
    """Every place in ``value`` as its container and key."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[tuple[Any, Any]] = []
    for key, inner in pairs:
        found.append((value, key))
        if isinstance(inner, dict | list):
            found += nodes_of(inner)
    return found


@pytest.mark.parametrize(("format", "body"), BODIES)
@given(data=st.data())
def test_random_nodes_anywhere(format: str, body: dict[str, Any], data: st.DataObject) -> None:
    body = copy.deepcopy(body)
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(nodes_of(body)))
        container[key] = data.draw(nodes)
        if not nodes_of(body):
            break
    raw = orjson.dumps(body)
    try:
        parsed = parse(format, raw, RELEASED)
    except FormatError:
        return
    for block in parsed.document.blocks:
        assert block.text == block.original
        assert block.kept == ((Range(0, len(block.original)),) if block.original else ())
    assert orjson.loads(render(parsed, halved(parsed.document)))
    if isinstance(body.get("messages"), list):
        parse_messages(body["messages"], None, OPTIONS)


@given(raw=st.binary(max_size=200))
def test_random_bytes(raw: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        parse("openai_chat", raw, OPTIONS)
    assert caught.value.code in (Skip.UNPARSEABLE, Skip.UNSUPPORTED_SHAPE)


@given(value=json_values, format=st.sampled_from([format for format, _ in BODIES]))
def test_any_json(value: Any, format: str) -> None:
    with pytest.raises(FormatError):
        parse(format, orjson.dumps(value), OPTIONS)


PLAIN = b'{"messages":[{"role":"user","content":"hello"}]}'


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xef\xbb\xbf" + PLAIN,
        PLAIN.decode().encode("utf-16"),
        PLAIN.decode().encode("utf-16-le"),
        PLAIN[:-1],
        PLAIN + b"x",
        PLAIN.replace(b"hello", b"\\ud800"),
        PLAIN.replace(b"hello", b"\\udc00\\ud800"),
        PLAIN.replace(b"hello", b"\xff"),
        PLAIN.replace(b"hello", b"\xed\xa0\x80"),
        PLAIN.replace(b'"hello"', b"NaN"),
        PLAIN.replace(b'"hello"', b"[" * 100_000 + b"]" * 100_000),
    ],
)
def test_unparseable(raw: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        parse("openai_chat", raw, OPTIONS)
    assert caught.value.code == Skip.UNPARSEABLE
    assert caught.value.body is None


def test_trailing_whitespace_stays() -> None:
    raw = b"\n " + PLAIN + b" \r\n"
    parsed = parse("openai_chat", raw, RELEASED)
    assert parsed.body is raw
    expected = raw.replace(b"hello", b"hllo")
    assert render(parsed, halved(parsed.document)) == expected


def test_deep_content_is_opaque() -> None:
    deep = b"[" * 240 + b"]" * 240
    parsed = parse("openai_chat", PLAIN.replace(b'"hello"', deep), OPTIONS)
    assert all(block.opaque for block in parsed.document.blocks)


@pytest.mark.parametrize("depth", [260, 900])
def test_deeper_content_is_refused(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    with pytest.raises(FormatError) as caught:
        parse("openai_chat", PLAIN.replace(b'"hello"', deep), OPTIONS)
    assert caught.value.code == Skip.UNSUPPORTED_SHAPE


def test_deep_tools_do_not_matter() -> None:
    raw = PLAIN[:-1] + b',"tools":' + b"[" * 900 + b"]" * 900 + b"}"
    parsed = parse("openai_chat", raw, RELEASED)
    assert render(parsed, halved(parsed.document)) == raw.replace(b"hello", b"hllo")


def test_nul_and_other_controls() -> None:
    raw = PLAIN.replace(b"hello", rb"\u0000\u001f\u007f x")
    parsed = parse("openai_chat", raw, RELEASED)
    assert parsed.document.blocks[0].original == "\x00\x1f\x7f x"
    assert orjson.loads(render(parsed, halved(parsed.document)))


def test_one_word_of_a_megabyte() -> None:
    raw = orjson.dumps({"messages": [{"role": "user", "content": "é" * 1_000_000}]})
    parsed = parse("openai_chat", raw, RELEASED)
    rendered = render(parsed, halved(parsed.document))
    assert orjson.loads(rendered)["messages"][0]["content"] == "é" * 750_000


def test_a_large_image() -> None:
    url = "data:image/png;base64," + "QUJD" * 12_500_000
    image = {"type": "image_url", "image_url": {"url": url}}
    content = [image, {"type": "text", "text": "hello"}]
    raw = orjson.dumps({"messages": [{"role": "user", "content": content}]})
    parsed = parse("openai_chat", raw, RELEASED)
    assert render(parsed, halved(parsed.document)) == raw[:-12] + raw[-12:].replace(b"he", b"h")


def test_many_messages_and_escapes() -> None:
    rng = random.Random(7)
    content = "".join(rng.choice('a"\\\n é😀/') for _ in range(2_000))
    messages = [{"role": "user", "content": f"{i} {content}"} for i in range(500)]
    raw = orjson.dumps({"messages": messages})
    parsed = parse("openai_chat", raw, RELEASED)
    after = halved(parsed.document)
    loaded = orjson.loads(render(parsed, after))
    assert [m["content"] for m in loaded["messages"]] == [b.text for b in after.blocks]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"messages":[' + b"{}," * 20_000 + b"{}]}",
        b'{"messages":[{"role":"user","content":[' + b"{}," * 20_000 + b"{}]}]}",
        orjson.dumps({"messages": [{"role": "user", "content": "a"}] * 20_001}),
    ],
    ids=["empty messages", "empty parts", "texts"],
)
@pytest.mark.parametrize("format", ["openai_chat", "anthropic_messages"])
def test_a_body_of_endless_parts_is_forwarded_as_it_came(format: str, raw: bytes) -> None:
    with pytest.raises(FormatError, match="20000 messages and parts") as raised:
        parse(format, raw, OPTIONS)
    assert raised.value.code == Skip.TOO_LARGE
