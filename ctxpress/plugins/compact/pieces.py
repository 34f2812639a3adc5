"""What the transformations give to the stage, and what they may take from a reader."""

from __future__ import annotations

from typing import NamedTuple

from ctxpress.errors import FormatError

__all__ = ["Piece", "Room"]


class Piece(NamedTuple):
    """The characters ``[start, end)`` of a text, and another form of them."""

    start: int
    end: int
    text: str


class Room:
    """How many characters an expansion may still write: notation is short, what it says may not be.

    One use; a text that says ``(×99999)`` a thousand times must not fill the memory.
    """

    def __init__(self, max_characters: int) -> None:
        self._max = self._left = max_characters

    def take(self, characters: int) -> None:
        """Count text that is about to be written.

        :raises FormatError: there is no room for it.
        """
        self._left -= characters
        if self._left < 0:
            raise FormatError(f"the text expands to more than {self._max:,} characters")
