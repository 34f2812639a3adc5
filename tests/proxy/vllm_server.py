"""An ASGI app that speaks vLLM's API: its two kinds of answers, and a connector's books.

It computes nothing: every answer is the same text. What it keeps are the documents that were
encoded, in a set that replicas share as they would share a store.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import orjson
import uvicorn
from tokenizers import Tokenizer

# Characters of one, two and three tokens: every token is a byte.
ANSWER = "né €!"
MAX_TOKENS = 4096
_Send = Any


class VllmApp:
    """``stored`` are the documents whose KV is there, ``requests`` all (path, body) that came.

    ``encode_s`` is how long encoding takes; ``status`` other than 200 refuses completions;
    ``break_after`` events a stream breaks off.
    """

    def __init__(self, tokenizer: Tokenizer, stored: set[tuple[int, ...]] | None = None) -> None:
        self.tokenizer = tokenizer
        self.stored = set() if stored is None else stored
        self.requests: list[tuple[str, bytes]] = []
        self.headers: list[dict[str, str]] = []
        self.encode_s = 0.0
        self.status = 200
        self.break_after: int | None = None

    def bodies(self, path: str, *, encode: bool | None = None) -> list[dict[str, Any]]:
        """The bodies sent to a path; ``encode`` chooses those that encode a document, or not."""
        found = [orjson.loads(body) for given, body in self.requests if given == path]
        return [b for b in found if encode is None or bool(_own(b).get("encode")) is encode]

    async def __call__(self, scope: Any, receive: Any, send: _Send) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        path = scope["path"]
        self.requests.append((path, body))
        self.headers.append({k.decode(): v.decode() for k, v in scope["headers"]})
        if path == "/v1/models":
            rows = [
                {"id": "small", "object": "model", "parent": None, "max_model_len": MAX_TOKENS},
                {
                    "id": "adapter",
                    "object": "model",
                    "parent": "small",
                    "max_model_len": MAX_TOKENS,
                },
            ]
            await _answer(send, 200, {"object": "list", "data": rows})
        elif path == "/v1/completions":
            await self._complete(orjson.loads(body), send)
        elif path == "/v1/chat/completions":
            value = orjson.loads(body)
            if value.get("temperature") == 99:
                await _answer(send, 400, error("temperature must be at most 2"))
            else:
                await self._respond(value, send, chat=True, prompt_tokens=11, cached=0)
        else:
            await _answer(send, 404, error("not found"))

    async def _complete(self, body: dict[str, Any], send: _Send) -> None:
        own, prompt = _own(body), body["prompt"]
        if self.status != 200 or body.get("temperature") == 99:
            bad = self.status if self.status != 200 else 400
            return await _answer(send, bad, error("no completion"))
        cached = 0
        if own.get("encode"):
            await asyncio.sleep(self.encode_s)
            end = own["prefix_tokens"] + own["document_tokens"][0]
            self.stored.add(tuple(prompt[:end]))
        elif own:
            prefix, at = tuple(prompt[: own["prefix_tokens"]]), own["prefix_tokens"]
            wanted = []
            for length in own["document_tokens"]:
                wanted.append((*prefix, *prompt[at : at + length]))
                at += length
            if all(piece in self.stored for piece in wanted):
                cached = at + own["pad_tokens"]
        n = len(prompt)
        await self._respond(body, send, chat=False, prompt_tokens=n, cached=cached)

    async def _respond(
        self, body: dict[str, Any], send: _Send, *, chat: bool, prompt_tokens: int, cached: int
    ) -> None:
        ids = self.tokenizer.encode(ANSWER, add_special_tokens=False).ids
        usage = {
            "prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens + len(ids),
            "completion_tokens": len(ids), "prompt_tokens_details": {"cached_tokens": cached},
        }  # fmt: skip
        head = {
            "id": "chatcmpl-1" if chat else "cmpl-1",
            "object": "chat.completion" if chat else "text_completion",
            "created": 1, "model": body.get("model", "small"),
        }  # fmt: skip
        if not body.get("stream"):
            choices = [self._whole(body, ids, i, chat=chat) for i in range(body.get("n", 1))]
            more: dict[str, Any] = {
                "choices": choices, "service_tier": None, "system_fingerprint": "f", "usage": usage,
                "kv_transfer_params": None, "ec_transfer_params": None, "metrics": None,
            }  # fmt: skip
            if chat:
                more |= {"prompt_logprobs": None, "prompt_token_ids": None}
            return await _answer(send, 200, head | more)
        await _begin(send)
        events = list(self._events(body, ids, head, usage, chat=chat))
        for number, value in enumerate(events):
            if number == self.break_after:
                raise ConnectionAbortedError
            await _chunk(send, b"data: " + orjson.dumps(value) + b"\n\n")
        await _chunk(send, b"data: [DONE]\n\n", more=False)

    def _whole(self, body: Any, ids: list[int], index: int, *, chat: bool) -> dict[str, Any]:
        logprobs = self._logprobs(body, ids, chat=chat)
        end = {"logprobs": logprobs, "finish_reason": "stop", "stop_reason": None}
        if chat:
            message = {
                "role": "assistant", "content": ANSWER, "refusal": None, "annotations": None,
                "audio": None, "function_call": None, "reasoning": None,
            }  # fmt: skip
            return {"index": index, "message": message, **end, "token_ids": None}
        more = {"token_ids": None, "prompt_logprobs": None, "prompt_token_ids": None}
        return {"index": index, "text": ANSWER, **end, **more}

    def _events(
        self, body: Any, ids: list[int], head: Any, usage: Any, *, chat: bool
    ) -> Iterator[dict[str, Any]]:
        head = head | {"object": "chat.completion.chunk" if chat else "text_completion"}
        for index in range(body.get("n", 1)) if chat else ():
            delta = {"role": "assistant", "content": ""}
            choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
            yield head | {"choices": [choice]}
        for index in range(body.get("n", 1)):
            pieces = [(ANSWER[:1], ids[:1]), (ANSWER[1:], ids[1:])]
            for number, (text, part) in enumerate(pieces):
                last = number == len(pieces) - 1
                logprobs = self._logprobs(body, part, chat=chat)
                choice = {"index": index, "logprobs": logprobs, "finish_reason": None}
                choice |= {"delta": {"content": text}} if chat else {"text": text}
                choice |= {"finish_reason": "stop", "stop_reason": None} if last else {}
                yield head | {"choices": [choice]}
        if (body.get("stream_options") or {}).get("include_usage"):
            yield head | {"choices": [], "usage": usage, "system_fingerprint": "f"}

    def _logprobs(self, body: Any, ids: list[int], *, chat: bool) -> Any:
        asked = body.get("logprobs")
        if asked is None or asked is False:
            return None
        rows = [{token: -0.5, 10: -1.5, 11: -2.5} for token in ids]
        if not chat:
            name = "token_id:{}" if body.get("return_tokens_as_token_ids") else "{}"
            return {
                "text_offset": list(range(len(ids))),
                "tokens": [name.format(token) for token in ids],
                "token_logprobs": [-0.5] * len(ids),
                "top_logprobs": [
                    {name.format(t): v for t, v in list(row.items())[: asked + 1]} for row in rows
                ],
            }
        top = body.get("top_logprobs", 0)
        return {
            "content": [
                self._token(token, -0.5)
                | {"top_logprobs": [self._token(t, v) for t, v in list(row.items())[:top]]}
                for token, row in zip(ids, rows, strict=True)
            ]
        }

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        text = self.tokenizer.decode([token], skip_special_tokens=False)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}}


@contextlib.contextmanager
def served(app: VllmApp) -> Iterator[str]:
    """The app on a socket: its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def _own(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = (body.get("kv_transfer_params") or {}).get("ctxpress", {})
    return found


async def _answer(send: _Send, status: int, value: Any) -> None:
    headers = [(b"content-type", b"application/json")]
    body = orjson.dumps(value)
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _begin(send: _Send) -> None:
    headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _chunk(send: _Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
