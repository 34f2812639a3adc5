"""Where words may be parted in writing without blanks: Chinese, Japanese and Thai.

BudouX (Apache-2.0) ships small linear models for where phrases end: a sum of weights for the
characters around a place, alone, in pairs and in threes. Its own parser is a Python loop over
characters; here the same sums are taken over whole arrays. Latin words and numbers stay with the
phrase that follows them, so two of them never come to touch when what stood between goes.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

import numpy as np
import numpy.typing as npt

from ctxpress.plugins.token_classification.characters import BoolArray, Characters, IntArray

__all__ = ["phrase_cuts", "unspaced"]

Points = npt.NDArray[np.uint32]

_HAN = ((0x3005, 0x3008), (0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x40000))
_KANA = ((0x3041, 0x30FB), (0x30FC, 0x3100), (0x31F0, 0x3200), (0xFF66, 0xFFA0))
_THAI = ((0x0E01, 0x0E3B), (0x0E40, 0x0E4F))
_CHUNK = 1 << 18
"""Places that are looked at together: bounds the memory, not the result."""
# Feature group -> (offset from the place, number of characters), as in BudouX's parser.
_GROUPS = {
    "UW1": (-3, 1), "UW2": (-2, 1), "UW3": (-1, 1), "UW4": (0, 1), "UW5": (1, 1), "UW6": (2, 1),
    "BW1": (-2, 2), "BW2": (-1, 2), "BW3": (0, 2),
    "TW1": (-3, 3), "TW2": (-2, 3), "TW3": (-1, 3), "TW4": (0, 3),
}  # fmt: skip
_BITS = 21  # of a code point: three of them fit an int64


@dataclass(frozen=True, slots=True)
class _PhraseModel:
    """Weights by feature group: `keys` are sorted packed characters, `weights` run parallel."""

    groups: tuple[tuple[int, int, IntArray, IntArray], ...]
    base: float
    known: IntArray

    def parts(self, points: Points, places: IntArray) -> BoolArray:
        """Whether a phrase ends before each of `places`, (n_places,) offsets into `points`."""
        score = np.full(len(places), self.base)
        padded = np.concatenate([np.zeros(3, np.int64), points.astype(np.int64), np.zeros(3, int)])
        for offset, length, keys, weights in self.groups:
            packed = padded[places + (3 + offset)]
            for step in range(1, length):
                packed = (packed << _BITS) | padded[places + (3 + offset + step)]
            found = np.minimum(np.searchsorted(keys, packed), len(keys) - 1)
            score += np.where(keys[found] == packed, weights[found], 0)
        return np.asarray(score > 0)


@functools.cache
def _load(name: str) -> _PhraseModel:
    """The BudouX model `name`, read from the installed package once a process."""
    data = resources.files("budoux").joinpath("models", f"{name}.json").read_bytes()
    features: dict[str, dict[str, int]] = json.loads(data)
    groups = []
    for group, weights in features.items():
        offset, length = _GROUPS[group]
        packed = {
            functools.reduce(lambda sum_, char: (sum_ << _BITS) | ord(char), text, 0): weight
            for text, weight in weights.items()
            if len(text) == length
        }
        keys = np.array(sorted(packed), np.int64)
        groups.append((offset, length, keys, np.array([packed[key] for key in keys.tolist()])))
    total = sum(sum(weights.values()) for weights in features.values())
    known = np.array(sorted({ord(text) for text in features.get("UW4", {}) if len(text) == 1}))
    return _PhraseModel(tuple(groups), -0.5 * total, known)


def unspaced(points: Points) -> BoolArray:
    """Which characters, (n,), are written without blanks between words."""
    return _within(points, (*_HAN, *_KANA, *_THAI))


def phrase_cuts(characters: Characters) -> IntArray:
    """Offsets, ascending, at which a unit ends although no blank stands there.

    Never inside a grapheme cluster. Empty for a text without such scripts, which costs one look.
    """
    points = characters.points
    if not len(points) or int(points.max()) < _THAI[0][0]:
        return np.zeros(0, np.int64)
    dense = unspaced(points)
    if not dense.any():
        return np.zeros(0, np.int64)
    cut = np.zeros(len(points), bool)
    for name, places in _jobs(points, dense):
        for start in range(0, len(places), _CHUNK):
            some = places[start : start + _CHUNK]
            low, high = int(some[0]), int(some[-1]) + 1
            low, high = max(0, low - 3), min(len(points), high + 3)
            cut[some] = _load(name).parts(points[low:high], some - low)
    before, after = slice(None, -1), slice(1, None)
    leads, trails = characters.leads > 0, characters.trails > 0
    wide = (points >= 0x3000) & (trails | leads)
    cut[after] |= dense[before] & _letters(characters)[after] & ~dense[after]
    cut[after] |= leads[after] & ~leads[before] & (dense[before] | wide[after])
    cut[after] |= trails[before] & ~trails[after] & (dense[after] | wide[before])
    cut[after] &= ~(trails[after] & ~leads[after]) & ~(leads[before] & ~trails[before])
    cut[after] &= ~characters.fused[after] & ~characters.blank[before] & ~characters.blank[after]
    return np.flatnonzero(cut)


def _jobs(points: Points, dense: BoolArray) -> Iterator[tuple[str, IntArray]]:
    """The model for each place that has such characters on both sides: (name, places)."""
    places = np.flatnonzero(dense[1:] & dense[:-1]) + 1
    thai = _within(points[places], _THAI)
    if thai.any():
        yield "th", places[thai]
        places = places[~thai]
    if not len(places):
        return
    line = np.cumsum(points == 10)
    kana = np.bincount(line, weights=_within(points, _KANA)) > 0
    japanese = kana[line[places]]
    if japanese.any():
        yield "ja", places[japanese]
        places = places[~japanese]
    if len(places):
        seen = np.flatnonzero(np.bincount(points[places]))
        simplified, traditional = (_load(name).known for name in ("zh-hans", "zh-hant"))
        counts = np.bincount(points[places])[seen]
        in_simplified, in_traditional = np.isin(seen, simplified), np.isin(seen, traditional)
        more = int(counts[in_traditional & ~in_simplified].sum())
        yield (
            "zh-hant" if more > counts[in_simplified & ~in_traditional].sum() else "zh-hans",
            places,
        )


def _letters(characters: Characters) -> BoolArray:
    """Characters that are neither blank nor punctuation nor marks: a word may begin with one."""
    return np.asarray(
        ~characters.blank & ~characters.fused & (characters.leads == 0) & (characters.trails == 0)
    )


def _within(points: Points, ranges: tuple[tuple[int, int], ...]) -> BoolArray:
    inside = np.zeros(len(points), bool)
    for low, high in ranges:
        inside |= (points >= low) & (points < high)
    return inside
