"""A codec's compiled loops, made ready before anybody waits for them."""

from __future__ import annotations

import logging
import threading

import torch

from ctxpress.cache.codec import Codec
from ctxpress.cache.kv import KVBlock

__all__ = ["warm_up"]

_TOKENS = 64
_SAY_AFTER_S = 3.0


def warm_up(
    codec: Codec,
    *,
    n_layers: int,
    n_kv_heads: int,
    head_dim: int,
    dtype: torch.dtype,
    logger: logging.Logger | None = None,
) -> None:
    """Encode and decode a block of this shape, so that what a codec compiles is compiled.

    That takes a minute or so the first time on a machine, and is kept on disk. ``logger`` is told
    where it takes long.

    :raises CodecError: the codec does not take such KV.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (n_layers, n_kv_heads, _TOKENS, head_dim)
    keys = torch.randn(shape, generator=generator).to(dtype)
    block = KVBlock(keys=keys, values=keys.clone())
    said = threading.Timer(_SAY_AFTER_S, _say, (logger, codec.name))
    said.daemon = True
    said.start()
    try:
        codec.decode(codec.encode(block))
    finally:
        said.cancel()


def _say(logger: logging.Logger | None, name: str) -> None:
    if logger is not None:
        logger.warning(
            "compiling the loops of codec %s: a minute or so, once on this machine", name
        )
