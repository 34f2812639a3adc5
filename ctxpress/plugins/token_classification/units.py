"""A text as units that are kept or dropped whole, and the blanks between them.

Everything is offsets into one string; nothing is rewritten. A *unit* is a run of characters between
blanks, so numbers, versions, URLs, addresses and identifiers are one unit each; what `structure`
finds (quotations, headings, links, table rows) is one unit, blanks included; writing without blanks
is cut into phrases (`scripts`). Punctuation at a word's edges is a *satellite*: a unit of its own
that stays only where its word does, for a comma costs a token too. A *separator* is the run of
blanks between two units, possibly empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctxpress.plugins.token_classification import characters as chars
from ctxpress.plugins.token_classification.characters import BoolArray, Characters, IntArray
from ctxpress.plugins.token_classification.pairs import pair_up
from ctxpress.plugins.token_classification.scripts import phrase_cuts
from ctxpress.plugins.token_classification.structure import Stretch, Structure, find_structure

__all__ = ["Units", "cut_units"]


@dataclass(frozen=True, slots=True)
class Units:
    """Units of a text of n characters, in order; arrays are (n_units,) unless said otherwise.

    `starts`, `ends`: offsets. `frozen`: protected stretches, blanks included; they are always kept
    and belong to nobody's budget. `mark`: class of a satellite's punctuation (`characters`), 0 for
    everything else. `host`: the word that a satellite belongs to; the unit itself otherwise.
    `partner`: the satellite that closes or opens the same brackets; the unit itself otherwise.
    `leader`: the unit whose fate a unit shares, such as the first piece of a heading that protected
    text breaks up; the unit itself otherwise. `dependent`: kept if and only if another unit of its
    `group` is: list markers of their line, heads of tables. `words`: how many words it holds.
    `characters` classifies the text; `free`: (n,) characters outside frozen stretches.
    """

    starts: IntArray
    ends: IntArray
    frozen: BoolArray
    mark: npt.NDArray[np.uint8]
    host: IntArray
    partner: IntArray
    leader: IntArray
    dependent: BoolArray
    group: IntArray
    words: IntArray
    characters: Characters
    free: BoolArray

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def satellite(self) -> BoolArray:
        """Punctuation that belongs to a word."""
        return np.asarray(self.mark > 0)

    @property
    def choosable(self) -> BoolArray:
        """Units that are kept or dropped for their own worth, or their word's."""
        alone = self.leader == np.arange(len(self))
        return np.asarray(~self.frozen & ~self.dependent & alone)

    def text_of(self, selected: BoolArray) -> str:
        """The characters of the text that a (n,) mask selects."""
        chosen = self.characters.points[selected]
        return chosen.tobytes().decode("utf-32-le", "surrogatepass")


def cut_units(text: str, cuts: Sequence[int], frozen: Sequence[Stretch]) -> Units:
    """Find the units of `text`.

    `cuts` are offsets at which units end even without a blank (borders of spans); `frozen` are
    disjoint stretches in order, each of which becomes one unit whatever it holds.
    """
    characters = chars.read(text)
    structure = find_structure(text)
    n = len(text)
    bond = _stretch_of(n, structure.bonds)
    marker = _stretch_of(n, structure.markers) >= 0
    marker &= bond < 0
    word = ~characters.blank | (bond >= 0)
    cut = np.zeros(n + 1, bool)
    cut[phrase_cuts(characters)] = True
    cut[:-1] &= ~_continues(bond)
    cut[np.asarray(cuts, dtype=np.int64)] = True
    free = np.ones(n, bool)
    for start, end in frozen:
        free[start:end] = False
        word[start:end] = True
        cut[start + 1 : end] = False
        cut[start] = cut[end] = True
    plain = free & ~marker & (bond < 0)
    leads, trails = _edges(characters, structure, plain)
    starts, ends = _runs(word, cut)
    side = _split_off_edges(starts, ends, leads, trails, cut)
    words = starts, ends
    starts, ends = _runs(word, cut)
    mark = np.where(side[starts] < 0, leads[starts], trails[starts])
    mark[side[starts] == 0] = 0
    host = _hosts(starts, mark, side, words)
    partner, lonely = _partners(starts, mark, side, structure)
    leader = _first_of(bond[starts], free[starts])
    leader[lonely] = leader[host[lonely]]
    mark[lonely] = 0
    host[lonely] = np.flatnonzero(lonely)
    dependent, group = _groups(characters, structure, starts, ends, marker & free)
    return Units(
        starts=starts,
        ends=ends,
        frozen=~free[starts],
        mark=mark,
        host=host,
        partner=partner,
        leader=leader,
        dependent=dependent & free[starts],
        group=group,
        words=_words_in(characters.blank, starts, ends),
        characters=characters,
        free=free,
    )


