"""Paths to formats."""

from __future__ import annotations

import pytest

from ctxpress.formats import format_of_path


@pytest.mark.parametrize(
    ("path", "format"),
    [
        ("/v1/chat/completions", "openai_chat"),
        ("/chat/completions", "openai_chat"),
        ("/v1/chat/completions/", "openai_chat"),
        ("/v1/chat/completions?api-version=1", "openai_chat"),
        ("/openai/deployments/gpt/chat/completions", "openai_chat"),
        ("/api/v1/chat/completions", "openai_chat"),
        ("/v1beta/openai/chat/completions", "openai_chat"),
        ("/v1/completions", "openai_completions"),
        ("/completions", "openai_completions"),
        ("/openai/deployments/gpt/completions", "openai_completions"),
        ("/v1/responses", "openai_responses"),
        ("/responses", "openai_responses"),
        ("/openai/v1/responses", "openai_responses"),
        ("/v1/messages", "anthropic_messages"),
        ("/messages", "anthropic_messages"),
        ("/anthropic/v1/messages", "anthropic_messages"),
        ("/anthropic/messages", "anthropic_messages"),
    ],
)
def test_formats(path: str, format: str) -> None:
    assert format_of_path(path) == format


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/v1",
        "v1",
        "/v1/models",
        "/v1/embeddings",
        "/v1/messages/count_tokens",
        "/v1/messages/batches",
        "/v1/responses/resp_1",
        "/v1/responses/resp_1/cancel",
        "/v1/responses/resp_1/input_items",
        "/v1/responses/input_tokens",
        "/v1/batches",
        "/v1/chat/completions/cmpl_1",
        "/v1/chat/completions/cmpl_1/messages",
        "/v1/threads/t_1/messages",
        "/xchat/xcompletions",
        "/v1/Messages",
    ],
)
def test_everything_else_passes(path: str) -> None:
    assert format_of_path(path) is None
