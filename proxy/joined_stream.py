"""One streamed answer out of the streams of several workers, as one client reads it.

The first worker's events pass as they are and are read on the way. Where it dies, another one
either gives the whole answer again, of which what the client has is left out (a *replay*), or goes
on behind the text that was sent (a *continuation*). Their events get the head of the first ones, so
the client sees one answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

__all__ = ["DivergedError", "JoinedStream", "WorkerFailedError"]

_END = b"\n\n"
_DATA = b"data: "
_DONE = b"[DONE]"
_HEAD = ("id", "created", "model", "system_fingerprint")


class DivergedError(Exception):
    """A replay gives another answer than the one that was begun."""


class WorkerFailedError(Exception):
    """A worker ended its stream with an error; ``event`` is what it said, whole."""

    def __init__(self, event: bytes) -> None:
        super().__init__("the worker ended its answer with an error")
        self.event = event


class JoinedStream:
    """What a client has of an answer, and what of another stream it lacks.

    Only whole events are handed on, so that what comes next is never put into half of one.
    """

    def __init__(self) -> None:
        self.text = ""
        self.done = False
        self.n_events = 0  # that held text: about as many as its tokens
        self._n_logprobs = 0
        self._finished = False
        self._head: dict[str, Any] = {}
        self._pending = b""
        self._resumed = 0
        # Of a replay: what it has given so far, as far as the client has it.
        self._replayed: str | None = None
        self._replayed_logprobs = 0

    @property
    def begun(self) -> bool:
        """Whether the client has anything of the answer."""
        return bool(self._head)

    def resume(self, *, replay: bool) -> None:
        """What is fed from now on is another stream; see the module."""
        self._pending = b""
        self._resumed += 1
        self._replayed = "" if replay else None
        self._replayed_logprobs = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The events for the client that ``data`` completes; often none.

        :raises DivergedError, WorkerFailedError: behind the events that came before.
        """
        events = (self._pending + data).split(_END)
        self._pending = events.pop()
        for event in events:
            if found := self._event(event):
                yield found

    def _event(self, event: bytes) -> bytes:
        raw = event + _END
        if not event.startswith(_DATA):
            return raw
        payload = event[len(_DATA) :]
        if payload == _DONE:
            raw, self.done = b"" if self.done else raw, True
            return raw
        try:
            body = orjson.loads(payload)
        except orjson.JSONDecodeError:
            body = None
        if not isinstance(body, dict):
            return raw  # no event of ours; whoever wrote it wants it read
        if "error" in body:
            raise WorkerFailedError(raw)
        if not self._head:
            self._head = {name: body[name] for name in _HEAD if name in body}
        choice = body["choices"][0] if body.get("choices") else None
        if not self._resumed:
            if choice is not None:
                self._sent(choice)
            return raw
        if choice is not None and not self._lacked(choice):
            return b""
        body |= self._head
        if isinstance(body.get("ctxpress"), dict):
            body["ctxpress"]["resumed"] = self._resumed
        return _DATA + orjson.dumps(body) + _END

    def _sent(self, choice: dict[str, Any]) -> None:
        text = _text(choice)
        self.text += text
        self.n_events += bool(text)
        self._n_logprobs += _n_logprobs(choice)
        self._finished |= choice.get("finish_reason") is not None

    def _lacked(self, choice: dict[str, Any]) -> bool:
        """Whether the client lacks this; cuts off what it has."""
        text, n_logprobs = _text(choice), _n_logprobs(choice)
        ends = choice.get("finish_reason") is not None
        if self._replayed is not None and self._is_behind:
            rest = self._rest_of(text)
            known = not rest and self._replayed_logprobs + n_logprobs <= self._n_logprobs
            self._replayed += text
            self._replayed_logprobs += n_logprobs
            if ends and self._is_behind:
                raise DivergedError
            if known and not ends:
                return False
            _set_text(choice, rest)
        elif not ends and not text and not n_logprobs:
            return False  # the event that names the role, a second time
        if ends and self._finished:
            return False
        self._sent(choice)
        if self._replayed is not None:
            self._replayed, self._replayed_logprobs = self.text, self._n_logprobs
        return True

    @property
    def _is_behind(self) -> bool:
        """Whether a replay has not reached what was sent."""
        return (
            len(self._replayed or "") < len(self.text) or self._replayed_logprobs < self._n_logprobs
        )

    def _rest_of(self, text: str) -> str:
        """What of a replay's next ``text`` goes beyond what was sent."""
        start = len(self._replayed or "")
        known = self.text[start : start + len(text)]
        if not text.startswith(known):
            raise DivergedError
        return text[len(known) :]


def _text(choice: dict[str, Any]) -> str:
    holder = choice.get("delta", choice)
    return holder.get("content") or holder.get("text") or ""


def _set_text(choice: dict[str, Any], text: str) -> None:
    if "delta" not in choice:
        choice["text"] = text
    elif choice["delta"].get("content"):
        choice["delta"]["content"] = text


def _n_logprobs(choice: dict[str, Any]) -> int:
    """How many tokens an event tells the log probabilities of, in either API's form."""
    logprobs = choice.get("logprobs") or {}
    return len(logprobs.get("content") or logprobs.get("tokens") or ())
