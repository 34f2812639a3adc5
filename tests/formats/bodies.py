"""Realistic bodies of the four endpoints, with every kind of part that they take."""

from __future__ import annotations

from typing import Any

__all__ = ["ANTHROPIC", "BODIES", "CHAT", "COMPLETIONS", "RESPONSES"]

EPHEMERAL = {"type": "ephemeral"}

CHAT: dict[str, Any] = {
    "model": "gpt-4o",
    "temperature": 0.2,
    "stream": True,
    "tools": [
        {
            "type": "function",
            "function": {"name": "read_file", "parameters": {"type": "object"}},
        }
    ],
    "messages": [
        {"role": "developer", "content": "You are careful."},
        {
            "role": "user",
            "name": "ann",
            "content": [
                {"type": "text", "text": "A long report about trains."},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
                {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}},
                {"type": "file", "file": {"file_id": "file-1"}},
                {"type": "text", "text": "Which train is late?"},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "search", "arguments": '{"q": "trains"}'},
                },
                {
                    "id": "c2",
                    "type": "function",
                    "function": {"name": "read_file", "arguments": '{"path": "a.py"}'},
                },
                {"id": "c3", "type": "custom", "custom": {"name": "bash", "input": "ls | wc"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "Ten results about trains."},
        {
            "role": "tool",
            "tool_call_id": "c2",
            "content": [{"type": "text", "text": "def main(): ..."}],
        },
        {"role": "tool", "tool_call_id": "c3", "content": "17"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "The 9:15 is late."},
                {"type": "refusal", "refusal": "No."},
            ],
        },
        {"role": "user", "content": "And tomorrow?"},
    ],
}

RESPONSES: dict[str, Any] = {
    "model": "gpt-5",
    "instructions": "You are careful.",
    "stream": False,
    "input": [
        {"role": "user", "content": "Read a.py and the page."},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
        {
            "type": "function_call",
            "call_id": "c1",
            "name": "shell",
            "arguments": '{"command": ["bash", "-lc", "sed -n 1,80p a.py"]}',
        },
        {"type": "function_call", "call_id": "c2", "name": "fetch", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "import os"},
        {
            "type": "function_call_output",
            "call_id": "c2",
            "output": [
                {"type": "input_text", "text": "A page about trains."},
                {"type": "input_image", "image_url": "https://x/y.png"},
            ],
        },
        {"type": "custom_tool_call", "call_id": "c3", "name": "apply_patch", "input": "***"},
        {"type": "custom_tool_call_output", "call_id": "c3", "output": "Done."},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "item_reference", "id": "msg_0"},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [
                {"type": "output_text", "text": "It is short.", "annotations": []},
                {
                    "type": "output_text",
                    "text": "See the page.",
                    "annotations": [{"type": "url_citation", "start_index": 0, "end_index": 3}],
                },
            ],
        },
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_file", "file_data": "data:application/pdf;base64,QUJD"},
                {"type": "input_text", "text": "A long page of text."},
                {"type": "input_text", "text": "What does it say?"},
            ],
        },
    ],
}

COMPLETIONS: dict[str, Any] = {
    "model": "gpt-3.5-turbo-instruct",
    "prompt": "Once upon a time",
    "suffix": "the end",
    "max_tokens": 7,
}

ANTHROPIC: dict[str, Any] = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 1024,
    "system": [
        {"type": "text", "text": "You are careful."},
        {"type": "text", "text": "Rules.", "cache_control": EPHEMERAL},
    ],
    "messages": [
        {
            "role": "user",
            "content": [
                {
                    "type": "document",
                    "title": "Timetable",
                    "source": {"type": "text", "media_type": "text/plain", "data": "9:15 late."},
                },
                {
                    "type": "document",
                    "title": "Cited",
                    "source": {"type": "text", "media_type": "text/plain", "data": "Quote me."},
                    "citations": {"enabled": True},
                },
                {
                    "type": "document",
                    "source": {
                        "type": "content",
                        "content": [
                            {"type": "text", "text": "Part one."},
                            {"type": "image", "source": {"type": "url", "url": "https://x"}},
                            {"type": "text", "text": "Part two."},
                        ],
                    },
                },
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "QUJD"},
                },
                {
                    "type": "search_result",
                    "source": "https://trains.example",
                    "title": "Trains",
                    "content": [{"type": "text", "text": "Trains are late."}],
                },
                {"type": "image", "source": {"type": "base64", "data": "QUJD"}},
                {"type": "text", "text": "Which one?", "cache_control": EPHEMERAL},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Let me look.", "signature": "EqQB"},
                {"type": "redacted_thinking", "data": "EmwK"},
                {"type": "text", "text": "I will read both."},
                {"type": "tool_use", "id": "t1", "name": "Read", "input": {"file_path": "a.py"}},
                {"type": "tool_use", "id": "t2", "name": "Grep", "input": {"pattern": "x"}},
                {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}},
                {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "1\timport os"},
                {
                    "type": "tool_result",
                    "tool_use_id": "t2",
                    "is_error": False,
                    "cache_control": EPHEMERAL,
                    "content": [
                        {"type": "text", "text": "Many matches."},
                        {"type": "image", "source": {"type": "base64", "data": "QUJD"}},
                    ],
                },
                {"type": "text", "text": "<system-reminder>be brief</system-reminder>"},
            ],
        },
        {"role": "assistant", "content": "Both are late."},
        {"role": "user", "content": "And tomorrow?"},
    ],
}

BODIES: list[tuple[str, dict[str, Any]]] = [
    ("openai_chat", CHAT),
    ("openai_responses", RESPONSES),
    ("openai_completions", COMPLETIONS),
    ("anthropic_messages", ANTHROPIC),
]
