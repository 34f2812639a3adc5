"""Documents as references: the prompt stays what it was, character by character."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.formats import ParseOptions, parse
from ctxpress.formats.extension import MARKER
from ctxpress.formats.references import References, referenced

TAGGED = (
    'Use these.\n<documents>\n<document id="1" title="A">\nThe first text.\n</document>\n'
    '<document id="2">\nThe second, longer text.\n</document>\n</documents>\nWhat is it?'
)


def chat(*contents: Any, **more: Any) -> bytes:
    messages = [{"role": "user", "content": content} for content in contents]
    return json.dumps({"model": "m", "messages": messages, **more}).encode()


def of(body: bytes, format_name: str = "openai_chat") -> References | None:
    return referenced(
        format_name, body, parse(format_name, body, ParseOptions(all_turns=True)).document.blocks
    )


def text_of(found: References, pointer: tuple[Any, ...] = ("messages", 0, "content")) -> str:
    """The prompt as an upstream puts it together again."""
    value: Any = orjson.loads(found.body)
    documents = value["ctxpress"]["documents"]
    for step in pointer:
        value = value[step]
    return str(value).replace(MARKER, "".join(d["text"] for d in documents))


def test_prompt_and_documents_together_are_the_prompt_as_it_was() -> None:
    found = of(chat(TAGGED, temperature=0))
    assert found is not None
    assert text_of(found) == TAGGED
    assert len(found.documents) == 2
    rows = orjson.loads(found.body)["ctxpress"]["documents"]
    for row, document in zip(rows, found.documents, strict=True):
        assert row["sha256"] == document.sha256
        assert document.sha256 == hashlib.sha256(row["text"].encode()).hexdigest()
        assert document.n_characters == len(row["text"])


def test_everything_else_in_the_body_stays_byte_for_byte() -> None:
    body = chat(TAGGED, temperature=0.0, user="é")
    found = of(body)
    assert found is not None
    tail = body[body.index(b"What is it?") :]
    assert found.body.endswith(tail)


def test_the_same_document_has_the_same_digest_beside_others() -> None:
    one = '<document id="1">\nAlpha.\n</document>\n'
    two = '<document id="2">\nBeta.\n</document>\n'
    first, second = of(chat(f"{one}{two}\nWhy?")), of(chat(f"{two}{one}\nHow?"))
    assert first is not None
    assert second is not None
    assert second.documents == first.documents[::-1]


def test_documents_of_our_own_field_become_references_too() -> None:
    body = chat("Why?", ctxpress={"documents": [{"id": "a", "title": "T", "text": "One {x}."}]})
    parsed = parse("openai_chat", body, ParseOptions())
    found = referenced("openai_chat", parsed.body, parsed.document.blocks)
    assert found is not None
    assert len(found.documents) == 1
    assert "One {x}." in orjson.loads(found.body)["ctxpress"]["documents"][0]["text"]


def test_in_a_growing_conversation_the_first_documents_stay_the_references() -> None:
    first = of(chat(TAGGED))
    longer = of(chat(TAGGED, "And <document>Another.</document> then?"))
    assert first is not None
    assert longer is not None
    assert longer.documents == first.documents


@pytest.mark.parametrize(
    "body",
    [
        chat("No documents here."),
        chat(TAGGED + MARKER),
        chat([{"type": "image_url", "image_url": {"url": "x"}}]),
    ],
)
def test_without_documents_there_is_nothing_to_refer_to(body: bytes) -> None:
    assert of(body) is None


def test_other_shapes_have_no_place_for_references() -> None:
    body = json.dumps({"model": "m", "input": TAGGED}).encode()
    blocks = parse("openai_responses", body, ParseOptions()).document.blocks
    assert referenced("openai_responses", body, blocks) is None


def test_completions_carry_references() -> None:
    body = json.dumps({"model": "m", "prompt": TAGGED}).encode()
    found = of(body, "openai_completions")
    assert found is not None
    assert text_of(found, ("prompt",)) == TAGGED


@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=4), st.text(max_size=20))
def test_whatever_stands_in_documents_the_prompt_is_kept(texts: list[str], between: str) -> None:
    prompt = between.join(f"<document>{text}</document>" for text in texts) + "\nWhy?"
    body = chat(prompt)
    try:
        json.loads(body)["messages"][0]["content"].encode()
    except UnicodeEncodeError:
        return
    found = of(body)
    if found is not None:
        assert text_of(found) == prompt
