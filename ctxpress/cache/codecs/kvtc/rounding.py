"""Integers as symbols of one byte.

An integer within ±127 is one symbol. Rows that are expected to go beyond, the wide ones, have two:
``value = 128 * high + low`` with ``low`` in [-64, 63]. Elsewhere a value beyond is an escape: its
low part stands among the symbols, its high part in a list.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctxpress.cache.codecs.kvtc import kernels
from ctxpress.cache.codecs.kvtc.plan import CENTRE, LOW_BITS

__all__ = ["Integers", "split_integers"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Integers:
    """``symbols``: uint8 ``(n_wide + n_rows, n_tokens)``: high parts of the wide rows, then all
    low parts, both plus ``CENTRE``. Escapes: ``rows``, ``tokens`` and ``highs``, in this order.
    """

    symbols: np.ndarray
    rows: np.ndarray
    tokens: np.ndarray
    highs: np.ndarray


def split_integers(integers: np.ndarray, n_wide: int) -> Integers:
    """``integers``: int16 ``(n_rows, n_tokens)`` within ±LIMIT, the first ``n_wide`` rows wide."""
    symbols, n_escapes = kernels.split_rows(integers, n_wide)
    rows = tokens = highs = np.empty(0, np.int64)
    if n_escapes:
        rows, tokens = np.nonzero(np.abs(integers[n_wide:].astype(np.int32)) > CENTRE)
        rows += n_wide
        highs = (integers[rows, tokens].astype(np.int32) + (1 << LOW_BITS - 1)) >> LOW_BITS
    return Integers(
        symbols=symbols,
        rows=rows.astype("<u2"),
        tokens=tokens.astype("<u4"),
        highs=highs.astype(np.int8),
    )
