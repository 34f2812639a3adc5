"""Rendering: identity without change, only the changed text otherwise, and never a blank one."""

from __future__ import annotations

import copy
import random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.document import Block, ContextDocument, Kind, Range, Span
from ctxpress.errors import FormatError
from ctxpress.formats import (
    ParseOptions,
    parse,
    parse_messages,
    render,
    render_messages,
)
from ctxpress.stage import Skip
from tests.formats.bodies import ANTHROPIC, BODIES, CHAT
from tests.formats.spelling import json_values, spell, texts

RELEASED = ParseOptions(compress_system=True, compress_assistant=True)


def keeping(block: Block, *kept: tuple[int, int]) -> Block:
    ranges = tuple(Range(a, b) for a, b in kept)
    span = Span.of(block.original, 0, len(block.original), Kind.PROSE, protected=False)
    return block.with_spans((span.keep(block.original, ranges),))


def writing(block: Block, text: str) -> Block:
    return block.with_spans((Span(text=text, kind=Kind.PROSE, protected=False, kept=()),))


def halved(document: ContextDocument) -> ContextDocument:
    """Every text without its second quarter, which takes what is protected along."""
    blocks = []
    for block in document.blocks:
        n = len(block.original)
        cut = not block.opaque and block.original[: n // 4].strip()
        blocks.append(keeping(block, (0, n // 4), (n // 2, n)) if cut else block)
    return document.with_blocks(tuple(blocks))


@pytest.mark.parametrize(("format", "body"), BODIES)
@given(seed=st.integers(0, 10_000))
def test_no_change_is_identity(format: str, body: dict[str, Any], seed: int) -> None:
    raw = spell(body, random.Random(seed)).encode()
    parsed = parse(format, raw, RELEASED)
    assert parsed.body is raw
    assert render(parsed, parsed.document) is raw
    copied = parsed.document.with_blocks(
        tuple(b.with_spans(b.spans) for b in parsed.document.blocks)
    )
    assert render(parsed, copied) is raw


@pytest.mark.parametrize(("format", "body"), BODIES)
@given(seed=st.integers(0, 10_000), extra=st.dictionaries(texts, json_values, max_size=3))
def test_changed_texts_are_read_back(
    format: str, body: dict[str, Any], seed: int, extra: dict[str, Any]
) -> None:
    extra = {k: v for k, v in extra.items() if k not in ("ctxpress", "input", "suffix", "system")}
    raw = spell({**extra, **body}, random.Random(seed)).encode()
    parsed = parse(format, raw, RELEASED)
    after = halved(parsed.document)
    rendered = render(parsed, after)
    again = parse(format, rendered, RELEASED)
    assert [(b.pointer, b.text) for b in again.document.blocks] == [
        (b.pointer, b.text) for b in after.blocks
    ]
    assert [b.turn for b in again.document.blocks] == [b.turn for b in after.blocks]
    # Everything else is as it was: put the old texts back and the loaded bodies are equal.
    restored = again.document.with_blocks(
        tuple(
            writing(new, old.original) if new.spans else new
            for new, old in zip(again.document.blocks, parsed.document.blocks, strict=True)
        )
    )
    assert orjson.loads(render(again, restored)) == orjson.loads(raw)


def test_escapes_of_kept_characters_stay() -> None:
    content = rb"A\/\u0042 \ud83d\ude00 gone \u00e9nd"
    raw = b'{"messages" : [{"role":"user", "content":"' + content + b'"}], "n": 1.50}'
    parsed = parse("openai_chat", raw, RELEASED)
    block = parsed.document.blocks[0]
    after = parsed.document.with_blocks((keeping(block, (0, 6), (11, 14)),))
    assert after.blocks[0].text == "A/B 😀 énd"
    assert render(parsed, after) == raw.replace(b"gone ", b"")


def test_text_of_its_own_is_escaped() -> None:
    parsed = parse("openai_chat", b'{"messages":[{"role":"user","content":"x"}]}', RELEASED)
    after = parsed.document.with_blocks((writing(parsed.document.blocks[0], 'é"\n\x00'),))
    rendered = render(parsed, after)
    assert rendered.isascii()
    assert orjson.loads(rendered)["messages"][0]["content"] == 'é"\n\x00'


@pytest.mark.parametrize("blank", ["", " ", "\n\t "])
def test_blank_texts_go_as_they_were(blank: str) -> None:
    raw = b'{"messages":[{"role":"user","content":"hello"}]}'
    parsed = parse("openai_chat", raw, RELEASED)
    after = parsed.document.with_blocks((writing(parsed.document.blocks[0], blank),))
    assert render(parsed, after) is raw


def test_lone_surrogates_go_as_they_were() -> None:
    raw = b'{"messages":[{"role":"user","content":"hello"}]}'
    parsed = parse("openai_chat", raw, RELEASED)
    after = parsed.document.with_blocks((writing(parsed.document.blocks[0], "\ud800"),))
    assert render(parsed, after) is raw


def test_ranges_that_lie_are_text() -> None:
    parsed = parse("openai_chat", b'{"messages":[{"role":"user","content":"hello"}]}', RELEASED)
    lying = Span(text="hi", kind=Kind.PROSE, protected=False, kept=(Range(0, 99), Range(-3, 2)))
    after = parsed.document.with_blocks((parsed.document.blocks[0].with_spans((lying,)),))
    assert orjson.loads(render(parsed, after))["messages"][0]["content"] == "hi"


def test_duplicate_keys_leave_the_body_alone() -> None:
    raw = b'{"messages":[{"role":"system","role":"user","content":"hello"}]}'
    parsed = parse("openai_chat", raw, RELEASED)
    assert render(parsed, parsed.document) is raw
    with pytest.raises(FormatError) as caught:
        render(parsed, halved(parsed.document))
    assert caught.value.code == Skip.DUPLICATE_KEYS


@pytest.mark.parametrize("body", [CHAT, ANTHROPIC])
def test_messages(body: dict[str, Any]) -> None:
    messages = body["messages"]
    before = copy.deepcopy(messages)
    parsed = parse_messages(messages, "m", RELEASED)
    assert parsed.document.model == "m"
    same = render_messages(parsed, parsed.document)
    assert same == messages
    assert same is not messages
    after = halved(parsed.document)
    rendered = render_messages(parsed, after)
    assert messages == before, "the input is never changed"
    assert len(rendered) == len(messages)
    again = parse_messages(rendered, "m", RELEASED)
    assert [b.text for b in again.document.blocks] == [b.text for b in after.blocks]
    assert rendered != messages


def test_messages_share_blocks_with_bodies() -> None:
    for format, body in (("openai_chat", CHAT), ("anthropic_messages", ANTHROPIC)):
        whole = parse(format, orjson.dumps(body), RELEASED).document.blocks
        alone = parse_messages(body["messages"], None, RELEASED).document.blocks
        assert [b for b in whole if b.message >= 0] == list(alone)


@pytest.mark.parametrize(
    "messages",
    [None, "x", {}, [{"role": "user", "content": "\ud800"}], [{"role": "user", "x": {1}}]],
)
def test_messages_that_are_none(messages: Any) -> None:
    with pytest.raises(FormatError) as caught:
        parse_messages(messages, None, RELEASED)
    assert caught.value.code == Skip.UNSUPPORTED_SHAPE
