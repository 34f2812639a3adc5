"""Conversations that grow turn by turn, in the shapes of two APIs, as agents send them."""

from __future__ import annotations

import random
from typing import Any

_SENTENCES = (
    "The committee met on Tuesday to go over the budget for the coming year.",
    "As you may well know, the heating system of the north wing failed twice in January.",
    "In her opinion it would be wiser to replace the boiler altogether before the winter.",
    "The offer from the supplier, which was sent in March, is valid until 30 June.",
    "Nobody was able to say with any certainty why the second pump had been switched off.",
    "It was therefore agreed that the engineers would come back with a written report.",
    "There were, of course, some voices that were rather against spending that much money.",
    "After a short break the members went through the remaining items on the agenda.",
)


def prose(seed: str, sentences: int = 40) -> str:
    """Believable English prose, the same for the same seed."""
    chosen = random.Random(seed)
    return " ".join(chosen.choice(_SENTENCES) for _ in range(sentences))


def openai_turn(number: int) -> list[dict[str, Any]]:
    """A user message, a tool call with its result, and the assistant's answer."""
    call = f"call_{number}"
    arguments = f'{{"page": {number},  "q":"heating"}}'
    return [
        {"role": "user", "content": f"Turn {number}. {prose(f'u{number}')}\n\nWhat now, {number}?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": call,
                    "type": "function",
                    "function": {"name": "search", "arguments": arguments},
                }
            ],
        },
        {"role": "tool", "tool_call_id": call, "content": prose(f"t{number}")},
        {"role": "assistant", "content": f"Answer {number}: the boiler is replaced."},
    ]


def openai_requests(turns: int) -> list[dict[str, Any]]:
    """The bodies of every request of a conversation: two a turn (before and after the tool)."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": "You are a careful clerk."}]
    bodies = []
    for number in range(turns):
        turn = openai_turn(number)
        bodies.append({"model": "gpt-4o", "messages": [*messages, turn[0]]})
        bodies.append({"model": "gpt-4o", "messages": [*messages, *turn[:3]]})
        messages += turn
    return bodies


def anthropic_turn(number: int) -> list[dict[str, Any]]:
    """The same in Anthropic's shape, with a document part beside the question."""
    call = f"toolu_{number}"
    return [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": prose(f"d{number}")},
                {"type": "text", "text": f"What follows from this, {number}?"},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": call, "name": "search", "input": {"page": number}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": call,
                    "content": [{"type": "text", "text": prose(f"t{number}")}],
                }
            ],
        },
        {"role": "assistant", "content": f"Answer {number}: the boiler is replaced."},
    ]


def anthropic_requests(turns: int) -> list[dict[str, Any]]:
    """Bodies with a ``cache_control`` on the newest block of every request, as agents set it."""
    messages: list[dict[str, Any]] = []
    bodies = []
    for number in range(turns):
        turn = anthropic_turn(number)
        for sent in (turn[:1], turn[:3]):
            bodies.append(
                {
                    "model": "claude-sonnet-4-6",
                    "max_tokens": 100,
                    "system": [{"type": "text", "text": "You are a careful clerk."}],
                    "messages": _with_breakpoint([*messages, *sent]),
                }
            )
        messages += turn
    return bodies


def _with_breakpoint(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    last = dict(messages[-1])
    content = last["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
    parts[-1] = {**parts[-1], "cache_control": {"type": "ephemeral"}}
    last["content"] = parts
    return [*messages[:-1], last]


def forwarded_blocks(body: dict[str, Any]) -> list[Any]:
    """The content blocks of a forwarded body in order, without ``cache_control``."""
    blocks: list[Any] = []
    system = body.get("system")
    if system is not None:
        blocks += _blocks("system", {"content": system})
    for message in body["messages"]:
        blocks += _blocks(message["role"], message)
    return blocks


def _blocks(role: str, message: dict[str, Any]) -> list[Any]:
    content = message["content"]
    if not isinstance(content, list):
        content = [{"type": "text", "text": content}]
    rest = {key: value for key, value in message.items() if key not in ("content", "role")}
    return [(role, rest, _without_cache_control(part)) for part in content]


def _without_cache_control(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_cache_control(v) for k, v in value.items() if k != "cache_control"}
    if isinstance(value, list):
        return [_without_cache_control(item) for item in value]
    return value
