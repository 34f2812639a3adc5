"""JSON as the tokens that it is spelt with, and which of them make up which value.

Nothing is converted: a number, a string, a key stay the characters that they are. One pass, no
recursion, linear in the text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from itertools import accumulate

__all__ = ["Json", "Node", "read_json"]

_BLANKS = " \t\n\r"
_TOKEN = re.compile(
    r"""[ \t\n\r]*+(?P<token>
        "(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"
      | -?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+(?![\w.+-])
      | (?:true|false|null)(?!\w)
      | [{}\[\],:])""",
    re.VERBOSE,
)
_CLOSED_BY = {"{": "}", "[": "]"}


@dataclass(slots=True)
class Node:
    """A value: the tokens ``[start, end)``. ``keys`` are those of an object, ``None`` otherwise."""

    start: int
    end: int = 0
    keys: list[str] | None = None
    items: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Json:
    """One object or array, or several in a row; ``gaps`` is what stands before each and at the end.

    ``tokens`` are all tokens as they are spelt, ``offsets`` (one more) where each would begin if
    nothing stood between them.
    """

    tokens: list[str]
    values: list[Node]
    gaps: list[str]
    offsets: list[int]

    def spelt(self, node: Node) -> str:
        """A value without spacing between its tokens."""
        return "".join(self.tokens[node.start : node.end])


def read_json(text: str) -> Json | None:
    """The JSON that ``text`` is; ``None`` where it is anything else, or a key occurs twice.

    The grammar is that of RFC 8259: no NaN, no raw line breaks in strings.
    """
    reader = _Reader()
    gaps: list[str] = []
    at = 0
    while found := _TOKEN.match(text, at):
        if not reader.stack:
            gaps.append(text[at : found.start("token")])
        if not reader.take(found["token"]):
            return None
        at = found.end()
    gaps.append(text[at:])
    if text[at:].strip(_BLANKS) or reader.stack or not reader.values:
        return None
    offsets = list(accumulate(map(len, reader.tokens), initial=0))
    return Json(reader.tokens, reader.values, gaps, offsets)


class _Reader:
    """The grammar, token by token. ``_expects`` is what may come next."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.values: list[Node] = []
        self.stack: list[Node] = []
        self._expects = "value"
        self._names: list[set[str]] = []

    def take(self, token: str) -> bool:
        """Add a token; whether it may stand here."""
        number = len(self.tokens)
        self.tokens.append(token)
        if not self.stack:
            return token in _CLOSED_BY and self._open(token, number)
        parent = self.stack[-1]
        expects = self._expects
        if expects in ("value", "value or end") and token not in ("]", "}", ",", ":"):
            return self._value(token, number)
        if expects in ("key", "key or end") and token[0] == '"':
            return self._key(token, parent)
        if expects == "colon" and token == ":":
            self._expects = "value"
            return True
        if expects == "comma or end" and token == ",":
            self._expects = "value" if parent.keys is None else "key"
            return True
        closing = "]" if parent.keys is None else "}"
        return expects.endswith("or end") and token == closing and self._close(number)

    def _value(self, token: str, number: int) -> bool:
        if token in _CLOSED_BY:
            return self._open(token, number)
        self.stack[-1].items.append(Node(number, number + 1))
        self._expects = "comma or end"
        return True

    def _open(self, token: str, number: int) -> bool:
        node = Node(number, keys=[] if token == "{" else None)
        (self.stack[-1].items if self.stack else self.values).append(node)
        self.stack.append(node)
        self._names.append(set())
        self._expects = "value or end" if token == "[" else "key or end"
        return True

    def _key(self, token: str, parent: Node) -> bool:
        name = json.loads(token) if "\\" in token else token[1:-1]
        if name in self._names[-1] or parent.keys is None:
            return False
        self._names[-1].add(name)
        parent.keys.append(token)
        self._expects = "colon"
        return True

    def _close(self, number: int) -> bool:
        self.stack.pop().end = number + 1
        self._names.pop()
        self._expects = "comma or end"
        return True
