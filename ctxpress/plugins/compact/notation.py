"""The notation as a whole: whether a text holds any of it, and what such a text stands for."""

from __future__ import annotations

import re

from ctxpress.plugins.compact import columns, lines, tables
from ctxpress.plugins.compact.pieces import Room

__all__ = ["expand", "holds_notation"]

_MARKS = re.compile(f"{columns.MARKS}|{lines.MARKS}|{tables.MARKS}")


def holds_notation(text: str) -> bool:
    """Whether ``text`` has anything in it that could be taken for the stage's notation."""
    return _MARKS.search(text) is not None


def expand(text: str, *, max_characters: int = 1 << 26) -> str:
    """The text that ``compact`` wrote ``text`` for: a span's, a block's or all of a document's.

    Logs, tables and free text come back character by character; JSON comes back with the same
    tokens and without spacing. What is no notation comes back as it is.

    :raises FormatError: the text would grow by more than ``max_characters``.
    """
    room = Room(max_characters)
    text = columns.expand_columns(text, room)
    return lines.expand_lines(tables.expand_tables(text, room), room)
