"""Tables without their padding.

A Markdown or text table whose columns are padded to a width follows a line ``[4 rows padded to
12,8r,5]`` with bare cells: the widths of the columns, ``r`` where cells stand at the right. A cell
that is padded in another way is left as it was, blanks and all, and so begins with one, which a
bare cell never does. A rule under the head is written with one dash (``-``, ``=``, ``:-``, ``-:``,
``:-:``). Separated values have no padding, and are no matter of this module.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ctxpress.plugins.compact.pieces import Piece, Room

__all__ = ["MARKS", "expand_tables", "fold_tables"]

MARKS = r"\[[0-9]+ rows padded to "

_ROW = re.compile(r"\|.*\||\+.*\+")
_RULE = re.compile(r"(:?)([-=])\2*(:?)")
_MIN_ROWS = 3


class _Column(NamedTuple):
    """How the cells of a column are padded: to ``width`` characters, and a blank on both sides."""

    width: int
    right: bool

    def padded(self, cell: str) -> str:
        """The whole of a cell between its separators."""
        rule = _RULE.fullmatch(cell)
        if rule and len(rule[0]) == len(rule[1]) + 1 + len(rule[3]):
            dashes = self.width + 2 - len(rule[1]) - len(rule[3])
            return f"{rule[1]}{rule[2] * dashes}{rule[3]}"
        if cell[:1] == " ":
            return cell
        return f" {cell.rjust(self.width) if self.right else cell.ljust(self.width)} "

    def bare(self, cell: str) -> str | None:
        """What :meth:`padded` makes ``cell`` of, as short as can be; ``None`` if nothing is."""
        rule = _RULE.fullmatch(cell)
        short = f"{rule[1]}{rule[2]}{rule[3]}" if rule else cell.strip(" ")
        return next((one for one in (short, cell) if self.padded(one) == cell), None)

    def __str__(self) -> str:
        return f"{self.width}{'r' if self.right else ''}"


def fold_tables(text: str, *, starts_line: bool, ends_line: bool) -> Iterator[Piece]:
    """The tables of ``text`` without padding, in order; arguments as of ``fold_lines``."""
    lines = text.split("\n")
    first = 0 if starts_line else 1
    last = len(lines) if ends_line else len(lines) - 1
    position = sum(len(line) + 1 for line in lines[:first])
    rows: list[str] = []
    for number, line in enumerate(lines[first:], start=first):
        if number < last and _ROW.fullmatch(line):
            rows.append(line)
        else:
            yield from _folded(rows, position)
            position += sum(len(row) + 1 for row in rows) + len(line) + 1
            rows = []
    yield from _folded(rows, position)


def _folded(rows: Sequence[str], start: int) -> Iterator[Piece]:
    """The table that ``rows`` are, which begin at ``start``, if they are one."""
    cells = [row[1:-1].split(row[0]) for row in rows]
    if len(rows) < _MIN_ROWS or len({len(row) for row in cells}) > 1:
        return
    columns = [_column(column) for column in zip(*cells, strict=True)]
    lines = [f"[{len(rows)} rows padded to {','.join(map(str, columns))}]"]
    for row, original in zip(cells, rows, strict=True):
        bare = [column.bare(cell) for column, cell in zip(columns, row, strict=True)]
        if any(cell is None for cell in bare):
            return
        mark = original[0]
        lines.append(f"{mark}{mark.join(cell or '' for cell in bare)}{mark}")
    yield Piece(start, start + sum(len(row) + 1 for row in rows) - 1, "\n".join(lines))


def _column(cells: Sequence[str]) -> _Column:
    width = Counter(map(len, cells)).most_common(1)[0][0] - 2
    inner = [cell[1:-1] for cell in cells if len(cell) == width + 2 and not _RULE.fullmatch(cell)]
    at_left = sum(cell == cell.strip(" ").ljust(width) for cell in inner)
    at_right = sum(cell == cell.strip(" ").rjust(width) for cell in inner)
    return _Column(max(width, 0), at_right > at_left)


_HEADER = re.compile(r"\[([0-9]{1,8}) rows padded to ([0-9]{1,6}r?(?:,[0-9]{1,6}r?)*)\]")


def expand_tables(text: str, room: Room) -> str:
    """``text`` with all tables padded again; what is no notation stays.

    :raises FormatError: it would grow beyond ``room``.
    """
    if not re.search(MARKS, text):
        return text
    lines = text.split("\n")
    result: list[str] = []
    columns: list[_Column] = []
    left = 0
    for number, line in enumerate(lines):
        header = None if left else _HEADER.fullmatch(line)
        if header and 0 < int(header[1]) < len(lines) - number:
            columns = [_read(column) for column in header[2].split(",")]
            left = int(header[1])
            continue
        if left:
            left -= 1
            room.take(sum(column.width + 3 for column in columns))
            line = _padded(line, columns)
        result.append(line)
    return "\n".join(result)


def _read(column: str) -> _Column:
    return _Column(int(column.removesuffix("r")), column.endswith("r"))


def _padded(line: str, columns: Sequence[_Column]) -> str:
    cells = line[1:-1].split(line[0]) if _ROW.fullmatch(line) else []
    if len(cells) != len(columns):
        return line
    padded = [column.padded(cell) for column, cell in zip(columns, cells, strict=True)]
    return f"{line[0]}{line[0].join(padded)}{line[0]}"
