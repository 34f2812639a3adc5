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
_COMMENT = re.compile(r"[ \t]*[rRuUbB]?(/\*|\"\"\"|''')")
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
    Shape.LOG: 2.0,
    Shape.TABLE: 1.0,
}
_ENOUGH = 2.0
# A run is a log if at least this share of its lines are entries; the rest is what entries quote.
_LOG_SHARE = 0.5
# Up to this many lines of another look between two pieces of code belong to them (a docstring, a
# wrapped message), if both pieces are at least as long as the bridge.
# Lines that might be code themselves (comments, records) do not count, up to a limit.
_MAX_BRIDGE = 2
_MAX_GAP = 12


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


def line_marks(text: str, start: int, end: int, blocks: Sequence[Mark] = ()) -> Iterator[Mark]:
    """The stretches of whole lines in ``text[start:end]`` that are no prose.

    Lines inside ``blocks`` (in order, without overlaps) are known to be something else and part
    what is before them from what is behind; only the hunk of a diff goes through them.

    Tracebacks, diffs, shell sessions and listings, source code, logs, ``key: value`` and separated
    values, tables, indented code. In doubt a line counts as code: what is taken for code by mistake
    costs savings, what is taken for prose by mistake costs the answer.
    """
    for lines in _groups(text, start, end, blocks):
        _quote_comments(text, lines)
        for run in _bridged(_runs(lines), lines):
            stop = lines[run.last].end
            yield Mark(lines[run.first].start, stop + 1 if stop < end else stop, run.kind)


def _groups(text: str, start: int, end: int, blocks: Sequence[Mark]) -> Iterator[list[_Line]]:
    """The lines that are not blank, in groups between the blocks."""
    lines: list[_Line] = []
    following = iter(blocks)
    block = next(following, None)
    base: int | None = None
    in_list = False
    old = new = 0  # lines that the current hunk of a diff still has
    last_end = start
    for found in _LINE.finditer(text, start, end):
        line = found[0]
        body = line.lstrip(" \t")
        if old > 0 or new > 0:
            old, new, inside = _in_hunk(line, old, new)
            if inside:
                last_end = found.end()
                lines.append(_Line(found.start(), last_end, Shape.STRONG, False))
                continue
        if not body or body.isspace():
            continue
        while block is not None and block.end <= found.start():
            block = next(following, None)
        if block is not None and block.start < found.end():
            yield lines
            lines = []
            continue
        # The line break of the line before and one more: a blank line lies between.
        after_blank = not lines or text.count("\n", last_end, found.start()) > 1
        last_end = found.end()
        indent = _width(line, len(line) - len(body))
        shape = shape_of(body)
        if shape is Shape.STRONG and body.startswith("@@") and (hunk := _HUNK.match(body)):
            old, new = int(hunk[1] or 1), int(hunk[2] or 1)
        if indent < 2:
            in_list = bool(_LIST_ITEM.match(body))
        if base is None or indent < base:
            base = indent
        if shape <= Shape.HINT and indent >= base + 4 and not _LIST_ITEM.match(body):
            shape = max(shape, _indented(body, lines[-1] if lines else None, after_blank, in_list))
        lines.append(_Line(found.start(), found.end(), shape, after_blank))
    yield lines


def _quote_comments(text: str, lines: list[_Line]) -> None:
    """Count comments and docstrings of several lines as code where code stands next to them.

    Alone, a text between triple quotes is how people hand over prose.
    """
    missing: set[str] = set()
    position = 0
    while position < len(lines):
        first = position
        position += 1
        opening = _COMMENT.match(text, lines[first].start, lines[first].end)
        if not opening:
            continue
        close = "*/" if opening[1] == "/*" else opening[1]
        if close in missing or text.find(close, opening.end(), lines[first].end) >= 0:
            continue
        at = text.find(close, lines[first].end, lines[-1].end)
        if at < 0:
            missing.add(close)  # nor is any that opens behind this one
            continue
        last = first
        while lines[last].end <= at:
            last += 1
        beside = [lines[near].shape for near in (first - 1, last + 1) if 0 <= near < len(lines)]
        if any(shape >= Shape.WEAK for shape in beside):
            for inside in range(first, last + 1):
                lines[inside] = lines[inside]._replace(shape=Shape.STRONG)
        position = last + 1


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
        return _Run(first, last, Kind.TABLE)
    entries = sum(lines[at].shape is Shape.LOG for at in range(first, last + 1))
    is_log = lines[first].shape is Shape.LOG and entries >= _LOG_SHARE * (last + 1 - first)
    return _Run(first, last, Kind.LOG if is_log else Kind.CODE)


def _bridged(runs: Iterator[_Run], lines: Sequence[_Line]) -> Iterator[_Run]:
    """The runs, those joined that only a few lines part."""
    open_run: _Run | None = None
    for run in runs:
        if open_run is None:
            open_run = run
            continue
        gap = range(open_run.last + 1, run.first)
        between = sum(lines[at].shape is Shape.NONE for at in gap[:_MAX_GAP])
        if len(gap) > _MAX_GAP:
            between = _MAX_GAP
        shorter = min(run.last - run.first, open_run.last - open_run.first) + 1
        code = Kind.TABLE not in (run.kind, open_run.kind)
        if code and between <= min(_MAX_BRIDGE, shorter):
            kind = run.kind if run.kind is open_run.kind else Kind.CODE
            open_run = _Run(open_run.first, run.last, kind)
        else:
            yield open_run
            open_run = run
    if open_run is not None:
        yield open_run
