"""Edits of a JSON body that leave every other byte as it came.

Re-serialising would change key order, spacing, number spelling and escapes, and with them the
provider's prompt cache. So an edit finds the byte range of a value by its JSON pointer and
replaces just that; what becomes of a string is the business of `json_strings`.

The scanner runs only when there is something to edit, over bytes that a parser has already
accepted: linear in the body, no recursion, and strings are skipped at the speed of ``bytes.find``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import orjson

from ctxpress.errors import FormatError
from ctxpress.formats.json_strings import Piece, rewrite_string
from ctxpress.stage import Skip

__all__ = [
    "ArrangeElements",
    "DeleteMember",
    "Edit",
    "InsertElement",
    "ReplaceString",
    "apply_edits",
    "rearranged",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReplaceString:
    """The string at ``pointer`` becomes ``pieces`` joined."""

    pointer: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class DeleteMember:
    """Every member of that name leaves its object, with the comma it needed."""

    pointer: str


@dataclass(frozen=True, slots=True)
class InsertElement:
    """``value``, JSON, goes before the element at ``pointer`` (``/array/3``), or at the end."""

    pointer: str
    value: bytes


@dataclass(frozen=True, slots=True)
class ArrangeElements:
    """Elements of the array at ``pointer`` change places, and some leave.

    Of the elements ``movable`` (ascending), ``placed`` says which goes to the place of which, by
    ascending place; the others leave, and places that nothing goes to close up.
    """

    pointer: str
    movable: tuple[int, ...]
    placed: tuple[tuple[int, int], ...]


Edit = ReplaceString | DeleteMember | InsertElement | ArrangeElements


def rearranged(
    elements: Sequence[T], movable: Iterable[int], placed: Iterable[tuple[int, int]]
) -> list[T]:
    """``elements`` as :class:`ArrangeElements` says."""
    taken = dict(placed)
    places = set(movable)
    return [
        elements[taken.get(index, index)]
        for index in range(len(elements))
        if index in taken or index not in places
    ]


def apply_edits(raw: bytes, edits: Sequence[Edit]) -> bytes:
    """``raw`` with ``edits`` made; pointers and ranges are those of ``raw``.

    ``raw`` must be valid JSON. At most one edit a string, any number an object or array.

    :raises FormatError: a pointer leads nowhere or to another type, or an object on the way to
        an edited string or array has a key twice, so that readers may differ about its meaning.
    """
    if not edits:
        return raw
    root = _Node()
    places = [(edit, _plant(root, edit)) for edit in edits]
    try:
        _scan(raw, root)
        cuts = list(_cuts(raw, places))
    except IndexError:
        raise FormatError("the body ends too early", code=Skip.UNPARSEABLE) from None
    # Insertions at one place keep the order in which they were asked for: the sort is stable.
    cuts.sort(key=lambda cut: (cut[0], cut[1]))
    parts: list[bytes] = []
    at = 0
    for start, end, new in cuts:
        if start < at:
            raise FormatError("two edits overlap", code=Skip.UNSUPPORTED_SHAPE)
        parts += (raw[at:start], new)
        at = end
    parts.append(raw[at:])
    return b"".join(parts)


@dataclass(slots=True)
class _Member:
    """One member of an object or element of an array, in byte offsets.

    ``start`` is the key's for a member and the value's for an element.
    """

    key: str
    start: int
    value: int
    end: int = -1


@dataclass(slots=True)
class _Node:
    """A place on the way to an edit: what it contains, if the way leads further in."""

    children: dict[str, _Node] = field(default_factory=dict)
    enter: bool = False
    start: int = -1
    end: int = -1
    members: list[_Member] = field(default_factory=list)
    is_object: bool = False


def _plant(root: _Node, edit: Edit) -> list[_Node]:
    """The nodes from the root to the edit's target, made where they are missing."""
    keys = [key.replace("~1", "/").replace("~0", "~") for key in edit.pointer.split("/")[1:]]
    way = [root]
    # A deletion or an insertion concerns the container: its children need no nodes.
    for key in keys[:-1] if isinstance(edit, DeleteMember | InsertElement) else keys:
        way[-1].enter = True
        way.append(way[-1].children.setdefault(key, _Node()))
    if not isinstance(edit, ReplaceString):
        way[-1].enter = True
    return way


_BLANK = re.compile(rb"[ \t\n\r]*")
_STRUCTURE = re.compile(rb'["\[\]{}]')
_SCALAR_END = re.compile(rb"[,\]}\s]")
_QUOTE, _BACKSLASH, _COMMA = b'"'[0], b"\\"[0], b","[0]
_OPEN, _CLOSE = b"{[", b"}]"


def _skip_blank(raw: bytes, at: int) -> int:
    return at if raw[at] > 32 else _BLANK.match(raw, at).end()  # type: ignore[union-attr]


def _string_end(raw: bytes, start: int) -> int:
    """The offset after the string whose opening quote stands at ``start``."""
    at = start
    while True:
        at = raw.find(b'"', at + 1)
        if at < 0:
            raise IndexError(start)
        before = at - 1
        while raw[before] == _BACKSLASH:
            before -= 1
        if (at - before) % 2:  # an even number of backslashes: the quote is not escaped
            return at + 1


def _value_end(raw: bytes, start: int) -> int:
    """The offset after the value that begins at ``start``."""
    first = raw[start]
    if first == _QUOTE:
        return _string_end(raw, start)
    if first not in _OPEN:
        end = _SCALAR_END.search(raw, start)
        return end.start() if end else len(raw)
    depth, at = 0, start
    search = _STRUCTURE.search
    while True:
        found = search(raw, at)
        if found is None:
            raise IndexError(start)
        at = found.start()
        byte = raw[at]
        if byte == _QUOTE:
            at = _string_end(raw, at)
            continue
        depth += 1 if byte in _OPEN else -1
        at += 1
        if depth == 0:
            return at


