"""Code, logs, listings, dumps and tables without fences, told by the shapes of their lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ctxpress.document import Kind
from ctxpress.formats.line_shapes import Shape, is_prose, shape_of
from ctxpress.formats.marks import Mark

__all__ = ["line_marks"]

_LINE = re.compile(r"[^\n]+")
_LIST_ITEM = re.compile(r"(?:[-*+•]|\d{1,3}[.)]|[a-z][.)])[ \t]")
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")

# What lines weigh; a run of neighbours is taken from 2 on: one strong line, two weak ones, three
# records.
_WEIGHT = {
    Shape.NONE: 0.0,
    Shape.HINT: 0.0,
    Shape.RECORD: 0.7,
    Shape.COLUMNS: 0.7,
    Shape.WEAK: 1.0,
    Shape.STRONG: 2.0,
    Shape.TABLE: 1.0,
}
_ENOUGH = 2.0
# Up to this many lines of another look between two pieces of code belong to them (a docstring, a
# wrapped message), if both pieces are at least as long as the bridge.
_MAX_BRIDGE = 2


class _Line(NamedTuple):
    """One line that is not blank; ``start`` and ``end`` are offsets, line break excluded."""

    start: int
    end: int
    shape: Shape
    after_blank: bool


class _Run(NamedTuple):
    """Neighbouring lines ``[first, last]`` that were found to be code or a table."""

    first: int
    last: int
    kind: Kind


def line_marks(text: str, start: int, end: int) -> Iterator[Mark]:
    """The stretches of whole lines in ``text[start:end]`` that are no prose.

    Tracebacks, diffs, shell sessions and listings, source code, logs, ``key: value`` and separated
    values, tables, indented code. In doubt a line counts as code: what is taken for code by mistake
    costs savings, what is taken for prose by mistake costs the answer.
    """
    lines = _lines(text, start, end)
    for run in _bridged(_runs(lines)):
        stop = lines[run.last].end
        yield Mark(lines[run.first].start, stop + 1 if stop < end else stop, run.kind)


def _lines(text: str, start: int, end: int) -> list[_Line]:
    lines: list[_Line] = []
    base: int | None = None
    in_list = False
    old = new = 0  # lines that the current hunk of a diff still has
    last_end = start
    for found in _LINE.finditer(text, start, end):
        line = found[0]
        body = line.lstrip(" \t")
        if not body or body.isspace():
            continue
        # The line break of the line before and one more: a blank line lies between.
        after_blank = not lines or text.count("\n", last_end, found.start()) > 1
        last_end = found.end()
        if old > 0 or new > 0:
            old, new, inside = _in_hunk(line, old, new)
            if inside:
                lines.append(_Line(found.start(), found.end(), Shape.STRONG, after_blank))
                continue
        indent = _width(line, len(line) - len(body))
        shape = shape_of(body)
        if shape is Shape.STRONG and body.startswith("@@") and (hunk := _HUNK.match(body)):
            old, new = int(hunk[1] or 1), int(hunk[2] or 1)
        if indent < 2:
            in_list = bool(_LIST_ITEM.match(body))
        if base is None or indent < base:
            base = indent
        if shape < Shape.WEAK and indent >= base + 4 and not _LIST_ITEM.match(body):
            shape = _indented(body, lines[-1] if lines else None, after_blank, in_list)
        lines.append(_Line(found.start(), found.end(), shape, after_blank))
    return lines


def _width(line: str, length: int) -> int:
    """Columns of the first ``length`` characters, which are spaces and tabs."""
    return length + 3 * line.count("\t", 0, length)


def _in_hunk(line: str, old: int, new: int) -> tuple[int, int, bool]:
    """Count a line of a diff's hunk; the last item says whether it belongs to the hunk at all."""
    first = line[0]
    if first == "-":
        return old - 1, new, True
    if first == "+":
        return old, new - 1, True
    if first in " \t":
        return old - 1, new - 1, True
    return (old, new, True) if first == "\\" else (0, 0, False)


def _indented(body: str, before: _Line | None, after_blank: bool, in_list: bool) -> Shape:
    """The shape of a line that is indented like code and looks like nothing else.

    Markdown's rule (four columns after a blank line), less what reads as prose, since people
    indent quotations and continue list items that way.
    """
    if is_prose(body):
        return (
            Shape.HINT if before and before.shape >= Shape.WEAK and not after_blank else Shape.NONE
        )
    if in_list:
        return Shape.HINT
    if after_blank or (before and before.shape >= Shape.WEAK):
        return Shape.STRONG if body.isascii() else Shape.WEAK
    return Shape.HINT


def _runs(lines: Sequence[_Line]) -> Iterator[_Run]:
    """The runs of lines that weigh enough."""
    first = 0
    while first < len(lines):
        if lines[first].shape is Shape.NONE:
            first += 1
            continue
        last = first
        while last + 1 < len(lines) and _continues(lines[last], lines[last + 1]):
            last += 1
        run = _weighed(lines, first, last)
        if run:
            yield run
        first = last + 1


def _continues(line: _Line, following: _Line) -> bool:
    if following.shape is Shape.NONE:
        return False
    if (line.shape is Shape.TABLE) != (following.shape is Shape.TABLE):
        return False
    # Blank lines part records and comments from each other, but not the pieces of a program.
    return not following.after_blank or (line.shape >= Shape.WEAK and following.shape >= Shape.WEAK)


def _weighed(lines: Sequence[_Line], first: int, last: int) -> _Run | None:
    weight = sum(_WEIGHT[lines[at].shape] for at in range(first, last + 1))
    if weight < _ENOUGH:
        return None
    if lines[first].shape is Shape.TABLE:
        return _Run(first, last, Kind.OPAQUE)
    return _Run(first, last, Kind.CODE)


def _bridged(runs: Iterator[_Run]) -> Iterator[_Run]:
    """The runs, those joined that only a few lines part."""
    open_run: _Run | None = None
    for run in runs:
        if open_run is None:
            open_run = run
            continue
        between = run.first - open_run.last - 1
        shorter = min(run.last - run.first, open_run.last - open_run.first) + 1
        code = run.kind is Kind.CODE and open_run.kind is Kind.CODE
        if code and between <= min(_MAX_BRIDGE, shorter):
            open_run = _Run(open_run.first, run.last, Kind.CODE)
        else:
            yield open_run
            open_run = run
    if open_run is not None:
        yield open_run
