"""Texts without what a model changes when it copies them: case, blanks, styles of quotes, dashes.

A folded text knows where each of its characters stood in the original, so that whatever is found
in it can be given as a range of the original.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from array import array
from dataclasses import dataclass

from ctxpress.document import Range

__all__ = ["UNSPACED", "Folded", "fold", "fold_word", "splits_word"]

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
"""Characters, as a regular expression's class, of scripts that put no blanks between words."""

_DASHES = frozenset("-‐‑‒–—―−⁃﹘﹣－~～")
_DROPPED = frozenset("\"'`´‘’‚‛“”„‟«»‹›′″‴「」『』〝〞ʼ*_")
_PIECE = re.compile(
    r"(?P<plain>[!#-&()+,./0-9:-@A-Z\[\\\]^a-z{|}]+)|(?P<letters>[^\W\d_ʼ]+)|(?P<other>\S)"
)
_UNSPACED = re.compile(f"[{UNSPACED}]")
_MAX_CANDIDATES = 1_000
"""Places looked at for one that does not cut a word; a text of one word repeated has many."""


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """`text` folded; `starts`, of shape (len(text),), the index in the original of each character.

    A character of the original may have become several; the text has no blanks.
    """

    text: str
    original: str
    starts: array[int]

    def find(self, needle: str, start: int = 0, end: int | None = None) -> int:
        """The first place of a folded text that cuts no word of the original in two; or -1."""
        return self._find(needle, start, len(self.text) if end is None else end, last=False)

    def find_last(self, needle: str, start: int, end: int) -> int:
        """The last such place within `[start, end)`; or -1."""
        return self._find(needle, start, end, last=True)

    def range(self, start: int, end: int) -> Range:
        """The characters of the original that became `[start, end)`, which must not be empty."""
        return Range(self.starts[start], self.starts[end - 1] + 1)

    def _find(self, needle: str, start: int, end: int, *, last: bool) -> int:
        if not needle:
            return -1
        for _ in range(_MAX_CANDIDATES):
            found = (self.text.rfind if last else self.text.find)(needle, start, end)
            if found < 0 or self._whole(found, found + len(needle)):
                return found
            start, end = (start, found + len(needle) - 1) if last else (found + 1, end)
        return -1

    def _whole(self, start: int, end: int) -> bool:
        first, last = self.starts[start], self.starts[end - 1]
        if start and self.starts[start - 1] == first:
            return False
        if end < len(self.starts) and self.starts[end] == last:
            return False
        return not splits_word(self.original, first) and not splits_word(self.original, last + 1)


def fold(text: str) -> Folded:
    """Fold any string: case, compatibility forms and accents' spelling (NFKD), blanks, quotes,
    emphasis and invisible characters, and all dashes to one."""
    parts: list[str] = []
    starts = array("I")
    dash = False
    for found in _PIECE.finditer(text):
        begin, end = found.span()
        if found.lastgroup == "plain":
            parts.append(found[0].lower())
            starts.extend(range(begin, end))
            dash = False
            continue
        folded = fold_word(found[0])
        if found.lastgroup == "letters" and len(folded) == end - begin:
            parts.append(folded)  # nothing shrinks, so each letter became one
            starts.extend(range(begin, end))
            dash = False
            continue
        for index in range(begin, end):
            character = _fold_character(text[index])
            if not character or (character == "-" and dash):
                continue
            dash = character == "-"
            parts.append(character)
            starts.extend([index] * len(character))
    return Folded("".join(parts), text, starts)


def fold_word(word: str) -> str:
    """A word without differences of case and of compatibility forms."""
    if word.isascii():
        return word.lower()
    return unicodedata.normalize("NFKD", word.casefold()).casefold()


@functools.lru_cache(maxsize=4096)
def _fold_character(character: str) -> str:
    if character in _DASHES:
        return "-"
    if character in _DROPPED:
        return ""
    return "".join(
        "-" if one in _DASHES else one
        for one in fold_word(character)
        if one not in _DROPPED and not one.isspace() and unicodedata.category(one) != "Cf"
    )


def splits_word(text: str, at: int) -> bool:
    """Whether a cut before the character at `at` would go through a word, number or letter."""
    if not 0 < at < len(text):
        return False
    before, behind = text[at - 1], text[at]
    if behind >= "\u0300" and unicodedata.category(behind)[0] == "M":
        return not before.isspace()
    if behind.isdigit() and before in ".,":
        return at > 1 and text[at - 2].isdigit()
    if before.isdigit() and behind in ".,":
        return at + 1 < len(text) and text[at + 1].isdigit()
    if not (before.isalnum() or unicodedata.category(before)[0] == "M") or not behind.isalnum():
        return False
    return not (_UNSPACED.match(before) or _UNSPACED.match(behind))
