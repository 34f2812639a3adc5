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
from ctxpress.plugins.token_classification.satellites import (
    edge_classes,
    find_hosts,
    find_partners,
    split_off_edges,
)
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
    leads, trails = edge_classes(characters, structure, plain)
    starts, ends = _runs(word, cut)
    side = split_off_edges(starts, ends, leads, trails, cut)
    starts, ends = _runs(word, cut)
    mark = np.where(side[starts] < 0, leads[starts], trails[starts])
    mark[side[starts] == 0] = 0
    host = find_hosts(starts, mark, side)
    partner, lonely = find_partners(starts, mark, side)
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
