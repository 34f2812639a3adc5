"""Texts as sequences of numbered words, without case, space and the punctuation that is only form.

What means something by itself stays a word: signs and points inside numbers, question marks,
currency and percent signs, operators. Chinese, Japanese, Thai, Lao, Burmese and Khmer are read
character by character, two of which count as one word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctxpress.plugins.dedupe.facts import Class, classify, oppose

__all__ = ["IntArray", "Lexicon", "Reading"]

IntArray = NDArray[np.int64]

_UNSPACED = (
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
)
_MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed"
    "\u0900-\u0963\u0966-\u0dff\u0f00-\u0fff"
)
_LETTERS = rf"[^\W{_UNSPACED}]+(?:[{_MARKS}]+[^\W{_UNSPACED}]*)*"
_FORM = re.escape(".,;:!…·•\"'“”„‘’‚«»‹›()[]{}*`#|-‐‑‒–—―。、，．；：！「」『』（）【】।॥")
_TOKEN = re.compile(
    # A sign belongs to a number where nothing that it could join stands before it.
    rf"(?:(?<![^\s(\[{{\"'“‘=<>:~$€£¥])[-−+])?\.?\d\w*(?:[.,:/'’\-–]\w*\d\w*)*(?:\s?[%‰°])?"
    rf"|[{_UNSPACED}]"
    rf"|{_LETTERS}(?:['’]{_LETTERS})*"
    rf"|[^\s\w{_FORM}]"
)
_ONE_UNSPACED = re.compile(rf"[{_UNSPACED}]\Z")
_SAME = str.maketrans("’−–", "'--")
_PLAIN, _FACT = int(Class.PLAIN), int(Class.FACT)
_TURNING, _UNSPACED_CHARACTER = int(Class.TURNING), int(Class.UNSPACED)
_CLASSES = 8  # a code is a word's number times this, plus its class


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One text. `words`: their numbers (n,). `classes`: what `facts` says of each (n,).

    `size` is its length in words; `spoken` the share of its tokens that are words of a sentence
    rather than names, numbers and signs.
    """

    words: IntArray
    classes: IntArray
    size: float
    spoken: float

    @property
    def key(self) -> bytes:
        """Equal for texts that are equal but for case, space and punctuation."""
        return self.words.tobytes()

    @property
    def facts(self) -> IntArray:
        """The words that may not differ, in order (f,)."""
        decisive = self.classes != _PLAIN
        decisive[1:] |= self.classes[:-1] == _TURNING
        facts: IntArray = self.words[decisive]
        return facts


class Lexicon:
    """Numbers words as it meets them: one object for all texts that are to be compared."""

    def __init__(self) -> None:
        self._codes = _Codes()

    def read(self, text: str) -> Reading:
        """`text` as words. Linear in its length."""
        codes = self._codes
        found = np.array([codes[token] for token in _TOKEN.findall(text)], dtype=np.int64)
        if found.size and found.min() < 0:
            found = found[found >= 0]
        classes = found % _CLASSES
        tally = np.bincount(classes, minlength=_CLASSES).tolist()
        return Reading(
            words=found // _CLASSES,
            classes=classes,
            size=len(found) - tally[_UNSPACED_CHARACTER] / 2,
            spoken=1 - tally[_FACT] / max(1, len(found)),
        )

    def oppose(self, one: Reading, other: Reading) -> bool:
        """Whether words in which two texts differ deny each other, see `facts.oppose`."""
        words = self._codes.words
        different = np.setxor1d(one.words, other.words)
        if not len(different):
            return False
        mine = {words[n] for n in np.intersect1d(different, one.words).tolist()}
        theirs = {words[n] for n in np.intersect1d(different, other.words).tolist()}
        return oppose(mine, theirs)


class _Codes(dict[str, int]):
    """Tokens as they are written -> code; those that are only form have a negative one."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers: dict[str, int] = {}
        self.words: list[str] = []

    def __missing__(self, token: str) -> int:
        surface = token.strip("_")
        code = -1
        if surface:
            folded = "".join(surface.casefold().translate(_SAME).split())
            number = self._numbers.setdefault(folded, len(self.words))
            if number == len(self.words):
                self.words.append(folded)
            unspaced = _ONE_UNSPACED.match(surface) is not None
            code = number * _CLASSES + classify(surface, folded, unspaced=unspaced)
        self[token] = code
        return code
