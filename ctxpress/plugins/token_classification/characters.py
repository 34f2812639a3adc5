"""What single characters are: blanks, marks that belong to the one before, punctuation.

Everything is arrays over a text's code points, looked up in tables that are built for one text from
the few characters below.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "COMMA",
    "EMPHASIS",
    "ENDER",
    "FAMILY",
    "BoolArray",
    "Characters",
    "FloatArray",
    "IntArray",
    "read",
]

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Points = npt.NDArray[np.uint32]
Classes = npt.NDArray[np.uint8]

COMMA, ENDER, EMPHASIS, FAMILY = 1, 2, 100, 10
"""Classes of punctuation; brackets and quotes of the family f have the class FAMILY + f, asterisks
around emphasised words EMPHASIS."""

_BLANKS = (
    *range(0x09, 0x0E), *range(0x1C, 0x21), 0x85, 0x1680, *range(0x2000, 0x2007),
    *range(0x2008, 0x200B), 0x2028, 0x2029, 0x205F, 0x3000,
)  # fmt: skip
_COMMAS = ",;:—–、，；：､،؛"
_INVERTED = "¿¡"
_ENDERS = ".?!…。．！？｡؟۔।॥"
# Openers and closers that go together. Which of the two a straight or German quote is, is seen from
# the side of the word on which it stands.
_FAMILIES = (
    ("(", ")"), ("[", "]"), ("{", "}"), ('"“„”', '"”“'), ("«»", "»«"), ("‹›", "›‹"),
    ("（", "）"), ("［", "］"), ("「", "」"), ("『", "』"), ("【", "】"), ("《", "》"),
    ("〈", "〉"), ("〔", "〕"), ("｢", "｣"),
)  # fmt: skip
_JOINER = 0x200D
_N_CODES = 0x110000


@dataclass(frozen=True, slots=True)
class Characters:
    """A text of n characters, as arrays of shape (n,).

    `points`: code points. `blank`: ends words; a no-break space does not, since it is there to hold
    `10 000` or `5 km` together. `fused`: belongs to the same grapheme cluster as the character
    before (combining marks, joiners and what they join, variation selectors, skin tones).
    `leads`, `trails`: class of the punctuation that a character is at the beginning or at the end
    of a word; 0 for everything else.
    """

    points: Points
    blank: BoolArray
    fused: BoolArray
    leads: Classes
    trails: Classes


def read(text: str) -> Characters:
    """Classify the characters of any string, lone surrogates included."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint32)
    blanks, leads, trails = (np.zeros(_N_CODES, np.uint8) for _ in range(3))
    blanks[list(_BLANKS)] = 1
    for family, (openers, closers) in enumerate(_FAMILIES):
        leads[_codes(openers)] = trails[_codes(closers)] = FAMILY + family
    leads[_codes(_INVERTED)] = trails[_codes(_COMMAS)] = COMMA
    trails[_codes(_ENDERS)] = ENDER
    blank = blanks[points].view(bool)
    fused = _fused(points)
    # A blank that carries a mark of its own is no gap between words.
    blank[:-1] &= ~fused[1:]
    return Characters(points, blank, fused, leads[points], trails[points])


def _codes(characters: str) -> list[int]:
    return [ord(character) for character in characters]


def _fused(points: Points) -> BoolArray:
    fused = np.zeros(len(points), bool)
    if not len(points) or int(points.max()) < 0x300:
        return fused
    present = np.flatnonzero(np.bincount(points))
    marks = np.zeros(_N_CODES, bool)
    marks[[code for code in present.tolist() if code >= 0x300 and _extends(code)]] = True
    fused[1:] = marks[points[1:]] | (points[:-1] == _JOINER)
    # After a control (a line break, a tab) a mark stands alone.
    fused[1:] &= (points[:-1] >= 0x20) & ((points[:-1] < 0x7F) | (points[:-1] >= 0xA0))
    return fused


def _extends(code: int) -> bool:
    return (
        code == _JOINER
        or 0x1F3FB <= code <= 0x1F3FF
        or 0xE0020 <= code <= 0xE007F
        or unicodedata.category(chr(code)) in ("Mn", "Mc", "Me")
    )
