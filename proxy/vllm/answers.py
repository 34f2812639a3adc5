"""Answers of ``/v1/completions`` in the shape of ``/v1/chat/completions``, whole or as events.

The shapes are those of vLLM's two APIs. Errors, and what is not an answer, stay as they came.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

__all__ = ["ChatAnswer"]

_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LEAST_LOGPROB = -9999.0  # vLLM's and OpenAI's word for "never"
_TOKEN_ID = re.compile(r"token_id:(\d+)", re.ASCII)
_PREFIX = "cmpl-"
# What vLLM's messages have beside role and content.
_NOTHING = dict.fromkeys(("refusal", "annotations", "audio", "function_call", "reasoning"))


class ChatAnswer:
    """Turns one completion into the answer to one chat.

    ``top_logprobs``: how many a token the client asked for; None for no log-probabilities.
    ``token_text``: a token's text by its id.
    """

    def __init__(self, top_logprobs: int | None, token_text: Callable[[int], str]) -> None:
        self._top = top_logprobs
        self._token_text = token_text
        self._buffer = b""
        self._begun: set[int] = set()

    def whole(self, body: bytes) -> bytes:
        """A whole answer; any other body as it is."""
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            return body
        if not _is_completion(value):
            return body
        head = _head(value, "chat.completion")
        choices = [self._choice(choice) for choice in value["choices"]]
        return orjson.dumps(
            head | {"choices": choices, "prompt_logprobs": None, "prompt_token_ids": None}
        )

    def events(self, chunk: bytes, *, last: bool) -> bytes:
        """What to send for a piece of a stream: all events that are complete with it."""
        buffer = self._buffer + chunk
        out, start = [], 0
        # An event's end may lie across two pieces.
        for match in _EVENT_END.finditer(buffer, max(0, len(self._buffer) - 3)):
            out.append(self._event(buffer[start : match.end()]))
            start = match.end()
        self._buffer = buffer[start:]
        if last and self._buffer:  # broke off: what there is, as it came
            out.append(self._buffer)
            self._buffer = b""
        return b"".join(out)

    def _event(self, event: bytes) -> bytes:
        lines = event.splitlines()
        data = [line[5:].strip() for line in lines if line.startswith(b"data:")]
        try:
            value = orjson.loads(b"\n".join(data))
        except orjson.JSONDecodeError:  # [DONE], or a comment
            return event
        if not _is_completion(value):
            return event
        return b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in self._chunks(value))

    def _chunks(self, value: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The chunks of one event: before the first of each choice goes one with the role."""
        head = _head(value, "chat.completion.chunk")
        chunks = []
        for choice in value["choices"]:
            if choice["index"] not in self._begun:
                self._begun.add(choice["index"])
                opening = {
                    "index": choice["index"],
                    "delta": {"role": "assistant", "content": ""},
                    "logprobs": None,
                    "finish_reason": None,
                }
                chunks.append(head | {"choices": [opening]} | _usage_before(value))
        choices = [self._delta(choice) for choice in value["choices"]]
        return [*chunks, head | {"choices": choices}]

    def _delta(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        kept = _without(choice, "text", "logprobs", "prompt_token_ids", "index")
        return {
            "index": choice["index"],
            "delta": {"content": choice["text"]},
            "logprobs": self._logprobs(choice.get("logprobs")),
            **kept,
        }

    def _choice(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        kept = _without(choice, "text", "logprobs", "prompt_logprobs", "prompt_token_ids", "index")
        return {
            "index": choice["index"],
            "message": {"role": "assistant", "content": choice["text"], **_NOTHING},
            "logprobs": self._logprobs(choice.get("logprobs")),
            **kept,
        }

    def _logprobs(self, given: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if self._top is None or not given:
            return None
        content = []
        rows = zip(given["tokens"], given["token_logprobs"], given["top_logprobs"], strict=True)
        for token, logprob, others in rows:
            named = list((others or {}).items())
            if self._top >= 0:  # vLLM lists the token itself first, then the likeliest ones
                named = named[: self._top]
            content.append(
                self._token(token, logprob)
                | {"top_logprobs": [self._token(name, value) for name, value in named]}
            )
        return {"content": content}

    def _token(self, name: str, logprob: float | None) -> dict[str, Any]:
        match = _TOKEN_ID.fullmatch(name)
        text = self._token_text(int(match[1])) if match else name
        value = _LEAST_LOGPROB if logprob is None else logprob
        return {
            "token": text,
            "logprob": value,
            "bytes": list(text.encode("utf-8", errors="replace")),
        }


def _is_completion(value: Any) -> bool:
    return isinstance(value, dict) and value.get("object") == "text_completion"


def _head(value: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """All of an answer but its choices, and but what the connector was told."""
    head = _without(value, "choices", "kv_transfer_params")
    return head | {"id": f"chat{value['id']}" if _is_id(value) else value["id"], "object": kind}


def _is_id(value: Mapping[str, Any]) -> bool:
    return str(value["id"]).startswith(_PREFIX)


def _usage_before(value: Mapping[str, Any]) -> dict[str, Any]:
    """The usage before the first token, where every chunk has one."""
    usage = value.get("usage")
    if not usage:
        return {}
    prompt = usage["prompt_tokens"]
    return {"usage": usage | {"completion_tokens": 0, "total_tokens": prompt}}


def _without(value: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: item for name, item in value.items() if name not in names}
