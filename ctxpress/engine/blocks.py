"""Blocks of KV cut into chunks, put together again, and rounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ctxpress.cache.kv import DTYPES, KVBlock
from ctxpress.errors import CodecError, ConfigError

__all__ = ["concatenated", "rounded", "split"]


def split(block: KVBlock, chunk_tokens: int) -> list[KVBlock]:
    """Chunks of ``chunk_tokens``, the last one shorter; views of the same tensors.

    The identity's ``tokens`` is left empty: it named the whole.

    :raises ValueError: ``chunk_tokens`` is not positive.
    """
    if chunk_tokens < 1:
        raise ValueError(f"chunk_tokens must be at least 1, not {chunk_tokens}")
    identity = replace(block.identity, tokens="")
    return [
        replace(
            block,
            keys=block.keys[:, :, first : first + chunk_tokens],
            values=block.values[:, :, first : first + chunk_tokens],
            position_start=block.position_start + first,
            identity=identity,
        )
        for first in range(0, block.n_tokens, chunk_tokens)
    ]


def concatenated(blocks: Sequence[KVBlock]) -> KVBlock:
    """One block of blocks that follow each other; the inverse of :func:`split`.

    :raises CodecError: they do not follow each other, or differ in shape, dtype or rotation.
    """
    if not blocks:
        raise CodecError("no blocks to put together")
    first = blocks[0]
    position = first.position_start
    for block in blocks:
        if block.position_start != position:
            raise CodecError(f"a block starts at {block.position_start}, not at {position}")
        if (block.keys_rotated, block.dtype_name) != (first.keys_rotated, first.dtype_name):
            raise CodecError("blocks differ in dtype or in whether their keys are rotated")
        position += block.n_tokens
    try:
        keys = torch.cat([block.keys for block in blocks], dim=2)
        values = torch.cat([block.values for block in blocks], dim=2)
    except RuntimeError as error:
        raise CodecError(f"blocks differ in shape or device: {error}") from None
    return replace(first, keys=keys, values=values, identity=replace(first.identity, tokens=""))


def rounded(block: KVBlock, dtype: str) -> KVBlock:
    """The block in ``dtype``: float32, float16 or bfloat16.

    Beyond float16's range numbers become its largest ones: infinities would spoil every attention
    that meets them.

    :raises ConfigError: no such dtype.
    """
    target = DTYPES.get(dtype)
    if target is None:
        raise ConfigError(f"KV's dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    if target == block.keys.dtype:
        return block
    identity = replace(block.identity, dtype=dtype) if block.identity.dtype else block.identity
    keys, values = _cast(block.keys, target), _cast(block.values, target)
    return replace(block, keys=keys, values=values, identity=identity)


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if dtype == torch.float16:
        most = torch.finfo(torch.float16).max
        finite = torch.isfinite(tensor)
        if bool((finite & (tensor.abs() > most)).any()):
            tensor = torch.where(finite, tensor.clamp(-most, most), tensor)
    return tensor.to(dtype)
