"""Attention of few queries over many keys in bfloat16, on processors that multiply it (AVX-512).

torch's flash kernel reads keys once for every 32 queries and turns them round before it multiplies;
here keys are multiplied as they lie, by queries that are turned round once. Queries are the lanes,
so that the softmax runs over lanes, too, online over blocks of keys ("FlashAttention", arXiv
2205.14135): logits, exponents, sums and outputs are float32, and weights are rounded to bfloat16
where they meet the values. Heads are shared out among the threads that torch itself uses.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numba import carray, cfunc, float32, types, uint32

from ctxpress.cache.codecs.entropy.compiling import compiled
from ctxpress.cache.codecs.entropy.vectors import address_of
from ctxpress.engine.bfloat16_tiles import (
    LANES,
    TILE_LANES,
    TILE_ROWS,
    add_tile,
    exponentials,
    has_tiles,
    next_of,
    set_tile,
    words_at,
)

__all__ = ["attend_bfloat16", "can_attend_bfloat16", "warm_attention"]

_BLOCK_KEYS = 64
_MOST_LANES = 128  # more queries go in several passes, so that what a pass needs stays close
_LOG2_E = float32(1.4426950408889634)
_FAR_BELOW = float32(-1e30)


def can_attend_bfloat16(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> bool:
    """Whether :func:`attend_bfloat16` knows these tensors, and this processor."""
    head_dim = query.shape[-1]
    return (
        query.device.type == "cpu"
        and query.dtype == keys.dtype == values.dtype == torch.bfloat16
        and head_dim % LANES == 0
        and keys.shape[1] > 0
        and all(one.stride()[1:] == (head_dim, 1) for one in (keys, values))
        and all(one.stride(0) % 2 == one.storage_offset() % 2 == 0 for one in (keys, values))
        and _team_of() is not None
    )


def attend_bfloat16(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention in which every query sees every key.

    ``query``: ``(n_kv_heads, n, head_dim)``. ``keys``, ``values``: ``(n_kv_heads, n_keys,
    head_dim)``. All that :func:`can_attend_bfloat16` said yes to. Returns the output, of the
    query's shape, and the log-sum-exp ``(n_kv_heads, n)``, both float32.
    """
    team = _team_of()
    if team is None:
        raise ValueError("this processor does not multiply bfloat16")
    n_heads, n, head_dim = query.shape
    query = query.contiguous()
    output = torch.empty(query.shape, dtype=torch.float32)
    lse = torch.empty((n_heads, n), dtype=torch.float32)
    tensors = (query, keys, values, output, lse)
    work = np.array(
        [
            *(tensor.data_ptr() for tensor in tensors),
            *(n_heads, n, keys.shape[1], head_dim, keys.stride(0), values.stride(0)),
            np.float64(scale).view(np.int64),
            0,  # how much of it was begun
        ],
        np.int64,
    )
    team(work)
    return output, lse


def warm_attention(head_dim: int, dtype: torch.dtype, device: torch.device) -> None:
    """Compile what such tensors need, before anybody waits for it; ten seconds, once on a machine.

    It is kept on disk. Nothing happens where :func:`can_attend_bfloat16` says no.
    """
    some = torch.zeros((1, 1, head_dim), dtype=dtype, device=device)
    if can_attend_bfloat16(some, some, some):
        attend_bfloat16(some, some, some, 1.0)


@lru_cache(maxsize=1)
def _team_of() -> Callable[[np.ndarray], None] | None:
    """Runs the work in torch's threads, each of which takes what is next until nothing is left.

    Those are the ones of the OpenMP that came with torch, and GOMP_parallel is what compilers call
    to use them. None where there is no such library, or the processor cannot do it.
    """
    libraries = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    if not has_tiles() or len(libraries) != 1:
        return None
    run_parallel = ctypes.CDLL(str(libraries[0])).GOMP_parallel
    run_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    run_parallel.restype = None
    compiled_work = cfunc(types.void(types.voidptr), cache=True)(_work)

    def team(work: np.ndarray) -> None:
        run_parallel(compiled_work.address, work.ctypes.data, torch.get_num_threads(), 0)

    return team


def _work(pointer: object) -> None:
    """All that one thread does: heads, and of each as many queries as go in one pass."""
    work = carray(pointer, (13,), np.int64)
    n_heads, n, n_keys, head_dim = work[5], work[6], work[7], work[8]
    half = head_dim // 2
    scale = float32(work[11:12].view(np.float64)[0])
    n_passes = (n + _MOST_LANES - 1) // _MOST_LANES
    while True:
        index = next_of(work, 12)
        if index >= n_heads * n_passes:
            return
        head, first = index // n_passes, index % n_passes * _MOST_LANES
        count = min(_MOST_LANES, n - first)
        row = head * n + first
        query = carray(words_at(work[0] + 2 * row * head_dim), (count, half))
        keys = carray(words_at(work[1] + 2 * head * work[9]), (n_keys, half))
        values = carray(words_at(work[2] + 2 * head * work[10]), (n_keys, half))
        output = carray(words_at(work[3] + 4 * row * head_dim), (count, head_dim))
        lse = carray(words_at(work[4] + 4 * row), (count,))
        _attend_head(query, keys, values, scale, output.view(np.float32), lse.view(np.float32))


