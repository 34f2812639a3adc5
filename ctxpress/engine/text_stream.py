"""Tokens to text as they come: no half characters, no beginnings of stop strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers.decoders import DecodeStream

__all__ = ["TextStream"]


class TextStream:
    """The text of one answer, token by token.

    Text that may turn out to be a stop string is held back until it is clear. A stop string
    itself is never part of the text, as in OpenAI's API.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer.backend_tokenizer
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False

    def begin_behind(self, token_ids: Sequence[int]) -> None:
        """The text goes on behind that of ``token_ids``, which is no part of what is told."""
        for token_id in token_ids:
            self._decoder.step(self._tokenizer, token_id)

    def push(self, token_id: int) -> str:
        """The text that is certain now that ``token_id`` has come; often empty."""
        if self.stopped:
            return ""
        self._held += self._decoder.step(self._tokenizer, token_id) or ""
        found = [place for place in map(self._held.find, self._stop) if place >= 0]
        if found:
            self.stopped = True
            text, self._held = self._held[: min(found)], ""
            return text
        keep = self._may_begin_a_stop()
        text, self._held = (
            self._held[: len(self._held) - keep],
            self._held[-keep or len(self._held) :],
        )
        return text

    def finish(self) -> str:
        """What was held back, when no more tokens come."""
        text, self._held = self._held, ""
        return text

    def _may_begin_a_stop(self) -> int:
        """How many characters at the end are the beginning of a stop string."""
        return max(
            (
                length
                for stop in self._stop
                for length in range(1, min(len(stop), len(self._held) + 1))
                if self._held.endswith(stop[:length])
            ),
            default=0,
        )
