"""What all codecs share: the header, sections of layers, tokens kept exactly, threads, checks.

A codec says how it encodes a block into sections and how it decodes one of them into tensors that
are allocated already. Some tokens may be kept as they are: those with NaN or infinities where
``non_finite`` is ``exact``, and those that the codec asks for (attention sinks). Their rows stand
in front of each section::

    u32 little-endian: n = bytes of the exact rows
    n bytes: keys, then values, of the section's layers: (layers, heads, exact tokens, head_dim)
    the codec's own bytes
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from ctxpress.cache.calibration import Calibration
from ctxpress.cache.codec import NonFinite
from ctxpress.cache.container import (
    DEFAULT_MAX_DECODED_BYTES,
    ContainerHeader,
    KVLayout,
    parse_header,
    read_section,
    write_container,
)
from ctxpress.cache.identity import KVIdentity
from ctxpress.cache.kv import DTYPES, KVBlock
from ctxpress.errors import (
    CalibrationMissingError,
    CodecError,
    CorruptContainerError,
    UnsupportedVersionError,
)

__all__ = ["EncodedSections", "SectionedCodec"]

_EXACT = struct.Struct("<I")
_EXACT_PARAMETER = "exact_tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedSections:
    """What a codec made of a block: its parameters, the shared section, and those of layers."""

    sections: Sequence[tuple[tuple[int, int], bytes]]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    shared: bytes = b""


class SectionedCodec(ABC):
    """A codec over sections of layers. Subclasses set ``version`` and the two abstract methods.

    ``exact``: the codec carries any bits, NaN and infinities included, so none are looked for.
    """

    version: ClassVar[int]
    exact: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        calibration: Calibration | None,
        *,
        non_finite: NonFinite,
        threads: int,
        device: str,
    ) -> None:
        self.name = name
        self.calibration = calibration
        self._non_finite = non_finite
        self._threads = threads
        self._device = torch.device(device)

    @property
    def calibration_sha256(self) -> str:
        """See :class:`~ctxpress.cache.codec.Codec`."""
        return "" if self.calibration is None else self.calibration.sha256

    @abstractmethod
    def encode_sections(self, block: KVBlock) -> EncodedSections:
        """The sections of ``block``, all of whose values are finite unless ``exact``.

        Tokens that are kept exactly hold zeros in it.
        """

    @abstractmethod
    def decode_into(
        self,
        header: ContainerHeader,
        index: int,
        section: memoryview,
        shared: memoryview,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> None:
        """Decode one section into ``keys`` and ``values``.

        Both are ``(layers of the section, n_kv_heads, n_tokens, head_dim)``, contiguous, of the
        header's dtype and on the codec's device. Bytes are hostile: they have passed a checksum
        that anybody can compute.

        :raises CorruptContainerError: the bytes are not what this codec writes.
        """

    def exact_tokens(self, block: KVBlock) -> Sequence[int]:
        """Tokens that the codec wants kept exactly; indices into the block."""
        return ()

    def encode(self, block: KVBlock) -> bytes:
        """See :class:`~ctxpress.cache.codec.Codec`."""
        layout = KVLayout(
            n_layers=block.n_layers,
            n_kv_heads=block.n_kv_heads,
            n_tokens=block.n_tokens,
            head_dim=block.head_dim,
            dtype=block.dtype_name,
        )
        exact = sorted({*self._non_finite_tokens(block), *self.exact_tokens(block)})
        encoded = self.encode_sections(_without(block, exact) if exact else block)
        sections = [
            (layers, _exact_rows(block, layers, exact) + data) for layers, data in encoded.sections
        ]
        if encoded.shared:
            sections.insert(0, ((0, 0), encoded.shared))
        header = ContainerHeader(
            codec=self.name,
            codec_version=self.version,
            layout=layout,
            identity=block.identity,
            position_start=block.position_start,
            keys_rotated=block.keys_rotated,
            calibration=self.calibration_sha256,
            parameters={**encoded.parameters, _EXACT_PARAMETER: exact},
        )
        return write_container(header, sections)

    def decode(
        self,
        data: bytes | memoryview,
        *,
        expected: KVIdentity | None = None,
        max_decoded_bytes: int = DEFAULT_MAX_DECODED_BYTES,
    ) -> KVBlock:
        """See :class:`~ctxpress.cache.codec.Codec`."""
        header = parse_header(data, max_decoded_bytes=max_decoded_bytes)
        self._check(header)
        if expected is not None:
            header.identity.require(expected)
        if len(data) != header.total_bytes:
            raise CorruptContainerError(
                f"the container has {len(data)} bytes; its header speaks of {header.total_bytes}"
            )
        sections = [read_section(header, i, data) for i in range(len(header.sections))]
        first = 1 if header.sections[0].layers == (0, 0) else 0
        shared = sections[0] if first else memoryview(b"")
        keys, values = self._empty(header, 0, header.layout.n_layers)

        def decode_one(index: int) -> None:
            low, high = header.sections[index].layers
            self._decode_section(
                header, index, sections[index], shared, keys[low:high], values[low:high]
            )

        indices = range(first, len(sections))
        if self._threads == 1 or len(indices) == 1:
            for index in indices:
                decode_one(index)
        else:
            with ThreadPoolExecutor(min(self._threads, len(indices))) as pool:
                list(pool.map(decode_one, indices))
        return _block(header, keys, values)

    def decode_section(
        self,
        header: ContainerHeader,
        index: int,
        section: bytes | memoryview,
        shared: bytes | memoryview = b"",
    ) -> KVBlock:
        """See :class:`~ctxpress.cache.codec.Codec`."""
        self._check(header)
        low, high = header.sections[index].layers
        if high == 0:
            raise CodecError("the shared section holds no layers")
        keys, values = self._empty(header, low, high)
        self._decode_section(header, index, memoryview(section), memoryview(shared), keys, values)
        return _block(header, keys, values)

    def _check(self, header: ContainerHeader) -> None:
        if header.codec != self.name:
            raise CodecError(f"a container of codec {header.codec!r}, given to {self.name!r}")
        if header.codec_version != self.version:
            raise UnsupportedVersionError(
                f"codec {self.name!r} version {header.codec_version}; "
                f"this program reads {self.version}"
            )
        if header.calibration != self.calibration_sha256:
            raise CalibrationMissingError(
                f"encoded with calibration {header.calibration[:12] or 'none'}, "
                f"and the codec has {self.calibration_sha256[:12] or 'none'}",
                sha256=header.calibration,
            )

    def _empty(
        self, header: ContainerHeader, low: int, high: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        layout = header.layout
        shape = (high - low, layout.n_kv_heads, layout.n_tokens, layout.head_dim)
        dtype = DTYPES[layout.dtype]
        return (
            torch.empty(shape, dtype=dtype, device=self._device),
            torch.empty(shape, dtype=dtype, device=self._device),
        )

    def _decode_section(
        self,
        header: ContainerHeader,
        index: int,
        section: memoryview,
        shared: memoryview,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> None:
        tokens = _exact_indices(header)
        rows, own = _split_exact(section, index, len(tokens), keys)
        self.decode_into(header, index, own, shared, keys, values)
        if tokens:
            place = torch.tensor(tokens, device=keys.device)
            exact = torch.frombuffer(bytearray(rows), dtype=keys.dtype).to(keys.device)
            shape = (keys.shape[0], keys.shape[1], len(tokens), keys.shape[3])
            half = exact.numel() // 2
            keys[:, :, place] = exact[:half].view(shape)
            values[:, :, place] = exact[half:].view(shape)

    def _non_finite_tokens(self, block: KVBlock) -> list[int]:
        if self.exact:
            return []
        finite = torch.isfinite(block.keys).all(3) & torch.isfinite(block.values).all(3)
        tokens: list[int] = (~finite.all(1).all(0)).nonzero().flatten().tolist()
        if tokens and self._non_finite == "refuse":
            raise CodecError(
                f"token {tokens[0]} holds NaN or infinities ({len(tokens)} tokens do); "
                "create the codec with non_finite='exact' to carry them"
            )
        return tokens


def _block(header: ContainerHeader, keys: torch.Tensor, values: torch.Tensor) -> KVBlock:
    return KVBlock(
        keys=keys,
        values=values,
        position_start=header.position_start,
        keys_rotated=header.keys_rotated,
        identity=header.identity,
    )


def _without(block: KVBlock, tokens: Sequence[int]) -> KVBlock:
    keys, values = block.keys.clone(), block.values.clone()
    keys[:, :, tokens] = 0
    values[:, :, tokens] = 0
    return replace(block, keys=keys, values=values)


def _exact_rows(block: KVBlock, layers: tuple[int, int], tokens: Sequence[int]) -> bytes:
    if not tokens:
        return _EXACT.pack(0)
    low, high = layers
    rows = b"".join(
        tensor[low:high, :, tokens].contiguous().cpu().view(torch.uint8).numpy().tobytes()
        for tensor in (block.keys, block.values)
    )
    return _EXACT.pack(len(rows)) + rows


def _exact_indices(header: ContainerHeader) -> list[int]:
    tokens = header.parameters.get(_EXACT_PARAMETER)
    if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
        raise CorruptContainerError("header.parameters.exact_tokens is not a list of integers")
    if any(b <= a for a, b in zip(tokens, tokens[1:], strict=False)) or (
        tokens and not 0 <= tokens[0] <= tokens[-1] < header.layout.n_tokens
    ):
        raise CorruptContainerError("header.parameters.exact_tokens are not rising token indices")
    return tokens


def _split_exact(
    section: memoryview, index: int, n_exact: int, keys: torch.Tensor
) -> tuple[memoryview, memoryview]:
    if len(section) < _EXACT.size:
        raise CorruptContainerError(f"section {index} is too short")
    (size,) = _EXACT.unpack(section[: _EXACT.size])
    wanted = 2 * keys.shape[0] * keys.shape[1] * n_exact * keys.shape[3] * keys.element_size()
    if size != wanted or len(section) < _EXACT.size + size:
        raise CorruptContainerError(f"section {index}: {size} bytes of exact rows, not {wanted}")
    return section[_EXACT.size : _EXACT.size + size], section[_EXACT.size + size :]