def _stretch_of(n: int, stretches: Sequence[Stretch]) -> IntArray:
    """(n,) number of the stretch that each character is in, or -1."""
    bounds = np.array(stretches, np.int64).reshape(-1, 2)
    change = np.zeros(n + 1, np.int64)
    np.add.at(change, bounds[:, 0], np.arange(len(bounds)) + 1)
    np.add.at(change, bounds[:, 1], -np.arange(len(bounds)) - 1)
    return np.cumsum(change[:-1]) - 1


def _continues(bond: IntArray) -> BoolArray:
    """Characters, (n,), that are in the same bond as the one before."""
    inside = np.zeros(len(bond), bool)
    inside[1:] = (bond[1:] >= 0) & (bond[1:] == bond[:-1])
    return inside


def _runs(word: BoolArray, cut: BoolArray) -> tuple[IntArray, IntArray]:
    """Starts and ends of the runs of `word`, (n,), parted where `cut`, (n + 1,), says so."""
    begins = word.copy()
    begins[1:] &= ~word[:-1] | cut[1:-1]
    finishes = word.copy()
    finishes[:-1] &= ~word[1:] | cut[1:-1]
    return np.flatnonzero(begins), np.flatnonzero(finishes) + 1


def _edges(
    characters: Characters, structure: Structure, plain: BoolArray
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Classes of the punctuation that may be split off at the front and at the back of words."""
    leads, trails = characters.leads * plain, characters.trails * plain
    trails[np.array(structure.abbreviations, np.int64)] = 0
    for opening, closing in structure.emphasis:
        if plain[opening[0] : opening[1]].all() and plain[closing[0] : closing[1]].all():
            leads[slice(*opening)] = chars.EMPHASIS
            trails[slice(*closing)] = chars.EMPHASIS
    # A character and the marks upon it are one.
    fused = characters.fused
    for classes in (leads, trails):
        classes[fused] = 0
        classes[:-1][fused[1:]] = 0
    return leads, trails


def _split_off_edges(
    starts: IntArray,
    ends: IntArray,
    leads: npt.NDArray[np.uint8],
    trails: npt.NDArray[np.uint8],
    cut: BoolArray,
) -> npt.NDArray[np.int8]:
    """Cut punctuation off the runs; (n,) -1 for what leads a word, 1 for what trails one, else 0.

    A run of nothing but punctuation is a word of its own, unless it touches another run.
    """
    n = len(leads)
    inner = np.append(np.flatnonzero(leads == 0), n)
    core_start = np.minimum(inner[np.searchsorted(inner, starts)], ends)
    inner = np.append(-1, np.flatnonzero(trails == 0))
    core_end = np.maximum(inner[np.searchsorted(inner, ends) - 1] + 1, starts)
    touches_left = np.zeros(len(starts), bool)
    touches_left[1:] = starts[1:] == ends[:-1]
    touches_right = np.zeros(len(starts), bool)
    touches_right[:-1] = starts[1:] == ends[:-1]
    only_leads, only_trails = core_start == ends, core_end == starts
    bare = only_leads | only_trails | (core_start >= core_end)
    core_start[bare], core_end[bare] = starts[bare], ends[bare]
    trailing = only_trails & touches_left
    core_end[trailing] = starts[trailing]
    core_start[trailing] = starts[trailing]
    leading = only_leads & touches_right & ~trailing
    core_start[leading] = core_end[leading] = ends[leading]
    side = _cover(n, starts, core_start) * np.int8(-1) + _cover(n, core_end, ends)
    classes = np.where(side < 0, leads, trails)
    single = (classes >= chars.FAMILY) & (classes != chars.EMPHASIS)
    parts = (classes[1:] != classes[:-1]) | single[1:]
    cut[1:-1] |= (side[1:] != side[:-1]) | (parts & (side[1:] != 0))
    return np.asarray(side, np.int8)


def _cover(n: int, starts: IntArray, ends: IntArray) -> npt.NDArray[np.int8]:
    """(n,) 1 inside the disjoint stretches, else 0."""
    change = np.zeros(n + 1, np.int8)
    np.add.at(change, starts, 1)
    np.add.at(change, ends, -1)
    return np.cumsum(change[:-1], dtype=np.int8)


def _hosts(
    starts: IntArray,
    mark: npt.NDArray[np.uint8],
    side: npt.NDArray[np.int8],
    words: tuple[IntArray, IntArray],
) -> IntArray:
    """The word of each satellite: the nearest before what trails, the nearest after what leads."""
    host = np.arange(len(starts))
    cores = np.flatnonzero(mark == 0)
    if not len(cores):
        return host
    place = np.searchsorted(cores, host)
    before = cores[np.maximum(place - 1, 0)]
    after = cores[np.minimum(place, len(cores) - 1)]
    direction = side[starts]
    return np.where(mark == 0, host, np.where(direction < 0, after, before))


def _partners(
    starts: IntArray,
    mark: npt.NDArray[np.uint8],
    side: npt.NDArray[np.int8],
    structure: Structure,
) -> tuple[IntArray, BoolArray]:
    """The other bracket of each bracket, and which brackets have none."""
    partner = np.arange(len(starts))
    brackets = np.flatnonzero(mark >= chars.FAMILY)
    other = pair_up(mark[brackets], side[starts[brackets]] < 0)
    paired = other >= 0
    partner[brackets[paired]] = brackets[other[paired]]
    lonely = np.zeros(len(starts), bool)
    lonely[brackets[~paired]] = True
    return partner, lonely


def _words_in(blank: BoolArray, starts: IntArray, ends: IntArray) -> IntArray:
    """1, and 1 more for every run of blanks inside a unit."""
    gaps = np.zeros(len(blank) + 1, np.int64)
    gaps[2:] = np.cumsum(blank[1:] & ~blank[:-1])
    return 1 + gaps[ends] - gaps[starts]


def _first_of(bond: IntArray, free: BoolArray) -> IntArray:
    """The first free unit of each unit's bond; the unit itself where it has none."""
    leader = np.arange(len(bond))
    index = np.flatnonzero((bond >= 0) & free)
    _, first, back = np.unique(bond[index], return_index=True, return_inverse=True)
    leader[index] = index[first][back]
    return leader


def _groups(
    characters: Characters,
    structure: Structure,
    starts: IntArray,
    ends: IntArray,
    marker: BoolArray,
) -> tuple[BoolArray, IntArray]:
    """Which units depend on their group, and the groups: lines, and tables as wholes."""
    newlines = np.concatenate([[0], np.cumsum(characters.points == 10)])
    group = newlines[starts]
    dependent = marker[starts] & marker[ends - 1]
    first_free = int(newlines[-1]) + 1
    for number, (head, rows) in enumerate(structure.tables):
        end = (rows or head)[-1][1]
        first, behind, last = np.searchsorted(starts, (head[0][0], head[-1][1], end))
        group[first:last] = first_free + number
        dependent[first:behind] = True
    return dependent, group
