"""Steps that reach wanted sizes, and the frequency tables of what they leave to code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from ctxpress.cache.codecs.entropy import SymbolTables
from ctxpress.cache.codecs.entropy.tables import static_tables, weights_of_counts
from ctxpress.cache.codecs.kvtc import kernels
from ctxpress.cache.codecs.kvtc.plan import CENTRE, N_LEVELS

__all__ = ["RATE_WEIGHT", "Level", "fit_levels"]

RATE_WEIGHT = 0.15  # bits against squared steps; see docs/kv.md for how it was found
_WIDE_DEVIATION = 24.0  # steps; a row whose values leave ±127 now and then
_LEAST_NONZERO = 0.002  # rows with fewer integers than this that are not zero are left out
_N_TABLES = 96
_ROUNDS = 4
_LEAST_DEVIATION = 0.1  # steps; a row of less never leaves zero
_FINEST, _COARSEST = -12.0, 1.0  # of steps to the largest component, so that LIMIT is far
_LEAST_COMPONENT = 1e-20
_SEARCH_ROUNDS = 10
_SEARCH_COMPONENTS = 2**20
_COUNTED_COMPONENTS = 2**24


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Level:
    """One step and, for each unit, how many rows it has, how many of them wide, and their tables.

    ``tables``: one array a unit, of the high parts of the wide rows and then of all rows.
    """

    step: float
    bits_per_value: float
    rows: list[tuple[int, int]]
    tables: list[np.ndarray]


@dataclass(slots=True)
class _Counted:
    """Of one unit at one step: rows, wide rows, and counts ``(n_wide + n_rows, N_LEVELS)``."""

    n_rows: int
    n_wide: int
    counts: np.ndarray
    chosen: np.ndarray


def fit_levels(
    components: Sequence[np.ndarray],
    deviations: Sequence[np.ndarray],
    bits_per_value: Sequence[float],
    n_values: int,
) -> tuple[SymbolTables, list[Level]]:
    """Levels of about these sizes, and the tables that they share.

    ``components``: of each unit, float32 ``(n_components, n_tokens)``, deviations falling.
    ``n_values``: how many values a token has in all units.
    """
    few = _sample(components, _SEARCH_COMPONENTS)
    components = _sample(components, _COUNTED_COMPONENTS)
    static = static_tables(N_LEVELS).weights
    steps = _steps_for(few, deviations, static, bits_per_value, n_values)
    counted = [
        [
            _counted(unit, deviation, step, static)
            for unit, deviation in zip(components, deviations, strict=True)
        ]
        for step in steps
    ]
    weights = _clustered(np.concatenate([u.counts for level in counted for u in level]))
    levels = []
    for step in steps:
        # The tables decide the rounding, and the rounding what the tables are for.
        units = [
            _counted(unit, deviation, step, weights)
            for unit, deviation in zip(components, deviations, strict=True)
        ]
        total = sum(_price(unit.counts, unit.chosen, weights) for unit in units)
        levels.append(
            Level(
                step=step,
                bits_per_value=total / components[0].shape[1] / n_values,
                rows=[(unit.n_rows, unit.n_wide) for unit in units],
                tables=[unit.chosen.astype(np.uint8) for unit in units],
            )
        )
    return SymbolTables(weights), levels


def _sample(components: Sequence[np.ndarray], most: int) -> list[np.ndarray]:
    """Some of the tokens, so that there are about ``most`` components in all."""
    n_tokens = components[0].shape[1]
    a_token = sum(len(unit) for unit in components)
    kept = max(1, min(n_tokens, most // max(1, a_token)))
    chosen = np.linspace(0, n_tokens - 1, kept).round().astype(np.int64)
    return [np.ascontiguousarray(unit[:, chosen]) for unit in components]


def _steps_for(
    components: Sequence[np.ndarray],
    deviations: Sequence[np.ndarray],
    weights: np.ndarray,
    wanted: Sequence[float],
    n_values: int,
) -> list[float]:
    """The steps at which a value costs the ``wanted`` bits, by bisection of their logarithms."""
    largest = max(_LEAST_COMPONENT, *(float(np.abs(unit).max(initial=0)) for unit in components))
    n_all = components[0].shape[1] * n_values

    @cache  # the searches begin at the same steps
    def bits_at(exponent: float) -> float:
        step = largest * 2.0**exponent
        units = [
            _counted(unit, deviation, step, weights)
            for unit, deviation in zip(components, deviations, strict=True)
        ]
        bits = sum(_price(unit.counts, unit.chosen, weights) for unit in units)
        return float(bits / n_all)

    steps = []
    for bits in wanted:
        low, high = _FINEST, _COARSEST
        for _ in range(_SEARCH_ROUNDS):
            middle = (low + high) / 2
            if bits_at(middle) > bits:
                low = middle
            else:
                high = middle
        steps.append(largest * 2.0**high)
    return steps


def _counted(
    components: np.ndarray, deviations: np.ndarray, step: float, weights: np.ndarray
) -> _Counted:
    """Round with the best of the tables, and count what comes of it."""
    n_wide = int((deviations > _WIDE_DEVIATION * step).sum())
    n_rows = max(n_wide, int((deviations > _LEAST_DEVIATION * step).sum()))
    bits = _bits(weights)
    none = np.zeros(n_rows, np.int64)
    chosen, counts = none, np.zeros((0, N_LEVELS), np.int64)
    for weight in (0.0, RATE_WEIGHT):
        integers = kernels.round_rows(
            components[:n_rows],
            np.float32(1 / step),
            bits,
            chosen,
            n_wide,
            np.float32(weight),
        )
        symbols, _ = kernels.split_rows(integers, n_wide)
        counts = kernels.count_symbols(symbols)
        chosen = _cheapest(counts, bits)[n_wide:]
    zeros = counts[n_wide:, CENTRE] / max(1, components.shape[1])
    used = np.flatnonzero(zeros[n_wide:] < 1 - _LEAST_NONZERO)
    n_rows = n_wide + (int(used[-1]) + 1 if len(used) else 0)
    counts = counts[: n_wide + n_rows]
    return _Counted(n_rows, n_wide, counts, _cheapest(counts, bits))


def _bits(weights: np.ndarray) -> np.ndarray:
    wide = weights.astype(np.float32)
    bits: np.ndarray = np.log2(wide.sum(1, keepdims=True) / wide)
    return bits


def _cheapest(counts: np.ndarray, bits: np.ndarray) -> np.ndarray:
    chosen: np.ndarray = (counts.astype(np.float32) @ bits.T).argmin(axis=1)
    return chosen


def _price(counts: np.ndarray, chosen: np.ndarray, weights: np.ndarray) -> float:
    """Bits of all that was counted, where tables are cut to what their rows hold."""
    total = 0.0
    for table in np.unique(chosen):
        held = counts[chosen == table].sum(axis=0)
        present = np.flatnonzero(held)
        low, high = int(present[0]), int(present[-1]) + 1
        total += float(held[low:high] @ _bits(weights[table : table + 1, low:high])[0])
    return total


def _clustered(counts: np.ndarray) -> np.ndarray:
    """At most ``_N_TABLES`` tables for rows of these counts (k-means by code length)."""
    counts = counts.astype(np.float32)
    counts = counts[counts.sum(axis=1) > 0]
    if len(counts) == 0:
        return weights_of_counts(np.ones((1, N_LEVELS)))
    distance = np.abs(np.arange(N_LEVELS) - N_LEVELS // 2).astype(np.float32)
    order = np.argsort(counts @ distance / counts.sum(axis=1), kind="stable")
    classes = np.empty(len(counts), np.int64)
    classes[order] = np.arange(len(counts)) * min(_N_TABLES, len(counts)) // len(counts)
    weights = np.empty(0)
    for _ in range(_ROUNDS):
        kept, classes = np.unique(classes, return_inverse=True)
        sums = np.zeros((len(kept), N_LEVELS), np.float64)
        np.add.at(sums, classes.reshape(-1), counts)
        weights = weights_of_counts(_smoothed(sums))
        classes = _cheapest(counts, _bits(weights))
    return weights


def _smoothed(sums: np.ndarray) -> np.ndarray:
    """A little of each count goes to its neighbours, which other texts will hold."""
    spread = sums.copy()
    spread[:, 1:] += 0.02 * sums[:, :-1]
    spread[:, :-1] += 0.02 * sums[:, 1:]
    return spread
