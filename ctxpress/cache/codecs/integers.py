"""``int8`` and ``int4``: symmetric integers with one scale per layer, head and token, packed.

The plain baselines that everything else has to beat: no entropy coding, no calibration, keys and
values alike. A row is the ``head_dim`` values of one head and token; its scale is its largest
magnitude over 127 or 7, rounded up to bfloat16. A decoded value is symbol times scale, which
float32 holds exactly, limited to the finite range of the dtype and rounded to it once: the same
bits on every machine.

A section holds one layer: scales of the keys, scales of the values, symbols of the keys, symbols
of the values; FORMAT.md has the bytes.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from ctxpress.cache.calibration import Calibration
from ctxpress.cache.codec import NonFinite
from ctxpress.cache.codecs.methods import EncodedSections
from ctxpress.cache.codecs.sectioned import SectionedCodec
from ctxpress.cache.container import ContainerHeader, KVLayout
from ctxpress.cache.kv import KVBlock
from ctxpress.errors import CorruptContainerError

__all__ = ["IntegerCodec", "create"]

_LEAST_SCALE = 2.0**-126  # below it, arithmetic may flush to zero
_GREATEST_SCALE_BITS = 0x7F7F  # the largest finite bfloat16; negative ones are above it too


class IntegerCodec(SectionedCodec):
    """Symmetric integers of ``bits`` 8 or 4, by the codec's name."""

    version: ClassVar[int] = 1

    @property
    def bits(self) -> int:
        """How many bits a symbol has."""
        return int(self.name.removeprefix("int"))

    def encode_sections(self, block: KVBlock) -> EncodedSections:
        """See :class:`SectionMethods`."""
        sections = []
        for layer in range(block.n_layers):
            scales_k, symbols_k = _quantised(block.keys[layer], self.bits)
            scales_v, symbols_v = _quantised(block.values[layer], self.bits)
            sections.append(((layer, layer + 1), [scales_k, scales_v, symbols_k, symbols_v]))
        return EncodedSections(sections=sections)

    def check_section(
        self, header: ContainerHeader, index: int, section: memoryview, shared: memoryview
    ) -> None:
        """See :class:`SectionMethods`."""
        first, last = header.sections[index].layers
        scales, symbols = self._sizes(header.layout)
        if last - first != 1 or len(section) != 2 * (scales + symbols):
            raise CorruptContainerError(
                f"section {index} has {len(section)} bytes for {last - first} layers, "
                f"not {2 * (scales + symbols)} for one"
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
        """See :class:`SectionMethods`."""
        scales, symbols = self._sizes(header.layout)
        for place, tensor in enumerate((keys, values)):
            at = 2 * scales + place * symbols
            packed = np.frombuffer(section[at : at + symbols], np.uint8)
            if self.bits == 4 and tensor.numel() % 2 and packed[-1] > 15:
                raise CorruptContainerError(f"section {index} holds half a byte too many")
            scale = _scales(section[place * scales : (place + 1) * scales], index)
            _restore(tensor[0], scale, packed, self.bits)

    def describe_own(
        self, header: ContainerHeader, index: int, section: memoryview, shared: memoryview
    ) -> dict[str, int]:
        """See :class:`SectionMethods`."""
        self.check_section(header, index, section, shared)
        scales, symbols = self._sizes(header.layout)
        return {"scales_k": scales, "scales_v": scales, "symbols_k": symbols, "symbols_v": symbols}

    def _sizes(self, layout: KVLayout) -> tuple[int, int]:
        """Bytes of scales and of symbols that keys, or values, of a layer take."""
        n_rows = layout.n_kv_heads * layout.n_tokens
        return 2 * n_rows, (n_rows * layout.head_dim * self.bits + 7) // 8


def create(
    name: str,
    calibration: Calibration | None,
    *,
    non_finite: NonFinite,
    threads: int,
    device: str,
) -> IntegerCodec:
    """See :class:`~ctxpress.cache.codec.CodecFactory`; a calibration changes nothing here."""
    return IntegerCodec(name, None, non_finite=non_finite, threads=threads, device=device)


def _quantised(tensor: torch.Tensor, bits: int) -> tuple[memoryview, memoryview]:
    """Scales and packed symbols of ``(n_kv_heads, n_tokens, head_dim)``."""
    most = 2 ** (bits - 1) - 1
    rows = tensor.detach().float()
    scales = _rounded_up(rows.abs().amax(dim=-1) / most)
    inverse = torch.where(scales > 0, 1 / scales, 0)
    symbols = (rows * inverse.unsqueeze(-1)).round_().clamp_(-most, most).to(torch.int8)
    plain = symbols.flatten().view(torch.uint8)
    packed: np.ndarray = (plain if bits == 8 else _packed(plain)).cpu().numpy()
    stored = (scales.flatten().view(torch.int32) >> 16).cpu().numpy().astype("<u2")
    return stored.view(np.uint8).data, packed.data


def _rounded_up(scales: torch.Tensor) -> torch.Tensor:
    """The next bfloat16 in float32; 0 for rows of zeros, and not less than the least otherwise."""
    up = ((scales.view(torch.int32) + 0xFFFF) & ~0xFFFF).view(torch.float32)
    return torch.where(scales > 0, up.clamp_min(_LEAST_SCALE), 0)


def _packed(symbols: torch.Tensor) -> torch.Tensor:
    """Four bits each: byte i holds symbol i low and symbol i + half high."""
    half = (symbols.numel() + 1) // 2
    packed = symbols[:half] & 15
    packed[: symbols.numel() - half] |= symbols[half:] << 4
    return packed


def _unpacked(packed: torch.Tensor) -> torch.Tensor:
    """The symbols of :func:`_packed`, int8, and one more where their number is odd."""
    half = packed.numel()
    symbols = torch.empty(2 * half, dtype=torch.int8, device=packed.device)
    raw = symbols.view(torch.uint8)
    torch.bitwise_left_shift(packed, 4, out=raw[:half])
    torch.bitwise_and(packed, 0xF0, out=raw[half:])
    symbols >>= 4  # arithmetic, so that the sign of the four bits is carried
    return symbols


def _scales(data: memoryview, index: int) -> np.ndarray:
    bits = np.frombuffer(data, "<u2")
    if bits.size and bits.max() > _GREATEST_SCALE_BITS:
        raise CorruptContainerError(f"section {index} holds a scale that is no finite number")
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _restore(tensor: torch.Tensor, scales: np.ndarray, packed: np.ndarray, bits: int) -> None:
    """Fill ``(n_kv_heads, n_tokens, head_dim)``; what travels to its device is still packed."""
    if not tensor.numel():
        return
    raw = torch.from_numpy(packed.copy()).to(tensor.device)  # a copy, since torch writes to its own
    symbols = raw.view(torch.int8) if bits == 8 else _unpacked(raw)[: tensor.numel()]
    rows = symbols.view(tensor.shape).float()
    rows *= torch.from_numpy(scales).to(tensor.device).view(*tensor.shape[:2], 1)
    greatest = torch.finfo(tensor.dtype).max
    if float(scales.max()) * 2 ** (bits - 1) > greatest:
        rows.clamp_(-greatest, greatest)
    tensor.copy_(rows)
