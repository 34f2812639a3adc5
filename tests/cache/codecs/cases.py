"""Every built-in codec as one row; a row gets the whole suite of this folder."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from ctxpress.cache import KVBlock, KVIdentity, create_codec
from ctxpress.cache.calibration import Calibration
from ctxpress.cache.codec import Codec
from tests.cache.codecs.calibrating import calibration_for

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# (n_layers, n_kv_heads, n_tokens, head_dim)
SHAPES = {
    "grouped-query": (3, 2, 17, 16),
    "multi-query": (2, 1, 9, 64),
    "multi-head": (2, 12, 5, 8),
    "odd head_dim": (2, 2, 7, 33),
    "head_dim 1": (1, 1, 5, 1),
    "one layer, more tokens than a chunk": (1, 4, 300, 8),
    "128 layers": (128, 1, 3, 4),
    "one token": (2, 2, 1, 16),
    "no tokens": (2, 2, 0, 16),
}
IDENTITY = KVIdentity(model="m", revision="r", tokenizer="t", rope="theta=1e4", tokens="0f")


@dataclass(frozen=True)
class CodecCase:
    """``max_error``: root mean square of the error over that of the values, of normal values.

    ``level_of``: the codec of which this one is another level, by the same code with other numbers;
    it gets a short list of tests instead of all.
    """

    name: str
    max_error: float
    calibrated: bool = False
    lossless: bool = False
    level_of: str = ""

    def codec(self, block: KVBlock, **options: object) -> Codec:
        """The codec, with a calibration for blocks like ``block`` where it needs one."""
        return create_codec(self.name, self.calibration(block), **options)  # type: ignore[arg-type]

    def calibration(self, block: KVBlock) -> Calibration | None:
        """What the codec needs to know of the model that ``block`` would be of."""
        return calibration_for(block) if self.calibrated else None


CASES = (
    CodecCase("raw", max_error=0, lossless=True),
    CodecCase("int8", max_error=0.02),
    CodecCase("int4", max_error=0.25),
    CodecCase("cachegen-1", max_error=0.5, level_of="cachegen-2"),
    CodecCase("cachegen-2", max_error=0.4),
    CodecCase("cachegen-3", max_error=0.3, level_of="cachegen-2"),
    CodecCase("cachegen-auto", max_error=0.6, calibrated=True),
    CodecCase("kvtc", max_error=0.8, calibrated=True),
    CodecCase("kvtc-8x", max_error=0.5, calibrated=True, level_of="kvtc"),
    CodecCase("kvtc-12x", max_error=0.8, calibrated=True, level_of="kvtc"),
    CodecCase("kvtc-16x", max_error=1.0, calibrated=True, level_of="kvtc"),
    CodecCase("kvtc-24x", max_error=1.2, calibrated=True, level_of="kvtc"),
    CodecCase("kvtc-32x", max_error=1.2, calibrated=True, level_of="kvtc"),
    CodecCase("kvtc-64x", max_error=1.2, calibrated=True, level_of="kvtc"),
)


every_codec = pytest.mark.parametrize(
    "case", [case for case in CASES if not case.level_of], ids=lambda case: case.name
)
every_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def make_block(
    shape: str | tuple[int, int, int, int] = "grouped-query",
    dtype: str = "float16",
    *,
    seed: int = 0,
    position_start: int = 0,
    keys_rotated: bool = False,
    identity: KVIdentity = IDENTITY,
) -> KVBlock:
    """Normal values whose channels differ in mean and spread, as those of keys do."""
    dims = SHAPES[shape] if isinstance(shape, str) else shape
    generator = torch.Generator().manual_seed(seed)
    channels = torch.Generator().manual_seed(1)  # a property of the model, not of the text
    spread = torch.rand(dims[0], dims[1], 1, dims[3], generator=channels) + 0.5
    mean = torch.randn(dims[0], dims[1], 1, dims[3], generator=channels)
    keys = torch.randn(dims, generator=generator) * spread + mean
    values = torch.randn(dims, generator=generator) * spread
    return KVBlock(
        keys=keys.to(DTYPES[dtype]),
        values=values.to(DTYPES[dtype]),
        position_start=position_start,
        keys_rotated=keys_rotated,
        identity=identity,
    )


def with_values(block: KVBlock, keys: torch.Tensor, values: torch.Tensor | None = None) -> KVBlock:
    """``block`` with other tensors."""
    return KVBlock(
        keys=keys,
        values=keys if values is None else values,
        position_start=block.position_start,
        keys_rotated=block.keys_rotated,
        identity=block.identity,
    )


def bits_of(tensor: torch.Tensor) -> bytes:
    """The bytes of a tensor, so that NaN equals itself and +0 differs from -0."""
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def same_bits(one: KVBlock, other: KVBlock) -> bool:
    """Whether two blocks have the same keys and values, bit for bit."""
    return bits_of(one.keys) == bits_of(other.keys) and bits_of(one.values) == bits_of(other.values)


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Root mean square of the error over that of the values; 0 of nothing."""
    if wanted.numel() == 0:
        return 0.0
    wanted = wanted.double()
    scale = wanted.square().mean().sqrt().clamp_min(1e-300)
    return float((found.double() - wanted).square().mean().sqrt() / scale)
