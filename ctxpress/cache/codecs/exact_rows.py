"""Tokens that a lossy codec keeps as they are, in front of each section::

    u32 little-endian: n = bytes of the exact rows
    n bytes: keys, then values, of the section's layers: (layers, heads, exact tokens, head_dim)
    the codec's own bytes

Which tokens they are stands once, in the header's parameter ``exact_tokens``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace

import torch

from ctxpress.cache.codecs.tensor_bytes import copy_bytes_into, tensor_to_bytes
from ctxpress.cache.container import ContainerHeader
from ctxpress.cache.kv import KVBlock
from ctxpress.errors import CorruptContainerError

__all__ = [
    "EXACT_PARAMETER",
    "exact_rows",
    "exact_tokens_of",
    "non_finite_tokens",
    "restore_exact_rows",
    "split_exact_rows",
    "without_tokens",
]

EXACT_PARAMETER = "exact_tokens"
_SIZE = struct.Struct("<I")


def non_finite_tokens(block: KVBlock) -> list[int]:
    """The tokens that hold NaN or infinities anywhere; indices into the block."""
    if block.n_tokens == 0 or all(_is_finite(tensor) for tensor in (block.keys, block.values)):
        return []
    finite = torch.isfinite(block.keys).all(3) & torch.isfinite(block.values).all(3)
    tokens: list[int] = (~finite.all(1).all(0)).nonzero().flatten().tolist()
    return tokens


def without_tokens(block: KVBlock, tokens: Sequence[int]) -> KVBlock:
    """A copy of ``block`` with zeros in place of ``tokens``."""
    keys, values = block.keys.clone(), block.values.clone()
    keys[:, :, tokens] = 0
    values[:, :, tokens] = 0
    return replace(block, keys=keys, values=values)


def exact_rows(
    block: KVBlock, layers: tuple[int, int], tokens: Sequence[int]
) -> list[bytes | memoryview]:
    """The size and the rows of ``tokens``, to stand in front of the section of ``layers``."""
    low, high = layers
    rows = [
        tensor_to_bytes(tensor[low:high, :, tokens]) if tokens else memoryview(b"")
        for tensor in (block.keys, block.values)
    ]
    return [_SIZE.pack(sum(map(len, rows))), *rows]


def exact_tokens_of(header: ContainerHeader) -> list[int]:
    """The tokens that ``header`` says are kept exactly.

    :raises CorruptContainerError: they are not rising indices of tokens.
    """
    tokens = header.parameters.get(EXACT_PARAMETER)
    if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
        raise CorruptContainerError("parameters.exact_tokens is not a list of integers")
    if any(b <= a for a, b in zip(tokens, tokens[1:], strict=False)) or (
        tokens and not 0 <= tokens[0] <= tokens[-1] < header.layout.n_tokens
    ):
        raise CorruptContainerError("parameters.exact_tokens are not rising token indices")
    return tokens


def split_exact_rows(
    header: ContainerHeader, index: int, section: memoryview, n_exact: int
) -> tuple[memoryview, memoryview]:
    """The exact rows of section ``index``, and the codec's own bytes behind them.

    :raises CorruptContainerError: the rows are not as long as ``n_exact`` tokens are.
    """
    if len(section) < _SIZE.size:
        raise CorruptContainerError(f"section {index} is too short")
    (size,) = _SIZE.unpack(section[: _SIZE.size])
    first, last = header.sections[index].layers
    n_tokens = header.layout.n_tokens
    wanted = (last - first) * (header.layout.layer_bytes // n_tokens) * n_exact if n_tokens else 0
    if size != wanted or len(section) < _SIZE.size + size:
        raise CorruptContainerError(f"section {index}: {size} bytes of exact rows, not {wanted}")
    return section[_SIZE.size : _SIZE.size + size], section[_SIZE.size + size :]


def restore_exact_rows(
    keys: torch.Tensor, values: torch.Tensor, tokens: Sequence[int], rows: memoryview
) -> None:
    """Put ``rows`` of ``tokens`` back into the decoded tensors of a section."""
    if not tokens:
        return
    place = torch.tensor(tokens, device=keys.device)
    shape = (keys.shape[0], keys.shape[1], len(tokens), keys.shape[3])
    half = len(rows) // 2
    for tensor, data in ((keys, rows[:half]), (values, rows[half:])):
        exact = torch.empty(shape, dtype=tensor.dtype)
        copy_bytes_into(exact, data)
        tensor[:, :, place] = exact.to(tensor.device)


def _is_finite(tensor: torch.Tensor) -> bool:
    least, most = torch.aminmax(tensor)  # NaN wins over every number
    return bool(torch.isfinite(least) & torch.isfinite(most))
