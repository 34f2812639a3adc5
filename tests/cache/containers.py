"""Containers of any size without tensors, and the keys that they belong under."""

from __future__ import annotations

import random

from ctxpress.cache.chunk_key import CacheKey, KVLevel, tokens_digest
from ctxpress.cache.container import ContainerHeader, KVLayout, write_container
from ctxpress.cache.identity import KVIdentity
from ctxpress.cache.key import Namespace

ACME = Namespace.derive(b"a secret of the tests", "acme")
OTHER = Namespace.derive(b"a secret of the tests", "other")
RAW = KVLevel(codec="raw")
SMALL = KVLevel(codec="cachegen-2", calibration="ab" * 32)


def key(number: int = 0, *, model: str = "m", rotated_from: int | None = None) -> CacheKey:
    """The key of a chunk of one token."""
    identity = KVIdentity(model=model, dtype="float16", tokens=tokens_digest([number]))
    return CacheKey(identity=identity, rotated_from=rotated_from)


def container(of: CacheKey, level: KVLevel = RAW, *, section_bytes: tuple[int, ...]) -> bytes:
    """A container whose sections, one a layer, hold noise that is the same every time."""
    noise = random.Random(repr((of.identity.tokens, level.codec)))
    layout = KVLayout(
        n_layers=len(section_bytes), n_kv_heads=8, n_tokens=1000, head_dim=128, dtype="float16"
    )
    header = ContainerHeader(
        codec=level.codec,
        codec_version=1,
        layout=layout,
        identity=of.identity,
        position_start=of.rotated_from or 0,
        keys_rotated=of.rotated_from is not None,
        calibration=level.calibration,
    )
    return write_container(
        header, [((n, n + 1), noise.randbytes(size)) for n, size in enumerate(section_bytes)]
    )
