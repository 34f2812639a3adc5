"""Answers in OpenAI's shapes: whole, and as events of a stream."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from ctxpress.engine.generation import Finished, Piece

__all__ = ["AnswerWriter", "DONE"]

DONE = b"data: [DONE]\n\n"


class AnswerWriter:
    """Writes one answer. ``token_text`` tells the text of a token id, for log probabilities.

    ``begun_tokens``: the answer goes on behind them; offsets into its text do, too.
    """

    def __init__(
        self,
        model: str,
        token_text: Callable[[int], str],
        *,
        chat: bool,
        logprobs: bool,
        include_usage: bool,
        begun_tokens: Sequence[int] = (),
    ) -> None:
        self._chat = chat
        self._logprobs = logprobs
        self._include_usage = include_usage
        self._token_text = token_text
        self._offset = sum(len(token_text(token)) for token in begun_tokens) if logprobs else 0
        kind = "chat.completion" if chat else "text_completion"
        self._head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, pieces: Sequence[Piece], end: Finished) -> bytes:
        """The body of an answer that is not streamed."""
        text = "".join(piece.text for piece in pieces) + end.text
        choice: dict[str, Any] = {"index": 0, "finish_reason": end.reason}
        if self._chat:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = text
        choice["logprobs"] = self._logprobs_of(pieces)
        body = {**self._head, "choices": [choice], "usage": _usage(end)}
        if end.report:
            body["ctxpress"] = end.report
        return orjson.dumps(body)

    def start(self) -> bytes:
        """What a stream begins with: empty for completions."""
        if not self._chat:
            return b""
        return self._event({"delta": {"role": "assistant", "content": ""}, "logprobs": None})

    def piece(self, piece: Piece) -> bytes:
        """The event of a token; empty where there is nothing to tell yet."""
        if not piece.text and not self._logprobs:
            return b""
        return self._event({**self._content(piece.text), "logprobs": self._logprobs_of([piece])})

    def end(self, end: Finished) -> bytes:
        """The last events: the rest of the text, the reason, the usage, and the end mark."""
        events = b""
        if end.text:
            events += self._event({**self._content(end.text), "logprobs": None})
        last: dict[str, Any] = {"delta": {}} if self._chat else {"text": ""}
        events += self._event({**last, "logprobs": None}, end.reason, end.report)
        if self._include_usage:
            events += _data({**self._streamed_head, "choices": [], "usage": _usage(end)})
        return events + DONE

    @property
    def _streamed_head(self) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        return {**self._head, "object": kind}

    def _content(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text}} if self._chat else {"text": text}

    def _event(
        self,
        choice: dict[str, Any],
        reason: str | None = None,
        report: dict[str, Any] | None = None,
    ) -> bytes:
        body: dict[str, Any] = {
            **self._streamed_head,
            "choices": [{"index": 0, **choice, "finish_reason": reason}],
        }
        if self._include_usage:
            body["usage"] = None
        if report:
            body["ctxpress"] = report
        return _data(body)

    def _logprobs_of(self, pieces: Sequence[Piece]) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        if self._chat:
            return {"content": [self._chat_token(piece) for piece in pieces], "refusal": None}
        tokens = [self._token_text(piece.token.token_id) for piece in pieces]
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token)
        return {
            "tokens": tokens,
            "token_logprobs": [piece.token.logprob for piece in pieces],
            "top_logprobs": [
                {self._token_text(token): logprob for token, logprob in piece.token.top}
                for piece in pieces
            ],
            "text_offset": offsets,
        }

    def _chat_token(self, piece: Piece) -> dict[str, Any]:
        return {
            **self._one(piece.token.token_id, piece.token.logprob),
            "top_logprobs": [self._one(token, logprob) for token, logprob in piece.token.top],
        }

    def _one(self, token_id: int, logprob: float) -> dict[str, Any]:
        text = self._token_text(token_id)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8"))}


def _usage(end: Finished) -> dict[str, Any]:
    return {
        "prompt_tokens": end.n_prompt_tokens,
        "completion_tokens": end.n_generated_tokens,
        "total_tokens": end.n_prompt_tokens + end.n_generated_tokens,
        "prompt_tokens_details": {"cached_tokens": end.n_cached_tokens},
    }


def _data(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"
