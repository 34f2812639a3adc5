"""Punctuation at the edges of words: what is split off, and to which word it belongs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ctxpress.plugins.token_classification import characters as chars
from ctxpress.plugins.token_classification.characters import BoolArray, Characters, IntArray
from ctxpress.plugins.token_classification.pairs import pair_up
from ctxpress.plugins.token_classification.structure import Structure

__all__ = ["edge_classes", "find_hosts", "find_partners", "split_off_edges"]

Classes = npt.NDArray[np.uint8]
Sides = npt.NDArray[np.int8]


def edge_classes(
    characters: Characters, structure: Structure, plain: BoolArray
) -> tuple[Classes, Classes]:
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


def split_off_edges(
    starts: IntArray, ends: IntArray, leads: Classes, trails: Classes, cut: BoolArray
) -> Sides:
    """Cut punctuation off the runs; (n,) -1 for what leads a word, 1 for what trails one, else 0.

    `starts`, `ends`: (n_runs,) runs of characters without blanks. `leads`, `trails`: (n,) classes
    from `edge_classes`. `cut`, (n + 1,), is where units end; it is added to in place. A run of
    nothing but punctuation is a word of its own, unless it touches another run.
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


def find_hosts(starts: IntArray, mark: Classes, side: Sides) -> IntArray:
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


def find_partners(starts: IntArray, mark: Classes, side: Sides) -> tuple[IntArray, BoolArray]:
    """The other bracket of each bracket, and which brackets have none."""
    partner = np.arange(len(starts))
    brackets = np.flatnonzero(mark >= chars.FAMILY)
    other = pair_up(mark[brackets], side[starts[brackets]] < 0)
    paired = other >= 0
    partner[brackets[paired]] = brackets[other[paired]]
    lonely = np.zeros(len(starts), bool)
    lonely[brackets[~paired]] = True
    return partner, lonely


def _cover(n: int, starts: IntArray, ends: IntArray) -> Sides:
    """(n,) 1 inside the disjoint stretches, else 0."""
    change = np.zeros(n + 1, np.int8)
    np.add.at(change, starts, 1)
    np.add.at(change, ends, -1)
    return np.cumsum(change[:-1], dtype=np.int8)
