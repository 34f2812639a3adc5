"""Repeated lines and repeated beginnings of lines.

A line that occurs several times in a row is written once, with `` (×12)`` at its end. Lines that
begin alike follow a line ``[each of the next 40 lines begins with "2024-05-01T12:"]`` without that
beginning; the number counts lines as they are written, folded ones once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ctxpress.plugins.compact.pieces import Piece, Room

__all__ = ["MARKS", "expand_lines", "fold_lines"]

MARKS = r"\[each of the next [0-9]+ lines begins with \"| \(×[0-9]+\)\r?(?:\n|\Z)"

_MAX_TIMES = 99_999
_MAX_PREFIX = 200
# What a header costs and what a folded line does, in characters of a log: its words are few tokens
# for their length, a log's figures many.
_HEADER_COST = 32
_TIMES_COST = 8


class _Item(NamedTuple):
    """A line and how often it occurs from line ``first`` on."""

    first: int
    times: int
    line: str


class _Group(NamedTuple):
    """The items ``[first, last]``, which share a beginning of ``prefix`` characters."""

    first: int
    last: int
    prefix: int


def fold_lines(text: str, *, starts_line: bool, ends_line: bool) -> Iterator[Piece]:
    """Runs of whole lines of ``text`` in a shorter form, in order.

    ``starts_line``, ``ends_line``: whether a line begins where ``text`` does, and one ends where
    it ends.
    """
    lines = text.split("\n")
    first = 0 if starts_line else 1
    last = len(lines) if ends_line and lines[-1] else len(lines) - 1
    if last - first < 2:
        return
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    items = _items(lines, first, last)
    for group in _groups(items):
        chosen = items[group.first : group.last + 1]
        if group.prefix == 0 and chosen[0].times == 1:
            continue
        end = chosen[-1].first + chosen[-1].times
        yield Piece(starts[chosen[0].first], starts[end] - 1, _written(chosen, group.prefix))


def _items(lines: Sequence[str], first: int, last: int) -> list[_Item]:
    items: list[_Item] = []
    at = first
    while at < last:
        line, end = lines[at], at + 1
        while end < last and lines[end] == line and end - at < _MAX_TIMES:
            end += 1
        if line.strip() and (end - at - 1) * (len(line) + 1) > _TIMES_COST:
            items.append(_Item(at, end - at, line))
        else:
            items += (_Item(number, 1, line) for number in range(at, end))
        at = end
    return items


def _written(items: Sequence[_Item], prefix: int) -> str:
    lines = []
    if prefix:
        beginning = json.dumps(items[0].line[:prefix], ensure_ascii=False)
        lines.append(f"[each of the next {len(items)} lines begins with {beginning}]")
    for item in items:
        line = item.line[prefix:]
        if item.times > 1:
            ending = "\r" if line.endswith("\r") else ""
            line = f"{line.removesuffix(ending)} (×{item.times}){ending}"
        lines.append(line)
    return "\n".join(lines)


def _groups(items: Sequence[_Item]) -> Iterator[_Group]:
    """The items in groups with the beginnings that save most; a single item is a group as well.

    The shared beginning of an interval is the shortest that two neighbours in it share, and an
    interval that reaches over that shortest place gains by reaching further. So the best groups
    lie in the tree whose nodes are the shortest places: a node is one group, or its two sides are
    looked at apart.
    """
    shared = [_shared(a.line, b.line) for a, b in zip(items, items[1:], strict=False)]
    left, right, root = _tree(shared)
    best = [0] * len(shared)
    spans: dict[int, tuple[int, int]] = {}
    order: list[int] = []
    waiting = [(root, 0, len(items) - 1)] if shared else []
    while waiting:
        node, first, last = waiting.pop()
        order.append(node)
        spans[node] = (first, last)
        if left[node] >= 0:
            waiting.append((left[node], first, node))
        if right[node] >= 0:
            waiting.append((right[node], node + 1, last))
    whole: set[int] = set()
    for node in reversed(order):
        first, last = spans[node]
        apart = sum(best[child] for child in (left[node], right[node]) if child >= 0)
        gain = (last - first) * shared[node] - _HEADER_COST
        if gain > apart:
            whole.add(node)
        best[node] = max(gain, apart)
    yield from _chosen(len(items), shared, left, right, root, whole)


def _chosen(
    n_items: int,
    shared: Sequence[int],
    left: Sequence[int],
    right: Sequence[int],
    root: int,
    whole: set[int],
) -> Iterator[_Group]:
    waiting = [(root, 0, n_items - 1)]
    while waiting:
        node, first, last = waiting.pop()
        if node < 0 or first == last:
            yield from (_Group(number, number, 0) for number in range(first, last + 1))
        elif node in whole:
            yield _Group(first, last, shared[node])
        else:
            waiting += ((right[node], node + 1, last), (left[node], first, node))


def _tree(values: Sequence[int]) -> tuple[list[int], list[int], int]:
    """The Cartesian tree of ``values``: left and right children by index (-1: none), the root."""
    left, right = [-1] * len(values), [-1] * len(values)
    spine: list[int] = []
    for index, value in enumerate(values):
        below = -1
        while spine and values[spine[-1]] > value:
            below = spine.pop()
        left[index] = below
        if spine:
            right[spine[-1]] = index
        spine.append(index)
    return left, right, spine[0] if spine else -1


def _shared(first: str, second: str) -> int:
    """Characters of the longest common beginning that ends between words and is not blank."""
    low, high = 0, min(len(first), len(second), _MAX_PREFIX)
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    while low and first[low - 1].isalnum():
        low -= 1
    return low if first[:low].strip() else 0


_HEADER = re.compile(
    r'\[each of the next ([0-9]{1,8}) lines begins with ("(?:[^"\\\n]++|\\.)*+")\]\Z'
)
_TIMES = re.compile(r" \(×([0-9]{1,5})\)(\r?)\Z")


def expand_lines(text: str, room: Room) -> str:
    """``text`` with all lines as often and as long as they were; what is no notation stays.

    :raises FormatError: it would grow beyond ``room``.
    """
    lines = text.split("\n")
    result: list[str] = []
    prefix, left = "", 0
    for number, line in enumerate(lines):
        header = _HEADER.match(line) if line.startswith("[each") and not left else None
        if header and 0 < int(header[1]) < len(lines) - number and _is_string(header[2]):
            prefix, left = json.loads(header[2]), int(header[1])
            continue
        if left:
            left -= 1
            room.take(len(prefix))
            line = prefix + line
        times = _TIMES.search(line) if "×" in line[-12:] else None
        if times and int(times[1]) > 1:
            line = line[: times.start()] + times[2]
            room.take((int(times[1]) - 1) * (len(line) + 1))
            result += [line] * int(times[1])
        else:
            result.append(line)
    return "\n".join(result)


def _is_string(token: str) -> bool:
    try:
        json.loads(token)
    except ValueError:
        return False
    return True
