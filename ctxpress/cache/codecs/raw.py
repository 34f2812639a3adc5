"""``raw``: keys and values as they are, bit for bit, one section a layer."""

from __future__ import annotations

from typing import ClassVar

import torch

from ctxpress.cache.calibration import Calibration
from ctxpress.cache.codec import NonFinite
from ctxpress.cache.codecs.methods import EncodedSections
from ctxpress.cache.codecs.sectioned import SectionedCodec
from ctxpress.cache.codecs.tensor_bytes import copy_bytes_into, tensor_to_bytes
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
                (
                    (layer, layer + 1),
                    [tensor_to_bytes(block.keys[layer]), tensor_to_bytes(block.values[layer])],
                )
                for layer in range(block.n_layers)
            ]
        )

    def check_section(
        self, header: ContainerHeader, index: int, section: memoryview, shared: memoryview
    ) -> None:
        """See :class:`SectionMethods`."""
        first, last = header.sections[index].layers
        wanted = (last - first) * header.layout.layer_bytes
        if len(section) != wanted:
            raise CorruptContainerError(f"section {index} has {len(section)} bytes, not {wanted}")

    def decode_into(
        self,
        header: ContainerHeader,
        index: int,
        section: memoryview,
        shared: memoryview,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> None:
        """See :class:`SectionMethods`."""
        half = len(section) // 2
        copy_bytes_into(keys, section[:half])
        copy_bytes_into(values, section[half:])

    def describe_own(
        self, header: ContainerHeader, index: int, section: memoryview, shared: memoryview
    ) -> dict[str, int]:
        """See :class:`SectionMethods`."""
        half = len(section) // 2
        return {"numbers_k": half, "numbers_v": len(section) - half}


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
