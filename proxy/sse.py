"""Server-sent events on their way through: never parsed, never held back.

All that is remembered of a stream is how its last chunk ended, so that an error event can be put
behind it when the upstream dies.
"""

from __future__ import annotations

from .errors import stream_error

__all__ = ["EventStream"]

_EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_TAIL_BYTES = 4


class EventStream:
    """Remembers the last bytes of a stream that was sent."""

    __slots__ = ("_format", "_tail")

    def __init__(self, format_name: str | None) -> None:
        self._format = format_name
        self._tail = b""

    def saw(self, chunk: bytes) -> None:
        """Note a chunk that goes to the client."""
        if len(chunk) >= _TAIL_BYTES:
            self._tail = chunk
        elif chunk:
            self._tail = self._tail[-_TAIL_BYTES:] + chunk

    def ending(self, code: str, message: str) -> bytes:
        """What to send when the upstream dies here.

        Anthropic's clients go by an event's last ``event:`` line, so a half event is turned into
        the error itself. For OpenAI's a half event is closed first; its clients fail on it, which
        is as loud as the error event behind it.
        """
        error = stream_error(self._format, code, message)
        if not self._tail or self._tail.endswith(_EVENT_ENDS):
            return error
        if self._format == "anthropic_messages":
            return (b"" if self._tail.endswith(b"\n") else b"\n") + error
        return (b"\n" if self._tail.endswith(b"\n") else b"\n\n") + error
