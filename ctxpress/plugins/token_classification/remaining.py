"""What remains of a text when some of its units are kept."""

from __future__ import annotations

import numpy as np

from ctxpress.plugins.token_classification.characters import BoolArray, IntArray
from ctxpress.plugins.token_classification.scripts import unspaced
from ctxpress.plugins.token_classification.units import Units

__all__ = ["Remainder"]


class Remainder:
    """The rules by which units take others with them, and the blanks that stay between them.

    What does not depend on the choice is worked out once; a choice then costs some passes over
    arrays. `forced`: (n_units,) units that stay whatever happens to their word.
    """

    def __init__(self, units: Units, forced: BoolArray) -> None:
        self._units = units
        self._free_standing = ~units.satellite | forced | units.frozen
        self._forced = forced
        self._pairs = np.flatnonzero(units.partner > np.arange(len(units)))
        self._dependent = np.flatnonzero(units.dependent)
        self._n_groups = int(units.group.max(initial=0)) + 1
        self._followers = np.flatnonzero(units.leader != np.arange(len(units)))
        self._separator_starts = units.ends
        self._separator_ends = np.append(units.starts[1:], len(units.free)).astype(np.int64)
        # Separators with something in them before each unit: where two units have the same number,
        # nothing parts them but units.
        filled = self._separator_ends > self._separator_starts
        self._blanks = np.concatenate([[0], np.cumsum(filled)])
        self._rank = self._ranks()
        # A letter that is written with blanks: two of them must not come to touch.
        points = units.characters.points
        edge = ~units.characters.blank & (units.characters.trails == 0)
        edge &= (units.characters.leads == 0) & ~unspaced(points)
        self._begins_spaced, self._ends_spaced = edge[units.starts], edge[units.ends - 1]

    def kept(self, chosen: BoolArray) -> BoolArray:
        """Which units remain, (n_units,), when those of the mask `chosen` are wanted.

        Frozen ones always do; satellites only with their word and their partner; what hangs on a
        leader or a group with it.
        """
        units = self._units
        kept = chosen | units.frozen
        kept[self._followers] = kept[units.leader[self._followers]]
        kept &= self._free_standing | kept[units.host]
        both = self._pairs, units.partner[self._pairs]
        kept[both[0]] = (kept[both[0]] & kept[both[1]]) | self._forced[both[0]]
        kept[both[1]] = (kept[both[0]] & kept[both[1]]) | self._forced[both[1]]
        if len(self._dependent):
            kept[self._dependent] = False
            alive = np.zeros(self._n_groups, bool)
            alive[units.group[kept]] = True
            kept[self._dependent] = alive[units.group[self._dependent]]
        return self._unglued(kept)

    def characters(self, kept: BoolArray) -> BoolArray:
        """Which characters remain, (n,), when exactly the units of a mask do.

        Of the separators between two kept units one remains, the strongest: a blank line before a
        line break before a blank, the later one among equals. So no words are glued together,
        paragraphs and lists stay, and no empty lines pile up. Before the first and after the last
        unit, the text's own blanks remain.
        """
        units = self._units
        index = np.flatnonzero(kept)
        if not len(index):
            return np.zeros(len(units.free), bool)
        change = np.zeros(len(units.free) + 1, np.int8)
        change[units.starts[index]] += 1
        change[units.ends[index]] -= 1
        chosen = np.maximum.reduceat(self._rank, index) % len(units)
        chosen[-1] = len(units) - 1
        chosen = chosen[self._separator_ends[chosen] > self._separator_starts[chosen]]
        change[self._separator_starts[chosen]] += 1
        change[self._separator_ends[chosen]] -= 1
        remain = np.cumsum(change[:-1], dtype=np.int8) > 0
        remain[: units.starts[0]] = True
        return np.asarray(remain | ~units.free)

    def _unglued(self, kept: BoolArray) -> BoolArray:
        """Also keep what parts two words between which no blank stands.

        Where a comma parted them (`甲,乙` alike), or a piece of a word that a span's border cuts.
        """
        units = self._units
        index = np.flatnonzero(kept)
        left, right = index[:-1], index[1:]
        touching = (right - left > 1) & (self._blanks[right] == self._blanks[left])
        touching &= self._ends_spaced[left] & self._begins_spaced[right]
        if not touching.any():
            return kept
        left, right = left[touching], right[touching]
        right = np.where(units.satellite[left + 1], left + 2, right)
        change = np.zeros(len(units) + 1, np.int64)
        np.add.at(change, left, 1)
        np.add.at(change, right, -1)
        return np.asarray(kept | (np.cumsum(change[:-1]) > 0))

    def _ranks(self) -> IntArray:
        """Strength of the separator behind each unit and its place, as one number."""
        units, starts, ends = self._units, self._separator_starts, self._separator_ends
        newlines = np.concatenate([[0], np.cumsum(units.characters.points == 10)])
        strength = np.where(ends > starts, 1 + np.minimum(newlines[ends] - newlines[starts], 2), 0)
        strength[self._beside_own_blanks()] += 3
        return np.asarray(strength * len(units) + np.arange(len(units)), np.int64)

    def _beside_own_blanks(self) -> BoolArray:
        """Separators, (n_units,), that touch a frozen stretch with blanks of its own at that edge.

        They go before all others, even if empty: a second separator would double the blank.
        """
        units = self._units
        blank = units.characters.blank
        after = units.frozen & blank[units.ends - 1]
        after[:-1] |= (units.frozen & blank[units.starts])[1:]
        return np.asarray(after)