@compiled
def _attend_head(
    query: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    scale: float,
    output: np.ndarray,
    lse: np.ndarray,
) -> None:
    """One head. ``query``, ``keys`` and ``values`` are words of two numbers, uint32."""
    n, half = query.shape
    n_keys, head_dim = keys.shape[0], 2 * half
    lanes = (n + TILE_LANES - 1) // TILE_LANES * TILE_LANES
    turned = np.zeros((half, lanes), np.uint32)
    for one in range(n):
        for word in range(half):
            turned[word, one] = query[one, word]
    factor = float32(scale * _LOG2_E)
    logits = np.empty((_BLOCK_KEYS, lanes), np.float32)
    weights = np.empty((_BLOCK_KEYS // 2, lanes), np.uint32)
    pairs = np.empty((_BLOCK_KEYS // 2, head_dim), np.uint32)
    most = np.full(lanes, -np.inf, np.float32)
    sums = np.zeros(lanes, np.float32)
    sums_at = sums.view(np.float32)
    mixed = np.zeros((head_dim, lanes), np.float32)
    for start in range(0, n_keys, _BLOCK_KEYS):
        count = min(_BLOCK_KEYS, n_keys - start)
        n_rows = _logits(keys[start : start + count], turned, logits)
        _follow(logits, count, factor, most, sums, mixed)
        _pair(values[start : start + count], pairs, n_rows // 2)
        for lane in range(0, lanes, LANES):
            exponentials(
                address_of(logits, lane), lanes, n_rows // 2, factor, address_of(most, lane),
                address_of(weights, lane), address_of(sums_at, lane),
            )  # fmt: skip
        for dim in range(0, head_dim, TILE_ROWS):
            for lane in range(0, lanes, TILE_LANES):
                add_tile(
                    address_of(pairs, dim), 1, head_dim, n_rows // 2,
                    address_of(weights, lane), lanes, address_of(mixed, dim * lanes + lane), lanes,
                )  # fmt: skip
    for one in range(n):
        share = float32(1.0) / sums[one]
        for dim in range(head_dim):
            output[one, dim] = mixed[dim, one] * share
        lse[one] = most[one] * scale + np.log(sums[one])


@compiled
def _logits(keys: np.ndarray, turned: np.ndarray, logits: np.ndarray) -> int:
    """Products of ``keys`` and the queries; how many rows they take, with some far below."""
    count: int = keys.shape[0]
    half, lanes = turned.shape
    whole = count - count % TILE_ROWS
    for lane in range(0, lanes, TILE_LANES):
        for row in range(0, whole, TILE_ROWS):
            set_tile(
                address_of(keys, row * half), half, 1, half,
                address_of(turned, lane), lanes, address_of(logits, row * lanes + lane), lanes,
            )  # fmt: skip
    if whole == count:
        return count
    last = np.zeros((TILE_ROWS, half), np.uint32)
    last[: count - whole] = keys[whole:]
    for lane in range(0, lanes, TILE_LANES):
        set_tile(
            address_of(last, 0), half, 1, half,
            address_of(turned, lane), lanes, address_of(logits, whole * lanes + lane), lanes,
        )  # fmt: skip
    logits[count : whole + TILE_ROWS] = _FAR_BELOW
    return whole + TILE_ROWS


@compiled
def _follow(
    logits: np.ndarray,
    count: int,
    factor: float,
    most: np.ndarray,
    sums: np.ndarray,
    mixed: np.ndarray,
) -> None:
    """Where greater logits have come, bring what was summed up to their measure."""
    lanes = most.size
    shares = most.copy()
    for row in range(count):
        own = logits[row]
        for lane in range(lanes):
            most[lane] = own[lane] if own[lane] > most[lane] else most[lane]
    changed = False
    for lane in range(lanes):
        if most[lane] > shares[lane]:
            changed = True
            shares[lane] = np.exp2(factor * (shares[lane] - most[lane]))
        else:
            shares[lane] = float32(1.0)
    if not changed:
        return
    for lane in range(lanes):
        sums[lane] *= shares[lane]
    for dim in range(mixed.shape[0]):
        own = mixed[dim]
        for lane in range(lanes):
            own[lane] *= shares[lane]


@compiled
def _pair(values: np.ndarray, pairs: np.ndarray, n_pairs: int) -> None:
    """Neighbouring tokens of ``values`` in one word, zero behind the last."""
    count, half = values.shape
    low, high = uint32(0xFFFF), uint32(0xFFFF0000)
    for pair in range(n_pairs):
        first, second = 2 * pair, 2 * pair + 1
        for word in range(half):
            one = values[first, word] if first < count else uint32(0)
            other = values[second, word] if second < count else uint32(0)
            pairs[pair, 2 * word] = (one & low) | (other << uint32(16))
            pairs[pair, 2 * word + 1] = (one >> uint32(16)) | (other & high)
