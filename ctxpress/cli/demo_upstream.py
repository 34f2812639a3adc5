"""A small OpenAI-compatible server for the demo: it answers with what it received.

It is no language model. Its answer names the size and the SHA-256 of the request body, so that a
client can prove what came through the proxy. It listens on this machine only.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["DemoUpstream", "Received"]

MAX_BODY_BYTES = 64 * 1024 * 1024
REMEMBERED = 100  # requests; a demo that runs for days must not grow


@dataclass(frozen=True, slots=True)
class Received:
    """One request body that arrived, and its hash."""

    body: bytes
    sha256: str


class DemoUpstream:
    """The server, on a free port; use it as a context manager."""

    def __init__(self) -> None:
        self._received: deque[Received] = deque(maxlen=REMEMBERED)
        outer = self

        class Handler(_Handler):
            upstream = outer

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def find(self, sha256: str) -> Received | None:
        """The request with this hash, if it arrived."""
        return next((r for r in reversed(self._received) if r.sha256 == sha256), None)

    def receive(self, body: bytes) -> Received:
        """Remember a request; called by the server's threads."""
        received = Received(body, hashlib.sha256(body).hexdigest())
        self._received.append(received)
        return received

    def __enter__(self) -> DemoUpstream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Chat completions, streamed or not, and the list of models."""

    upstream: DemoUpstream
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.rstrip("/").endswith("/models"):
            self._answer({"object": "list", "data": [{"id": "echo", "object": "model"}]})
        else:
            self._answer({"error": {"message": f"the demo has no {self.path}"}}, status=404)

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        if length > MAX_BODY_BYTES:
            self.close_connection = True
            self._answer({"error": {"message": "too large for the demo"}}, status=413)
            return
        body = self._chunked() if length == 0 else self.rfile.read(length)
        received = self.upstream.receive(body)
        try:
            request = json.loads(body)
        except ValueError:
            request = {}
        text = (
            f"I am the demo's upstream, no language model. I received {len(body):,} bytes, "
            f"SHA-256 {received.sha256[:12]}…"
        )
        if isinstance(request, dict) and request.get("stream"):
            self._stream(text)
        else:
            self._answer(_completion(text, received))

    def _chunked(self) -> bytes:
        """A body sent in chunks; nothing if there is none."""
        parts: list[bytes] = []
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            if sum(map(len, parts)) + size > MAX_BODY_BYTES:
                self.close_connection = True
                break
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        else:
            self.rfile.readline()
        return b"".join(parts)

    def _answer(self, value: dict[str, Any], *, status: int = 200) -> None:
        raw = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _stream(self, text: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        for word in text.split(" "):
            self._event({"index": 0, "delta": {"content": word + " "}, "finish_reason": None})
        self._event({"index": 0, "delta": {}, "finish_reason": "stop"})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, choice: dict[str, Any]) -> None:
        chunk = {"id": "demo", "object": "chat.completion.chunk", "created": 0, "model": "echo",
                 "choices": [choice]}  # fmt: skip
        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the demo prints its own lines."""


def _completion(text: str, received: Received) -> dict[str, Any]:
    return {
        "id": "demo",
        "object": "chat.completion",
        "created": 0,
        "model": "echo",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        "received": {"bytes": len(received.body), "sha256": received.sha256},
    }
