"""A text and its shorter form as one: what stays, what is deleted (struck through), what is new."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from ctxpress.cli.alignment import align
from ctxpress.document import Range

__all__ = [
    "Mark",
    "Piece",
    "from_ranges",
    "from_texts",
    "shorten",
    "tight",
    "to_ansi",
    "to_markdown",
    "to_plain",
]


class Mark(Enum):
    """What became of a piece of text."""

    KEPT = "kept"
    DELETED = "deleted"
    ADDED = "added"


class Piece(NamedTuple):
    """A stretch of text and what became of it."""

    text: str
    mark: Mark


def from_ranges(original: str, kept: Iterable[Range]) -> list[Piece]:
    """The pieces of ``original`` where ``kept`` ranges stay and the rest is deleted."""
    pieces: list[Piece] = []
    position = 0
    for start, end in kept:
        pieces.append(Piece(original[position:start], Mark.DELETED))
        pieces.append(Piece(original[start:end], Mark.KEPT))
        position = end
    pieces.append(Piece(original[position:], Mark.DELETED))
    return _joined(pieces)


def from_texts(original: str, shorter: str) -> list[Piece]:
    """The pieces that turn ``original`` into ``shorter``: by words, else by characters.

    Where ``shorter`` has text of its own, so that nothing but additions explain it, the pieces
    are a difference of words.
    """
    for split in (_words, list):
        before = split(original)
        places = align(before, split(shorter))
        if places is not None:
            return _of_places(before, places)
    return _difference(_words(original), _words(shorter))


def _of_places(before: Sequence[str], places: Sequence[int]) -> list[Piece]:
    marks = [Mark.DELETED] * len(before)
    for place in places:
        marks[place] = Mark.KEPT
    return _joined(map(Piece, before, marks))


def _difference(before: Sequence[str], after: Sequence[str]) -> list[Piece]:
    pieces: list[Piece] = []
    matcher = difflib.SequenceMatcher(None, before, after)
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            pieces.append(Piece("".join(before[a:b]), Mark.KEPT))
        else:
            pieces.append(Piece("".join(before[a:b]), Mark.DELETED))
            pieces.append(Piece("".join(after[c:d]), Mark.ADDED))
    return _joined(pieces)


def shorten(pieces: Sequence[Piece], characters: int) -> tuple[list[Piece], list[Piece]]:
    """The first and the last pieces, some ``characters`` in all; the tail is empty if all fit."""
    if sum(len(piece.text) for piece in pieces) <= characters:
        return list(pieces), []
    head = _first(pieces, characters * 2 // 3, from_end=False)
    tail = _first(pieces, characters // 3, from_end=True)
    return head, tail


def to_plain(pieces: Iterable[Piece]) -> str:
    """``kept [-deleted-] {+added+}``: readable without colours."""
    return _marked(pieces, deleted="[-{}-]", added="{{+{}+}}")


def to_ansi(pieces: Iterable[Piece]) -> str:
    """Deletions dim, red and struck through; additions green."""
    return _marked(pieces, deleted="\x1b[2;9;31m{}\x1b[0m", added="\x1b[32m{}\x1b[0m")


def to_markdown(pieces: Iterable[Piece]) -> str:
    """Deletions struck through between ``~~``, additions bold."""
    return _marked(pieces, deleted="~~{}~~", added="**{}**")


def tight(pieces: Iterable[Piece]) -> list[Piece]:
    """The same text with the blanks at both ends of deletions outside them: easier to read."""
    out: list[Piece] = []
    for text, mark in pieces:
        core = text.strip()
        if mark is Mark.KEPT or not core:
            out.append(Piece(text, Mark.KEPT))
            continue
        begin = text.index(core)
        out.append(Piece(text[:begin], Mark.KEPT))
        out.append(Piece(core, mark))
        out.append(Piece(text[begin + len(core) :], Mark.KEPT))
    return _joined(out)


def _marked(pieces: Iterable[Piece], *, deleted: str, added: str) -> str:
    shape = {Mark.KEPT: "{}", Mark.DELETED: deleted, Mark.ADDED: added}
    return "".join(_per_line(piece.text, shape[piece.mark]) for piece in tight(pieces))


def _words(text: str) -> list[str]:
    return re.findall(r"\s|\w+|[^\w\s]", text)


def _per_line(text: str, shape: str) -> str:
    """``shape`` around each line: terminals and pagers end attributes at line ends."""
    return "\n".join(shape.format(line) if line else "" for line in text.split("\n"))


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    joined: list[Piece] = []
    for piece in pieces:
        if not piece.text:
            continue
        if joined and joined[-1].mark is piece.mark:
            joined[-1] = Piece(joined[-1].text + piece.text, piece.mark)
        else:
            joined.append(piece)
    return joined


def _first(pieces: Sequence[Piece], characters: int, *, from_end: bool) -> list[Piece]:
    return list(_take(pieces[::-1] if from_end else pieces, characters, from_end=from_end))[
        :: -1 if from_end else 1
    ]


def _take(pieces: Sequence[Piece], characters: int, *, from_end: bool) -> Iterator[Piece]:
    for text, mark in pieces:
        if characters <= 0:
            return
        part = text
        if len(text) > characters:  # cut between words where there are any
            part = text[-characters:] if from_end else text[:characters]
            words = part.split(maxsplit=1) if from_end else part.rsplit(maxsplit=1)
            part = words[-1 if from_end else 0] if len(words) == 2 else part
        yield Piece(part, mark)
        characters -= len(text)
