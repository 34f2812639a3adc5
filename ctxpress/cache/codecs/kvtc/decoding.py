"""From the bytes of a section to values: all of it on integers, but for the last two operations."""

from __future__ import annotations

import struct

import numpy as np
import torch

from ctxpress.cache.codecs.entropy import SymbolTables, decode_symbols
from ctxpress.cache.codecs.kvtc.integer_matmul import integer_matmul
from ctxpress.cache.codecs.kvtc.plan import CENTRE, LOW_BITS, N_LEVELS, UnitPlan
from ctxpress.cache.codecs.kvtc.rounding import Integers
from ctxpress.errors import CorruptContainerError

__all__ = ["UNIT", "UnitBytes", "decoded_integers", "decoded_rows", "split_units"]

UNIT = struct.Struct("<II")  # escapes, bytes of the stream of symbols
ESCAPE_BYTES = 2 + 4 + 1
_HIGHEST = 64  # of high parts: (LIMIT + 64) >> 7

UnitBytes = tuple[int, memoryview, memoryview]  # number of escapes, their bytes, the stream


def split_units(section: memoryview, index: int) -> list[UnitBytes]:
    """The units of section ``index``.

    :raises CorruptContainerError: they do not fill it exactly.
    """
    parts: list[UnitBytes] = []
    at = 0
    while at < len(section):
        if len(section) - at < UNIT.size:
            raise CorruptContainerError(f"section {index} ends within a unit")
        n_escapes, n_stream = UNIT.unpack(section[at : at + UNIT.size])
        middle = at + UNIT.size + n_escapes * ESCAPE_BYTES
        end = middle + n_stream
        if end > len(section):
            raise CorruptContainerError(f"section {index} ends within a unit")
        parts.append((n_escapes, section[at + UNIT.size : middle], section[middle:end]))
        at = end
    return parts


def decoded_integers(
    part: UnitBytes, plan: UnitPlan, tables: SymbolTables, n_tokens: int, index: int
) -> Integers:
    """The symbols and escapes of one unit.

    :raises CorruptContainerError: the bytes are not what the encoder writes for ``n_tokens``.
    """
    n_escapes, escapes, stream = part
    shape = (plan.n_wide + plan.n_rows, n_tokens)
    symbols = decode_symbols(stream, shape, N_LEVELS, tables=tables, row_tables=plan.row_tables)
    rows = np.frombuffer(escapes[: 2 * n_escapes], "<u2")
    tokens = np.frombuffer(escapes[2 * n_escapes : 6 * n_escapes], "<u4")
    highs = np.frombuffer(escapes[6 * n_escapes :], np.int8)
    if n_escapes:
        place = rows.astype(np.int64) * n_tokens + tokens
        legal = (
            (np.diff(place) > 0).all()
            and rows.min() >= plan.n_wide
            and rows.max() < plan.n_rows
            and tokens.max() < n_tokens
            and np.abs(highs.astype(np.int16)).max() <= _HIGHEST
        )
        if not legal:
            raise CorruptContainerError(f"section {index} holds escapes that cannot be")
    if plan.n_wide and np.abs(symbols[: plan.n_wide].astype(np.int16) - CENTRE).max() > _HIGHEST:
        raise CorruptContainerError(f"section {index} holds an integer that is too large")
    return Integers(symbols=symbols, rows=rows, tokens=tokens, highs=highs)


def decoded_rows(integers: Integers, plan: UnitPlan, dtype: torch.dtype) -> torch.Tensor:
    """The unit's values ``(n_tokens, n_values)`` in float32, within the finite range of ``dtype``.

    The sums are of integers. What follows is a fixed order of single float32 operations on them,
    so that the result is the same everywhere: ``sum + fine sum / 128``, times ``scale``, plus
    ``mean``.
    """
    signed = (integers.symbols ^ 0x80).view(np.int8) + np.int8(128 - CENTRE)
    low = torch.from_numpy(np.ascontiguousarray(signed[plan.n_wide :].T)).to(plan.basis.device)
    sums = integer_matmul(low, plan.basis)
    if not plan.n_wide and not len(integers.rows):
        rows = sums.to(torch.float32)
    else:
        high, chosen = _high_parts(integers, signed[: plan.n_wide], plan)
        sums += integer_matmul(high, plan.basis[chosen]) << LOW_BITS
        rows = sums.to(torch.float32)
        if plan.n_wide:
            wide = slice(0, plan.n_wide)
            fine = integer_matmul(low[:, wide].contiguous(), plan.fine)
            fine += integer_matmul(high[:, wide].contiguous(), plan.fine) << LOW_BITS
            rows += fine.to(torch.float32) * 2.0**-LOW_BITS
    rows *= plan.scale
    rows += plan.mean
    greatest = torch.finfo(dtype).max
    if plan.greatest_value > greatest:
        rows.clamp_(-greatest, greatest)
    return rows


def _high_parts(
    integers: Integers, wide: np.ndarray, plan: UnitPlan
) -> tuple[torch.Tensor, torch.Tensor]:
    """High parts ``(n_tokens, rows that have any)``, wide rows first, and which those are."""
    escaped, place = np.unique(integers.rows, return_inverse=True)
    high = np.zeros((integers.symbols.shape[1], plan.n_wide + len(escaped)), np.int8)
    high[:, : plan.n_wide] = wide.T
    high[integers.tokens, plan.n_wide + place.reshape(-1)] = integers.highs
    chosen = np.concatenate((np.arange(plan.n_wide), escaped)).astype(np.int64)
    device = plan.basis.device
    return torch.from_numpy(high).to(device), torch.from_numpy(chosen).to(device)
