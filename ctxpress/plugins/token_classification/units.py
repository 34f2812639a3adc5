"""A text as words that are kept or dropped whole, and the blanks between them.

Everything is offsets into one string; nothing is rewritten. A *unit* is a run of characters between
blanks, so numbers, versions, URLs, addresses and identifiers are one unit each; a no-break space
does not end a unit, since it is there to hold `10 000` or `5 km` together. A *separator* is the
run of blanks between two units, possibly empty where a frozen stretch touches its neighbour.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_BLANKS = np.array(
    [*range(0x09, 0x0E), *range(0x1C, 0x21), 0x85, 0x1680, *range(0x2000, 0x2007),
     *range(0x2008, 0x200B), 0x2028, 0x2029, 0x205F, 0x3000],
    dtype=np.uint32,
)  # fmt: skip
_MARKERS = re.compile(r"(?m)^[ \t]*(?:(?:[-*+•>]|#{1,6}|\(?\d{1,3}[.)]|\[\d{1,3}\])[ \t]+)+(?=\S)")


@dataclass(frozen=True, slots=True)
class WordUnits:
    """Units of a text of n characters, in order.

    `starts`, `ends`: (n_units,) offsets. `frozen`: (n_units,) units that are protected stretches,
    blanks included; they are always kept and belong to nobody's budget. `marker`: (n_units,) list
    and heading markers, kept if and only if another unit of their line is. `line`: (n_units,)
    number of the unit's line. `points`: (n,) code points; `free`: (n,) characters outside frozen
    stretches.
    """

    starts: IntArray
    ends: IntArray
    frozen: BoolArray
    marker: BoolArray
    line: IntArray
    points: npt.NDArray[np.uint32]
    free: BoolArray

    def __len__(self) -> int:
        return len(self.starts)

    def text_of(self, characters: BoolArray) -> str:
        """The characters of the text that a (n,) mask selects."""
        return self.points[characters].tobytes().decode("utf-32-le", "surrogatepass")


def cut_units(text: str, cuts: Sequence[int], frozen: Sequence[tuple[int, int]]) -> WordUnits:
    """Find the units of `text`.

    `cuts` are offsets at which units end even without a blank (borders of spans); `frozen` are
    disjoint stretches in order, each of which becomes one unit whatever it holds.
    """
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    word = ~np.isin(points, _BLANKS)
    free = np.ones(len(points), bool)
    begins = np.zeros(len(points) + 1, bool)
    begins[:-1] = word
    begins[1:-1] &= ~word[:-1]
    cut = np.zeros(len(points) + 1, bool)
    cut[np.asarray(cuts, dtype=np.int64)] = True
    for start, end in frozen:
        free[start:end] = False
        word[start:end] = True
        begins[start:end] = False
        begins[start] = True
        cut[start + 1 : end] = False
        cut[start] = cut[end] = True
    begins[:-1] |= cut[:-1] & word
    finishes = np.zeros(len(points) + 1, bool)
    finishes[1:] = word
    finishes[1:-1] &= ~word[1:] | cut[1:-1]
    starts, ends = np.flatnonzero(begins[:-1]), np.flatnonzero(finishes)
    return WordUnits(
        starts=starts,
        ends=ends,
        frozen=~free[starts],
        marker=_markers(text, starts, ends) & free[starts],
        line=_counts_before(points == 10)[starts],
        points=points.astype(np.uint32, copy=False),
        free=free,
    )


def _markers(text: str, starts: IntArray, ends: IntArray) -> BoolArray:
    inside = np.zeros(len(text) + 1, bool)
    for match in _MARKERS.finditer(text):
        inside[match.start() : match.end()] = True
    return np.asarray(inside[starts] & inside[ends - 1])


def _counts_before(flags: BoolArray) -> IntArray:
    counts = np.zeros(len(flags) + 1, np.int64)
    np.cumsum(flags, out=counts[1:])
    return counts


def unit_scores(
    units: WordUnits, token_starts: npt.NDArray[np.int32], token_scores: npt.NDArray[np.float32]
) -> tuple[FloatArray, FloatArray]:
    """Mean score of the sub-tokens that begin in each unit, and their number; (n_units,) each.

    A unit without any (characters that the tokenizer drops) scores 0.
    """
    owner = np.searchsorted(units.ends, token_starts, side="right")
    n_units = len(units)
    sums = np.bincount(owner, weights=token_scores, minlength=n_units + 1)[:n_units]
    counts = np.bincount(owner, minlength=n_units + 1)[:n_units].astype(np.float64)
    return sums / np.maximum(counts, 1), counts


def units_with_digits(units: WordUnits) -> BoolArray:
    """Which units hold a decimal digit 0-9."""
    digits = _counts_before((units.points >= 0x30) & (units.points <= 0x39))
    return np.asarray(digits[units.ends] > digits[units.starts])


def matches(text: str, tokens: Sequence[str]) -> tuple[IntArray, IntArray, IntArray]:
    """Where the force tokens occur: starts, ends, index of the token, each (n_matches,).

    A token of letters or digits must stand alone (`in` is not found in `inside`); one of
    punctuation must not stand between two such characters (`.` is not found in `3.14`).
    """
    found: list[tuple[int, int, int]] = []
    for index, token in enumerate(tokens):
        escaped = re.escape(token)
        before = r"(?<!\w)" if re.match(r"\w", token) else r""
        after = r"(?!\w)" if re.search(r"\w\Z", token) else r""
        pattern = before + escaped + after
        if not before and not after and token.strip():
            pattern = rf"(?<!\w){escaped}|{escaped}(?!\w)"
        found += [(match.start(), match.end(), index) for match in re.finditer(pattern, text)]
    columns = np.array(sorted(found), dtype=np.int64).reshape(-1, 3)
    return columns[:, 0], columns[:, 1], columns[:, 2]


def kept_characters(units: WordUnits, kept: BoolArray) -> BoolArray:
    """Which characters remain when the units of a (n_units,) mask do; frozen ones always do.

    Of the separators between two kept units one remains, the strongest: a blank line before a
    line break before a blank, the later one among equals. So no words are glued together,
    paragraphs and lists stay, and no empty lines pile up. Before the first and after the last unit,
    the text's own blanks remain.
    """
    kept = _with_markers(units, kept | units.frozen)
    n_characters = len(units.points)
    change = np.zeros(n_characters + 1, np.int32)
    index = np.flatnonzero(kept)
    if not len(index):
        return np.zeros(n_characters, bool)
    change[units.starts[index]] += 1
    change[units.ends[index]] -= 1
    separator_starts = units.ends
    separator_ends = np.append(units.starts[1:], n_characters)
    newlines = _counts_before(units.points == 10)
    n_newlines = newlines[separator_ends] - newlines[separator_starts]
    strength = np.where(separator_ends > separator_starts, 1 + np.minimum(n_newlines, 2), 0)
    strength[_beside_own_blanks(units)] += 3
    rank = strength * len(units) + np.arange(len(units))
    chosen = np.maximum.reduceat(rank, index) % len(units)
    chosen[-1] = len(units) - 1
    chosen = chosen[separator_ends[chosen] > separator_starts[chosen]]
    change[separator_starts[chosen]] += 1
    change[separator_ends[chosen]] -= 1
    remain = np.cumsum(change[:-1]) > 0
    remain[: units.starts[0]] = True
    return np.asarray(remain | ~units.free)


def _beside_own_blanks(units: WordUnits) -> BoolArray:
    """Separators, (n_units,), that touch a frozen stretch with blanks of its own at that edge.

    They go before all others, even if empty: a second separator would double the blank.
    """
    blank = np.isin(units.points, _BLANKS)
    after = units.frozen & blank[units.ends - 1]
    after[:-1] |= (units.frozen & blank[units.starts])[1:]
    return np.asarray(after)


def _with_markers(units: WordUnits, kept: BoolArray) -> BoolArray:
    if not units.marker.any():
        return kept
    n_lines = int(units.line[-1]) + 1
    alive = np.bincount(units.line, weights=kept & ~units.marker, minlength=n_lines) > 0
    return np.where(units.marker, alive[units.line], kept)