def _scan(raw: bytes, root: _Node) -> None:
    """Fill in the byte offsets of all nodes below ``root``, in one pass."""
    at = root.start = _skip_blank(raw, 0)
    stack: list[_Node] = []
    node: _Node | None = root
    while True:
        if node is not None and node.enter and raw[at] in _OPEN:
            node.is_object = raw[at] == _OPEN[0]
            stack.append(node)
            at += 1
        else:
            end = _value_end(raw, at)
            if node is not None:
                node.end = end
            at = _left(stack, end)
        at = _skip_blank(raw, at) if stack else at
        while stack and raw[at] in _CLOSE:
            stack.pop().end = at + 1
            at = _left(stack, at + 1)
            at = _skip_blank(raw, at) if stack else at
        if not stack:
            return
        at = _skip_blank(raw, at + 1) if raw[at] == _COMMA else at
        node, at = _enter_member(raw, at, stack[-1])


def _left(stack: list[_Node], end: int) -> int:
    """Note where the value just passed ended in its container."""
    if stack:
        stack[-1].members[-1].end = end
    return end


def _enter_member(raw: bytes, at: int, parent: _Node) -> tuple[_Node | None, int]:
    """The node, if any, and the value's offset of the member that begins at ``at``."""
    start = at
    if parent.is_object:
        end = _string_end(raw, at)
        key = orjson.loads(raw[at:end])
        at = _skip_blank(raw, _skip_blank(raw, end) + 1)
    else:
        key = str(len(parent.members))
    parent.members.append(_Member(key, start, at))
    node = parent.children.get(key)
    if node is not None:
        node.start = at
    return node, at


def _cuts(
    raw: bytes, places: Iterable[tuple[Edit, list[_Node]]]
) -> Iterable[tuple[int, int, bytes]]:
    """Byte ranges and what takes their place."""
    checked: dict[int, str | None] = {}
    deletions: dict[int, tuple[_Node, set[str]]] = {}
    for edit, way in places:
        target = way[-1]
        if isinstance(edit, DeleteMember):
            name = edit.pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~")
            deletions.setdefault(id(target), (target, set()))[1].add(name)
            continue
        _refuse_duplicates(way, checked)
        if target.end < 0:
            raise FormatError(f"nothing at {edit.pointer}", code=Skip.UNSUPPORTED_SHAPE)
        if isinstance(edit, InsertElement):
            yield _insertion(raw, target, edit)
        elif isinstance(edit, ArrangeElements):
            yield _arrangement(raw, target, edit)
        elif raw[target.start] != _QUOTE:
            raise FormatError(f"no string at {edit.pointer}", code=Skip.UNSUPPORTED_SHAPE)
        else:
            old = raw[target.start + 1 : target.end - 1]
            yield target.start + 1, target.end - 1, rewrite_string(old, edit.pieces)
    for node, names in deletions.values():
        yield from _deletions(node, names)


def _refuse_duplicates(way: list[_Node], checked: dict[int, str | None]) -> None:
    for node in way:
        if node.is_object and id(node) not in checked:
            checked[id(node)] = _twice(node.members)
        key = checked.get(id(node))
        if key is not None:
            raise FormatError(f"the key {key!r} occurs twice", code=Skip.DUPLICATE_KEYS)


def _twice(members: list[_Member]) -> str | None:
    seen: set[str] = set()
    for member in members:
        if member.key in seen:
            return member.key
        seen.add(member.key)
    return None


def _insertion(raw: bytes, array: _Node, edit: InsertElement) -> tuple[int, int, bytes]:
    index = int(edit.pointer.rpartition("/")[2])
    if array.is_object or not array.enter or raw[array.start] != _OPEN[1]:
        raise FormatError(f"no array for {edit.pointer}", code=Skip.UNSUPPORTED_SHAPE)
    if index < len(array.members):
        at = array.members[index].start
        return at, at, edit.value + b","
    if array.members:
        at = array.members[-1].end
        return at, at, b"," + edit.value
    return array.start + 1, array.start + 1, edit.value


def _arrangement(raw: bytes, array: _Node, edit: ArrangeElements) -> tuple[int, int, bytes]:
    """The whole inside of the array, with what stood between its places."""
    if array.is_object or not array.enter or raw[array.start] != _OPEN[1]:
        raise FormatError(f"no array at {edit.pointer}", code=Skip.UNSUPPORTED_SHAPE)
    members = array.members
    if not edit.movable or edit.movable[-1] >= len(members):
        raise FormatError(f"nothing at {edit.pointer}/…", code=Skip.UNSUPPORTED_SHAPE)
    values = [raw[member.start : member.end] for member in members]
    parts: list[bytes] = []
    for place, value in enumerate(rearranged(values, edit.movable, edit.placed)):
        if place:
            parts.append(raw[members[place - 1].end : members[place].start])
        parts.append(value)
    return members[0].start, members[-1].end, b"".join(parts)


def _deletions(node: _Node, names: set[str]) -> Iterable[tuple[int, int, bytes]]:
    """A run of deleted members goes with the comma after it, the last run with that before."""
    run: _Member | None = None
    kept: _Member | None = None
    for member in node.members if node.is_object else ():
        if member.key in names:
            run = run or member
        else:
            if run is not None:
                yield run.start, member.start, b""
            run, kept = None, member
    if run is not None:
        yield (kept.end if kept else run.start), node.members[-1].end, b""
