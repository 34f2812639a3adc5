"""Units that are never deleted: those with a force token or, on request, a digit in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ctxpress.plugins.token_classification.characters import BoolArray, IntArray
from ctxpress.plugins.token_classification.units import Units

__all__ = ["Forced", "drop_consecutive", "find_forced"]


@dataclass(frozen=True, slots=True)
class Forced:
    """`units`: (n_units,) never deleted; `characters`: (n,) blanks that are not, such as line
    breaks; `tokens`: (n_units,) index of the force token that a unit is, or -1."""

    units: BoolArray
    characters: BoolArray
    tokens: IntArray


def find_forced(
    text: str, units: Units, force_tokens: Sequence[str], *, digits: bool, characters: bool
) -> Forced:
    """Find what may not be deleted in `text`; `digits`: every unit with 0-9 in it.

    A token of letters or digits must stand alone (`in` is not found in `inside`); one of
    punctuation must not stand between two such characters (`.` is not found in `3.14`). Tokens made
    of blanks are kept as characters if `characters` says so. List markers and heads of tables go
    with their lines and rows all the same.
    """
    forced = np.zeros(len(units), bool)
    blanks = np.zeros(len(text), bool)
    tokens = np.full(len(units), -1, np.int64)
    if digits:
        points = units.characters.points
        running = np.concatenate([[0], np.cumsum((points >= 0x30) & (points <= 0x39))])
        forced |= running[units.ends] > running[units.starts]
    if force_tokens:
        starts, ends, numbers = _matches(text, force_tokens)
        first = np.searchsorted(units.ends, starts, side="right")
        last = np.searchsorted(units.starts, ends, side="left")
        change = np.zeros(len(units) + 1, np.int64)
        np.add.at(change, first, 1)
        np.add.at(change, np.maximum(last, first), -1)
        forced |= np.cumsum(change[:-1]) > 0
        whole = np.isin(starts, units.starts) & np.isin(ends, units.ends)
        tokens[first[whole]] = numbers[whole]
        if characters:
            change = np.zeros(len(text) + 1, np.int64)
            np.add.at(change, starts[last <= first], 1)
            np.add.at(change, ends[last <= first], -1)
            blanks = np.cumsum(change[:-1]) > 0
    forced[units.leader[forced]] = True  # the pieces of one whole share its fate
    return Forced(forced & ~units.frozen, blanks, tokens)


def drop_consecutive(kept: BoolArray, tokens: IntArray) -> BoolArray:
    """`kept`, (n_units,), without the repeats of a force token right behind itself."""
    index = np.flatnonzero(kept)
    token = tokens[index]
    repeated = np.zeros(len(index), bool)
    repeated[1:] = (token[1:] >= 0) & (token[1:] == token[:-1])
    result = kept.copy()
    result[index[repeated]] = False
    return result


def _matches(text: str, tokens: Sequence[str]) -> tuple[IntArray, IntArray, IntArray]:
    """Where the force tokens occur: starts, ends, index of the token, each (n_matches,)."""
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
