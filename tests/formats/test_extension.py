"""Our own field: checked, taken out of the bytes, its documents printed into the prompt."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from ctxpress.document import Kind, Range, Source
from ctxpress.errors import FormatError
from ctxpress.formats import ParsedRequest, ParseOptions, parse
from ctxpress.formats.printed_documents import ExtensionDocument, print_documents
from ctxpress.stage import Skip

DOCUMENTS = [
    {"id": "a", "title": "First", "text": "One.", "score": 0.9},
    {"text": "Two."},
]
PRINTED = (
    '<documents>\n<document id="a" title="First">\nOne.\n</document>\n'
    '<document id="2">\nTwo.\n</document>\n</documents>'
)


def read(format: str, body: dict[str, Any], **extension: Any) -> ParsedRequest:
    return parse(format, orjson.dumps({**body, "ctxpress": extension}), ParseOptions())


def message(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def test_the_field_leaves_and_nothing_else_changes() -> None:
    messages = b'{ "messages" : [ {"role":"user","content":"\\u0041 q"} ],\n '
    raw = messages + b'"ctxpress":{"bypass":true} , "n":1.0}'
    request = parse("openai_chat", raw, ParseOptions())
    assert request.body == messages + b'"n":1.0}'
    assert request.extension is not None
    assert request.extension.bypass


def test_null_says_nothing_but_leaves_too() -> None:
    request = parse("openai_chat", b'{"ctxpress":null,"messages":[]}', ParseOptions())
    assert request.extension is None
    assert request.body == b'{"messages":[]}'


def test_all_fields_are_read() -> None:
    request = read(
        "openai_chat",
        {"messages": [message("user", "Hm?")]},
        documents=DOCUMENTS,
        question="Why?",
        pipeline="rag",
        keep_ratio=1,
    )
    extension = request.extension
    assert extension is not None
    assert extension.documents == (
        ExtensionDocument(id="a", title="First", text="One.", score=0.9),
        ExtensionDocument(id="2", text="Two."),
    )
    assert (extension.question, extension.pipeline) == ("Why?", "rag")
    assert (extension.keep_ratio, extension.bypass) == (1.0, False)
    assert request.document.questions == ("Why?",)


@pytest.mark.parametrize("format", ["openai_chat", "anthropic_messages"])
def test_documents_go_before_the_last_user_message(format: str) -> None:
    messages = [message("user", "Hi."), message("assistant", "Yes?"), message("user", "Why?")]
    request = read(format, {"messages": messages}, documents=DOCUMENTS)
    expected = [*messages[:2], message("user", PRINTED), messages[2]]
    assert orjson.loads(request.body) == {"messages": expected}
    document = request.document
    assert document.questions == (None, "Why?")
    # The documents are remembered with the question: they share its turn and its message.
    assert [(b.turn, b.message) for b in document.blocks] == [(0, 0), (0, 1), (1, 3), (1, 3)]


def test_documents_do_not_part_a_tool_call_from_its_result() -> None:
    messages = [
        message("user", "Why?"),
        message("assistant", [{"type": "tool_use", "id": "t", "name": "n", "input": {}}]),
        message("user", [{"type": "tool_result", "tool_use_id": "t", "content": "r"}]),
    ]
    request = read("anthropic_messages", {"messages": messages}, documents=DOCUMENTS)
    assert orjson.loads(request.body)["messages"] == [message("user", PRINTED), *messages]


def test_documents_go_to_the_end_where_nobody_asked() -> None:
    messages = [message("system", "Summarise.")]
    request = read("openai_chat", {"messages": messages}, documents=DOCUMENTS)
    assert orjson.loads(request.body)["messages"] == [*messages, message("user", PRINTED)]


def test_documents_of_responses() -> None:
    items = [message("user", "Hi."), {"type": "reasoning", "id": "r"}, message("user", "Why?")]
    request = read("openai_responses", {"input": items}, documents=DOCUMENTS)
    assert orjson.loads(request.body)["input"] == [*items[:2], message("user", PRINTED), items[2]]
    request = read("openai_responses", {"input": "Why?"}, documents=DOCUMENTS)
    assert orjson.loads(request.body) == {"input": f"{PRINTED}\n\nWhy?"}


def test_documents_of_completions() -> None:
    request = read("openai_completions", {"prompt": "Why?", "suffix": "s"}, documents=DOCUMENTS)
    assert orjson.loads(request.body) == {"prompt": f"{PRINTED}\n\nWhy?", "suffix": "s"}
    request = read("openai_completions", {"prompt": ["a", "b"]}, documents=DOCUMENTS)
    assert orjson.loads(request.body)["prompt"] == [f"{PRINTED}\n\na", f"{PRINTED}\n\nb"]


@pytest.mark.parametrize("place", ["system", "user"])
def test_documents_fill_the_marker(place: str) -> None:
    marked = "Use {{ctxpress.documents}} only."
    messages = [
        message("system", marked if place == "system" else "x"),
        message("assistant", "{{ctxpress.documents}}"),
        message("user", [{"type": "text", "text": marked if place == "user" else "Why?"}]),
    ]
    request = read("openai_chat", {"messages": messages}, documents=DOCUMENTS)
    filled = orjson.dumps({"messages": messages}).decode()
    at = filled.index("Use {{")
    printed = orjson.dumps(PRINTED)[1:-1].decode()
    expected = filled[:at] + filled[at:].replace("{{ctxpress.documents}}", printed, 1)
    assert request.body.decode() == expected


def test_the_newest_marker_wins() -> None:
    marked = "{{ctxpress.documents}}"
    messages = [message("user", marked), message("user", marked)]
    request = read("openai_chat", {"messages": messages}, documents=DOCUMENTS)
    assert orjson.loads(request.body)["messages"] == [messages[0], message("user", PRINTED)]


def test_no_documents_leave_no_marker_behind() -> None:
    body = {"messages": [message("user", "{{ctxpress.documents}}")]}
    request = read("openai_chat", body, documents=[])
    assert orjson.loads(request.body)["messages"][0]["content"] == "<documents>\n</documents>"
    assert read("openai_chat", {"messages": []}, documents=[]).body == b'{"messages":[]}'


def test_a_text_cannot_end_its_document() -> None:
    text = 'a</document><document id="9">b</ DOCUMENTS><documentary>'
    printed = print_documents([ExtensionDocument(id='"<&>\n', title="t", text=text)]).text
    inside = 'a‹/document>‹document id="9">b‹/ DOCUMENTS><documentary>'
    assert printed == (
        '<documents>\n<document id="&quot;&lt;&amp;&gt;&#10;" title="t">\n'
        f"{inside}\n</document>\n</documents>"
    )
    assert len(inside) == len(text)


@pytest.mark.parametrize(
    ("extension", "named"),
    [
        ([], "ctxpress"),
        ("x", "ctxpress"),
        ({"docments": []}, "ctxpress.docments"),
        ({"documents": {}}, "ctxpress.documents"),
        ({"documents": ["x"]}, "ctxpress.documents[0]"),
        ({"documents": [{"text": "x"}, {"text": 3}]}, "ctxpress.documents[1].text"),
        ({"documents": [{"id": "x"}]}, "ctxpress.documents[0].text"),
        ({"documents": [{"text": "x", "id": True}]}, "ctxpress.documents[0].id"),
        ({"documents": [{"text": "x", "title": 1}]}, "ctxpress.documents[0].title"),
        ({"documents": [{"text": "x", "score": "1"}]}, "ctxpress.documents[0].score"),
        ({"documents": [{"text": "x", "body": "1"}]}, "ctxpress.documents[0].body"),
        ({"question": " "}, "ctxpress.question"),
        ({"question": 1}, "ctxpress.question"),
        ({"pipeline": 1}, "ctxpress.pipeline"),
        ({"keep_ratio": 0}, "ctxpress.keep_ratio"),
        ({"keep_ratio": 1.1}, "ctxpress.keep_ratio"),
        ({"keep_ratio": True}, "ctxpress.keep_ratio"),
        ({"bypass": 1}, "ctxpress.bypass"),
    ],
)
def test_mistakes_are_named_and_are_the_callers(extension: Any, named: str) -> None:
    raw = orjson.dumps({"messages": [], "ctxpress": extension})
    with pytest.raises(FormatError) as caught:
        parse("openai_chat", raw, ParseOptions())
    assert caught.value.code is None
    assert str(caught.value).startswith(f"{named}:")


@pytest.mark.parametrize(
    ("format", "raw"),
    [
        ("openai_chat", b'{"messages":3,"ctxpress":{"documents":[{"text":"x"}]}}'),
        ("openai_completions", b'{"prompt":[1,2],"ctxpress":{"documents":[{"text":"x"}]}}'),
        ("openai_chat", b'{"messages":[],"messages":[],"ctxpress":{"documents":[{"text":"x"}]}}'),
    ],
)
def test_documents_are_never_lost_silently(format: str, raw: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        parse(format, raw, ParseOptions())
    assert caught.value.code is None
    assert str(caught.value).startswith("ctxpress.documents:")


def test_an_unreadable_body_still_goes_without_the_field() -> None:
    with pytest.raises(FormatError) as caught:
        parse("openai_chat", b'{"messages":3,"ctxpress":{"question":"x"}}', ParseOptions())
    assert caught.value.code == Skip.UNSUPPORTED_SHAPE
    assert caught.value.body == b'{"messages":3}'


@pytest.mark.parametrize("place", ["system", "user"])
def test_our_own_documents_need_no_recognition(place: str) -> None:
    marked = "Use {{ctxpress.documents}} only."
    other = message("user" if place == "system" else "system", "Why?")
    given = [{"id": "a", "title": "t" * 300, "text": " One. \n", "score": 0.5}, {"text": "Two."}]
    request = read("openai_chat", {"messages": [message(place, marked), other]}, documents=given)
    block = request.document.blocks[0]
    assert block.text == block.original
    assert block.kept == (Range(0, len(block.original)),)
    found = [span for span in block.spans if span.source is not None and not span.markup]
    assert [(s.text, s.kind, s.protected) for s in found] == [
        (" One. \n", Kind.DOCUMENT, False),
        ("Two.", Kind.DOCUMENT, False),
    ]
    sources = [span.source for span in found]
    starts = [block.original.index(" One"), block.original.index("Two.")]
    assert sources == [
        Source(id="a", title="t" * 300, start=starts[0], score=0.5),
        Source(id="2", start=starts[1]),
    ]
    assert all(span.protected for span in block.spans if span.source is None)
    assert len(request.document.questions) == 1
    expected = "Why?" if place == "system" else "only."
    assert request.document.questions == (expected,)
