"""Like objects as a header and rows.

An array of objects becomes ``[columns("id","name")`` and a line for each object with its values in
that order, closed by ``]`` behind the last. Values are JSON as it came, without spacing; a member
that an object does not have is left empty (``1,,3``), which no JSON value is. Objects that follow
each other without an array (one a line) become ``{columns(…)…}``. No JSON holds either outside of
its strings, so a reader can tell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ctxpress.plugins.compact.json_reader import Json, Node
from ctxpress.plugins.compact.pieces import Room

__all__ = ["MARKS", "expand_columns", "minified", "with_columns"]

MARKS = r"[\[{]columns\("

_OPENING = "columns("

_MIN_ROWS = 2
# Of all cells at most this part may be empty: rows by columns must stay in proportion to the text.
_MAX_EMPTY = 0.5
# A table must save this part of the array's characters; whether it saves tokens is counted later.
_MIN_SAVED = 0.08


def minified(read: Json) -> str:
    """The values without spacing, one a line where they came on lines of their own."""
    return _joined(read, [read.spelt(value) for value in read.values])


def with_columns(read: Json) -> str:
    """:func:`minified`, with every array of like objects as a header and rows, outermost first."""
    header = _header(read, read.values)
    if header is not None:
        return f"{read.gaps[0]}{{{_table(read, read.values, header)}}}{read.gaps[-1]}"
    return _joined(read, [_written(read, value) for value in read.values])


def _joined(read: Json, values: Sequence[str]) -> str:
    parts = [read.gaps[0], values[0]]
    for gap, value in zip(read.gaps[1:], values[1:], strict=False):
        parts += ("\n" if "\n" in gap else gap[:1], value)
    return "".join((*parts, read.gaps[-1]))


def _written(read: Json, root: Node) -> str:
    parts: list[str] = []
    at = root.start
    waiting = [root]
    while waiting:
        node = waiting.pop()
        header = _header(read, node.items) if node.keys is None else None
        if header is None:
            waiting.extend(item for item in reversed(node.items) if item.items)
            continue
        before = "".join(read.tokens[at : node.start])
        parts += (before, f"[{_table(read, node.items, header)}]")
        at = node.end
    parts.append("".join(read.tokens[at : root.end]))
    return "".join(parts)


def _header(read: Json, rows: Sequence[Node]) -> list[str] | None:
    """The keys of all rows in an order that each row keeps to; ``None`` where no table is due."""
    if len(rows) < _MIN_ROWS or any(row.keys is None for row in rows):
        return None
    keys = [row.keys or [] for row in rows]
    longest = max(keys, key=lambda row: len(row))
    places = {key: place for place, key in enumerate(longest)}
    members = named = 0
    for row in keys:
        last = -1
        for key in row:
            place = places.setdefault(key, len(places))
            if place <= last:
                return None
            last = place
            named += len(key)
        members += len(row)
    cells = len(places) * len(rows)
    if cells - members > _MAX_EMPTY * cells:
        return None
    # Braces, colons and keys go; commas for empty cells and the header come.
    header = len(_OPENING) + sum(map(len, places)) + len(places) + 1
    saved = named + members + 2 * len(rows) - header - (cells - members)
    size = read.offsets[rows[-1].end] - read.offsets[rows[0].start]
    return list(places) if saved >= _MIN_SAVED * size else None


def _table(read: Json, rows: Sequence[Node], header: Sequence[str]) -> str:
    parts = [_OPENING, ",".join(header), ")"]
    for row in rows:
        values = dict(zip(row.keys or (), map(read.spelt, row.items), strict=True))
        parts += ("\n", ",".join([values.get(key, "") for key in header]))
    return "".join(parts)


_FIND = re.compile(rf'{MARKS}(?=")')
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]++|\\.)*+"')
_SCALAR = re.compile(rf"{_STRING.pattern}|-?[0-9][0-9.eE+-]*+|true|false|null")
_BRACKET = re.compile(rf"{_STRING.pattern}|[\[\]{{}}]")


def expand_columns(text: str, room: Room) -> str:
    """``text`` with every table as the objects that it stands for; what is none stays.

    :raises FormatError: it would grow beyond ``room``.
    """
    parts: list[str] = []
    at = 0
    while found := _FIND.search(text, at):
        lines = found[0][0] == "{"
        reader = _TableReader(text, found.end(), "}" if lines else "]")
        if not reader.read():
            end = max(reader.at, found.end())
            parts.append(text[at:end])
            at = end
            continue
        parts.append(text[at : found.start()])
        parts += reader.objects(room, lines=lines)
        at = reader.at
    return "".join((*parts, text[at:])) if parts else text


class _TableReader:
    """One table, from behind its opening to ``closing``; ``at`` is where reading ended."""

    def __init__(self, text: str, at: int, closing: str) -> None:
        self.at = at
        self._closing = closing
        self._text = text
        self._header: list[str] = []
        self._rows: list[list[str]] = []

    def read(self) -> bool:
        """Whether there is a table with at least one row."""
        while key := _STRING.match(self._text, self.at):
            self._header.append(key[0])
            self.at = key.end()
            if not self._passed(","):
                break
        if not (self._header and self._passed(")")):
            return False
        while self._passed("\n"):
            row = [self._cell() for number in range(len(self._header)) if self._comma(number)]
            if len(row) != len(self._header):
                return False
            self._rows.append(row)
        return bool(self._rows) and self._passed(self._closing)

    def objects(self, room: Room, *, lines: bool) -> list[str]:
        """The rows as objects, in parts that are to be joined."""
        keys = sum(map(len, self._header)) + 2 * len(self._header)
        parts = []
        for number, row in enumerate(self._rows):
            room.take(keys + sum(map(len, row)) + 3)
            members = [f"{k}:{v}" for k, v in zip(self._header, row, strict=True) if v]
            separator = ("\n" if lines else ",") if number else ""
            parts.append(f"{separator}{{{','.join(members)}}}")
        return parts if lines else ["[", *parts, "]"]

    def _comma(self, number: int) -> bool:
        return number == 0 or self._passed(",")

    def _passed(self, mark: str) -> bool:
        if not self._text.startswith(mark, self.at):
            return False
        self.at += 1
        return True

    def _cell(self) -> str:
        """The value that begins here, empty where none does."""
        start = self.at
        if self._text[start : start + 1] in ("[", "{"):
            depth = 0
            self.at = len(self._text)  # where nothing closes it
            for inside in _BRACKET.finditer(self._text, start):
                bracket = inside[0]
                depth += (bracket in "[{") - (bracket in "]}")
                if depth == 0:
                    self.at = inside.end()
                    break
        elif found := _SCALAR.match(self._text, start):
            self.at = found.end()
        return self._text[start : self.at]
