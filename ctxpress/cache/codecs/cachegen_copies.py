"""Tokens whose symbols all stand in the section already are named instead of coded again.

Un-rotated keys and values of a model's first layer depend on the token alone, so every token that
occurs twice in a text has the same there, and zstd over tokens would find it. A copy names the
place of its original among the tokens that are no copies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctxpress.cache.codecs import cachegen_kernels as kernels
from ctxpress.cache.codecs.entropy import decode_symbols, encode_symbols
from ctxpress.errors import CorruptContainerError

__all__ = ["MAX_TOKENS", "decode_copies", "encode_copies", "find_copies"]

MAX_TOKENS = 2**16  # places are two bytes
_HASHED_ROWS = 32  # of a part, spread over it: symbols decide, hashes only propose
_LEAST_SHARE = 1 / 32  # of tokens: fewer copies would hardly pay for their flags


def find_copies(parts: Sequence[np.ndarray]) -> np.ndarray | None:
    """For each token, the place of its original among tokens that are no copies.

    ``parts``: integers ``(rows, n_tokens)``; tokens are equal where all of their columns are.
    None where hardly any are.
    """
    n_tokens = parts[0].shape[1]
    if not 2 <= n_tokens <= MAX_TOKENS:
        return None
    hashes = np.zeros(n_tokens, np.uint64)
    for part in parts:
        kernels.add_hashes(part[:: max(1, len(part) // _HASHED_ROWS)], hashes)
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    originals = first[group.reshape(-1)]
    if np.count_nonzero(originals != np.arange(n_tokens)) < _LEAST_SHARE * n_tokens:
        return None
    same = np.ones(n_tokens, bool)
    for part in parts:
        same &= (part == part[:, originals]).all(axis=0)
    originals = np.where(same, originals, np.arange(n_tokens))
    kept = originals == np.arange(n_tokens)
    places: np.ndarray = (np.cumsum(kept) - 1)[originals]
    return places


def encode_copies(places: np.ndarray) -> list[bytes]:
    """Three streams: which tokens are copies, and the low and high bytes of their places."""
    is_copy = ~_is_new(places)
    named = places[is_copy].reshape(1, -1)
    return [
        encode_symbols(is_copy.astype(np.uint8).reshape(1, -1), 2),
        encode_symbols((named & 255).astype(np.uint8), 256),
        encode_symbols((named >> 8).astype(np.uint8), 256),
    ]


def decode_copies(streams: Sequence[memoryview], n_tokens: int) -> np.ndarray:
    """Undo :func:`encode_copies`.

    :raises CorruptContainerError: a copy comes before its original.
    """
    is_copy = decode_symbols(streams[0], (1, n_tokens), 2).reshape(-1).astype(bool)
    n_copies = int(is_copy.sum())
    low, high = (decode_symbols(s, (1, n_copies), 256).reshape(-1) for s in streams[1:])
    n_before = np.cumsum(~is_copy)
    places = n_before - 1
    places[is_copy] = low + 256 * high.astype(np.int64)
    if (places >= n_before).any():
        raise CorruptContainerError("a copied token stands before its original")
    return places


def _is_new(places: np.ndarray) -> np.ndarray:
    """Tokens that name a place that none before them has named."""
    highest = np.maximum.accumulate(places)
    new: np.ndarray = np.concatenate(([True], highest[1:] > highest[:-1]))
    return new
