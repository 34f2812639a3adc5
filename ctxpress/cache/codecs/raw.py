"""``raw``: keys and values as they are, bit for bit, one section a layer."""

from __future__ import annotations

from typing import ClassVar

import torch

from ctxpress.cache.calibration import Calibration
from ctxpress.cache.codec import NonFinite
from ctxpress.cache.codecs.sectioned import EncodedSections, SectionedCodec
from ctxpress.cache.container import ContainerHeader
from ctxpress.cache.kv import KVBlock
from ctxpress.errors import CorruptContainerError

__all__ = ["RawCodec", "create"]


class RawCodec(SectionedCodec):
    """No compression and no loss; the baseline of sizes and of answers."""

    version: ClassVar[int] = 1
    exact: ClassVar[bool] = True

    def encode_sections(self, block: KVBlock) -> EncodedSections:
        """Keys, then values, of each layer: ``(n_kv_heads, n_tokens, head_dim)``, little-endian."""
        return EncodedSections(
            sections=[
                ((layer, layer + 1), _bytes(block.keys[layer]) + _bytes(block.values[layer]))
                for layer in range(block.n_layers)
            ]
        )

    def decode_into(
        self,
        header: ContainerHeader,
        index: int,
        section: memoryview,
        shared: memoryview,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> None:
        """See :class:`SectionedCodec`."""
        half = keys.numel() * keys.element_size()
        if len(section) != 2 * half:
            raise CorruptContainerError(f"section {index} has {len(section)} bytes, not {2 * half}")
        if half:
            both = torch.frombuffer(bytearray(section), dtype=keys.dtype)
            keys.copy_(both[: keys.numel()].view(keys.shape))
            values.copy_(both[keys.numel() :].view(values.shape))


def create(
    name: str,
    calibration: Calibration | None,
    *,
    non_finite: NonFinite,
    threads: int,
    device: str,
) -> RawCodec:
    """See :class:`~ctxpress.cache.codec.CodecFactory`; a calibration changes nothing here."""
    return RawCodec(name, None, non_finite=non_finite, threads=threads, device=device)


def _bytes(tensor: torch.Tensor) -> bytes:
    data: bytes = tensor.contiguous().cpu().view(torch.uint8).numpy().tobytes()
    return data
