"""What each endpoint's body is cut into: pointers, roles, turns, kinds, protection."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from ctxpress.document import Block, Kind, Role
from ctxpress.errors import FormatError
from ctxpress.formats import ParsedRequest, ParseOptions, parse
from ctxpress.stage import Skip
from tests.formats.bodies import ANTHROPIC, CHAT, COMPLETIONS, RESPONSES


def parsed(format: str, body: dict[str, Any], **options: Any) -> ParsedRequest:
    return parse(format, orjson.dumps(body), ParseOptions(**options))


def first_turn(body: dict[str, Any]) -> dict[str, Any]:
    """The body as it was before its last message: only a newest turn is cut into spans."""
    array = "messages" if "messages" in body else "input"
    return {**body, array: body[array][:-1]}


def texts(request: ParsedRequest) -> dict[str, Block]:
    return {b.pointer: b for b in request.document.blocks if not b.opaque}


def opaque(request: ParsedRequest) -> list[str]:
    return [b.pointer for b in request.document.blocks if b.opaque]


def outline(request: ParsedRequest) -> list[tuple[str, Role, int, int]]:
    return [(b.pointer, b.role, b.turn, b.message) for b in request.document.blocks]


def is_protected(block: Block) -> bool:
    return all(span.protected for span in block.spans)


def test_chat() -> None:
    request = parsed("openai_chat", CHAT)
    assert request.stream
    assert request.document.model == "gpt-4o"
    assert outline(request) == [
        ("/messages/0/content", Role.SYSTEM, 0, 0),
        ("/messages/1/content/0/text", Role.USER, 0, 1),
        ("/messages/1/content/1", Role.USER, 0, 1),
        ("/messages/1/content/2", Role.USER, 0, 1),
        ("/messages/1/content/3", Role.USER, 0, 1),
        ("/messages/1/content/4/text", Role.USER, 0, 1),
        ("/messages/2/tool_calls", Role.ASSISTANT, 0, 2),
        ("/messages/3/content", Role.TOOL, 0, 3),
        ("/messages/4/content/0/text", Role.TOOL, 0, 4),
        ("/messages/5/content", Role.TOOL, 0, 5),
        ("/messages/6/content/0/text", Role.ASSISTANT, 0, 6),
        ("/messages/6/content/1", Role.ASSISTANT, 0, 6),
        ("/messages/7/content", Role.USER, 1, 7),
    ]
    assert opaque(request) == [
        "/messages/1/content/1",
        "/messages/1/content/2",
        "/messages/1/content/3",
        "/messages/2/tool_calls",
        "/messages/6/content/1",
    ]
    assert request.document.questions == (None, "And tomorrow?")
    assert all(is_protected(b) for b in request.document.blocks if b.turn == 0)
    found = texts(parsed("openai_chat", first_turn(CHAT)))
    assert is_protected(found["/messages/0/content"])
    assert is_protected(found["/messages/6/content/0/text"])
    file = found["/messages/4/content/0/text"]
    assert [(s.kind, s.protected) for s in file.spans] == [(Kind.CODE, True)]
    assert not is_protected(found["/messages/3/content"])
    assert not is_protected(found["/messages/1/content/0/text"])


def test_roles_are_released_on_request() -> None:
    found = texts(
        parsed("openai_chat", first_turn(CHAT), compress_system=True, compress_assistant=True)
    )
    assert not is_protected(found["/messages/0/content"])
    assert not is_protected(found["/messages/6/content/0/text"])


def test_more_tools_can_be_named_as_readers() -> None:
    found = texts(parsed("openai_chat", first_turn(CHAT), read_tools=frozenset({"search"})))
    assert is_protected(found["/messages/3/content"])


def test_responses() -> None:
    request = parsed("openai_responses", RESPONSES)
    assert not request.stream
    assert request.document.seed == b""
    assert outline(request) == [
        ("/instructions", Role.SYSTEM, 0, -1),
        ("/input/0/content", Role.USER, 0, 0),
        ("/input/1", Role.ASSISTANT, 0, 1),
        ("/input/2", Role.ASSISTANT, 0, 2),
        ("/input/3", Role.ASSISTANT, 0, 3),
        ("/input/4/output", Role.TOOL, 0, 4),
        ("/input/5/output/0/text", Role.TOOL, 0, 5),
        ("/input/5/output/1", Role.TOOL, 0, 5),
        ("/input/6", Role.ASSISTANT, 0, 6),
        ("/input/7/output", Role.TOOL, 0, 7),
        ("/input/8", Role.ASSISTANT, 0, 8),
        ("/input/9", Role.ASSISTANT, 0, 9),
        ("/input/10/content/0/text", Role.ASSISTANT, 0, 10),
        ("/input/10/content/1/text", Role.ASSISTANT, 0, 10),
        ("/input/11/content/0", Role.USER, 1, 11),
        ("/input/11/content/1/text", Role.USER, 1, 11),
        ("/input/11/content/2/text", Role.USER, 1, 11),
    ]
    assert request.document.questions == (None, "What does it say?")
    found = texts(parsed("openai_responses", first_turn(RESPONSES), compress_assistant=True))
    assert is_protected(found["/input/4/output"])
    assert not is_protected(found["/input/5/output/0/text"])
    assert not is_protected(found["/input/10/content/0/text"])
    assert is_protected(found["/input/10/content/1/text"]), "annotations point into it"


def test_responses_string_input() -> None:
    request = parsed("openai_responses", {"model": "m", "input": "Why?"})
    assert outline(request) == [("/input", Role.USER, 0, 0)]
    assert request.document.questions == ("Why?",)


@pytest.mark.parametrize("seeded", [{"previous_response_id": "r1"}, {"conversation": {"id": "c"}}])
def test_responses_that_go_on_elsewhere(seeded: dict[str, Any]) -> None:
    output = {"type": "function_call_output", "call_id": "gone", "output": "text"}
    request = parsed("openai_responses", {"input": [output], **seeded})
    assert request.document.seed
    assert is_protected(request.document.blocks[0]), "nobody knows which tool printed it"
    plain = parsed("openai_responses", {"input": [output]})
    assert not is_protected(plain.document.blocks[0])
    assert plain.document.seed == b""


def test_completions() -> None:
    request = parsed("openai_completions", COMPLETIONS)
    assert outline(request) == [("/prompt", Role.USER, 0, 0), ("/suffix", Role.USER, 0, 1)]
    assert is_protected(texts(request)["/suffix"])
    assert request.document.questions == ("Once upon a time",)


def test_completions_with_several_prompts() -> None:
    request = parsed("openai_completions", {"prompt": ["a b", [1, 2], "c d"]})
    assert [(p, m) for p, _, _, m in outline(request)] == [
        ("/prompt/0", 0),
        ("/prompt/1", 1),
        ("/prompt/2", 2),
    ]
    assert opaque(request) == ["/prompt/1"]
    assert request.document.question_of(0) is None


@pytest.mark.parametrize("prompt", [[1, 2, 3], [[1], [2]], []])
def test_token_ids_are_opaque(prompt: Any) -> None:
    assert opaque(parsed("openai_completions", {"prompt": prompt})) == ["/prompt"]


def test_anthropic() -> None:
    request = parsed("anthropic_messages", ANTHROPIC)
    content = "/messages/0/content"
    assert outline(request) == [
        ("/system/0/text", Role.SYSTEM, 0, -1),
        ("/system/1/text", Role.SYSTEM, 0, -1),
        (f"{content}/0/source/data", Role.USER, 0, 0),
        (f"{content}/1/source/data", Role.USER, 0, 0),
        (f"{content}/2/source/content/0/text", Role.USER, 0, 0),
        (f"{content}/2/source/content/1", Role.USER, 0, 0),
        (f"{content}/2/source/content/2/text", Role.USER, 0, 0),
        (f"{content}/3", Role.USER, 0, 0),
        (f"{content}/4/content/0/text", Role.USER, 0, 0),
        (f"{content}/5", Role.USER, 0, 0),
        (f"{content}/6/text", Role.USER, 0, 0),
        ("/messages/1/content/0", Role.ASSISTANT, 0, 1),
        ("/messages/1/content/1", Role.ASSISTANT, 0, 1),
        ("/messages/1/content/2/text", Role.ASSISTANT, 0, 1),
        ("/messages/1/content/3", Role.ASSISTANT, 0, 1),
        ("/messages/1/content/4", Role.ASSISTANT, 0, 1),
        ("/messages/1/content/5", Role.ASSISTANT, 0, 1),
        ("/messages/1/content/6", Role.ASSISTANT, 0, 1),
        ("/messages/2/content/0/content", Role.TOOL, 0, 2),
        ("/messages/2/content/1/content/0/text", Role.TOOL, 0, 2),
        ("/messages/2/content/1/content/1", Role.TOOL, 0, 2),
        ("/messages/2/content/2/text", Role.USER, 0, 2),
        ("/messages/3/content", Role.ASSISTANT, 0, 3),
        ("/messages/4/content", Role.USER, 1, 4),
    ]
    assert request.document.questions == (None, "And tomorrow?")


def test_anthropic_documents_and_protection() -> None:
    found = texts(parsed("anthropic_messages", first_turn(ANTHROPIC)))
    first = found["/messages/0/content/0/source/data"].spans[0]
    assert first.kind is Kind.DOCUMENT
    assert first.source is not None
    assert (first.source.id, first.source.title) == ("0", "Timetable")
    assert not first.protected
    assert is_protected(found["/messages/0/content/1/source/data"]), "citations are enabled"
    result = found["/messages/0/content/4/content/0/text"].spans[0].source
    assert result is not None
    assert (result.id, result.title) == ("https://trains.example", "Trains")
    parts = [found[f"/messages/0/content/2/source/content/{i}/text"] for i in (0, 2)]
    assert [b.spans[0].source and b.spans[0].source.id for b in parts] == ["2", "2"]
    assert found["/messages/2/content/0/content"].spans[0].kind is Kind.CODE
    assert is_protected(found["/messages/2/content/0/content"])
    assert not is_protected(found["/messages/2/content/1/content/0/text"])


def test_cache_breakpoints() -> None:
    blocks = parsed("anthropic_messages", ANTHROPIC).document.blocks
    assert [b.pointer for b in blocks if b.cache_breakpoint] == [
        "/system/1/text",
        "/messages/0/content/6/text",
        "/messages/2/content/1/content/1",
    ]
    whole = parsed("anthropic_messages", {**ANTHROPIC, "cache_control": {"type": "ephemeral"}})
    assert whole.document.blocks[-1].cache_breakpoint
    message = {"role": "user", "content": "x", "cache_control": {"type": "ephemeral"}}
    assert parsed("openai_chat", {"messages": [message]}).document.blocks[0].cache_breakpoint


def test_each_user_message_begins_a_turn_and_tool_results_do_not() -> None:
    roles = ["system", "assistant", "user", "user", "assistant", "tool", "system", "user"]
    messages = [{"role": role, "content": f"word {i}"} for i, role in enumerate(roles)]
    document = parsed("openai_chat", {"messages": messages}).document
    assert [b.turn for b in document.blocks] == [0, 0, 0, 1, 1, 1, 1, 2]
    assert document.questions == (None, None, "word 7")
    assert document.last_turn == 2


def test_a_message_of_images_has_no_question() -> None:
    image = {"type": "image_url", "image_url": {"url": "x"}}
    messages = [{"role": "user", "content": [image]}, {"role": "user", "content": "Why?"}]
    assert parsed("openai_chat", {"messages": messages}).document.questions == (None, "Why?")


def test_what_an_agent_wraps_around_the_question_is_not_the_question() -> None:
    parts = ["Fix the bug.", "<environment_details>\nmany files\n</environment_details>"]
    content = [{"type": "text", "text": part} for part in parts]
    document = parsed("openai_chat", {"messages": [{"role": "user", "content": content}]}).document
    assert document.questions == ("Fix the bug.",)
    task = [{"type": "text", "text": part} for part in ("Notes.", "<task>Fix it.</task>")]
    document = parsed("openai_chat", {"messages": [{"role": "user", "content": task}]}).document
    assert document.questions == ("<task>Fix it.</task>",)


@pytest.mark.parametrize(
    ("format", "body"),
    [
        ("openai_chat", {}),
        ("openai_chat", {"messages": None}),
        ("openai_chat", {"messages": {"role": "user"}}),
        ("anthropic_messages", {"messages": "x"}),
        ("openai_responses", {}),
        ("openai_responses", {"input": 3}),
        ("openai_completions", {}),
        ("openai_completions", {"prompt": 3}),
        ("nonsense", {}),
    ],
)
def test_other_shapes_are_refused(format: str, body: dict[str, Any]) -> None:
    with pytest.raises(FormatError) as caught:
        parsed(format, body)
    assert caught.value.code == Skip.UNSUPPORTED_SHAPE
    assert caught.value.body is None


@pytest.mark.parametrize("format", ["openai_chat", "anthropic_messages"])
def test_no_messages_is_an_empty_document(format: str) -> None:
    document = parsed(format, {"messages": []}).document
    assert document.blocks == ()
    assert document.last_turn == 0


@pytest.mark.parametrize("format", ["openai_chat", "anthropic_messages"])
def test_strange_content_is_opaque_and_does_not_hinder_the_rest(format: str) -> None:
    messages: list[Any] = [
        {"role": "user", "content": None},
        {"role": "user", "content": 7},
        {"role": "user", "content": []},
        {"role": "user", "content": ""},
        {"role": "user", "content": [3, "x", None, {"type": "text"}, {"type": 4, "text": "x"}]},
        {"role": "alien", "content": "x"},
        {"role": ["user"], "content": "x"},
        {"content": "x"},
        "hello",
        None,
        {"role": "assistant", "content": {"text": "x"}},
        {"role": "user", "content": "Why?"},
    ]
    request = parsed(format, {"messages": messages})
    assert list(texts(request)) == ["/messages/11/content"]
    assert request.document.questions[-1] == "Why?"
    assert {b.message for b in request.document.blocks} == set(range(len(messages)))
