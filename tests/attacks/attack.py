"""One hostile file: what it tries, and the exact error that answers it; see README.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ctxpress.cache import KVBlock, KVIdentity, create_codec
from ctxpress.errors import CodecError, CorruptContainerError
from tests.attacks.forging import Forgery, forged


@dataclass(frozen=True)
class Attack:
    """``build`` makes the file; ``message`` is what the error says, whole."""

    name: str
    build: Callable[[], object]
    message: str
    error: type[CodecError] = CorruptContainerError


def honest(codec: str = "raw", n_layers: int = 2, *, exact: bool = False) -> bytes:
    """A container in order: ``n_layers``, 1 head, 3 tokens, head_dim 5, float16.

    ``exact``: token 1 holds infinities and is kept exactly.
    """
    keys = torch.arange(n_layers * 15, dtype=torch.float16).view(n_layers, 1, 3, 5)
    if exact:
        keys[:, :, 1] = torch.inf
    block = KVBlock(keys=keys, values=-keys, identity=KVIdentity(model="m", tokens="0f"))
    return create_codec(codec, non_finite="exact").encode(block)


def changed(
    change: Callable[[Forgery], object], codec: str = "raw", *, exact: bool = False
) -> Callable[[], bytes]:
    """A builder of an honest container with one change, and checksums that are right."""
    return lambda: forged(honest(codec, exact=exact), change)
