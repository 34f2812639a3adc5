"""What all codecs share: the header, sections of layers, tokens kept exactly, threads, checks.

A codec says how it encodes a block into sections and how it decodes one of them into tensors that
are allocated already. Some tokens may be kept as they are: those with NaN or infinities where
``non_finite`` is ``exact``, and those that the codec asks for (attention sinks); see
``exact_rows.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch

from ctxpress.cache.calibration import Calibration
from ctxpress.cache.codec import NonFinite
from ctxpress.cache.codecs.exact_rows import (
    EXACT_PARAMETER,
    exact_rows,
    exact_tokens_of,
    non_finite_tokens,
    restore_exact_rows,
    split_exact_rows,
    without_tokens,
)
from ctxpress.cache.codecs.methods import EncodedSections, SectionMethods
from ctxpress.cache.codecs.tensor_bytes import empty_tensor
from ctxpress.cache.container import (
    DEFAULT_MAX_DECODED_BYTES,
    ContainerHeader,
    KVLayout,
    SectionData,
    byte_view,
    parse_header,
    parts_of,
    read_section,
    write_container,
)
from ctxpress.cache.identity import KVIdentity
from ctxpress.cache.kv import DTYPES, KVBlock
from ctxpress.errors import (
    CalibrationMissingError,
    CodecError,
    ConfigError,
    CorruptContainerError,
    LimitExceededError,
    UnsupportedVersionError,
)

__all__ = ["EncodedSections", "SectionedCodec"]


class SectionedCodec(SectionMethods):
    """A codec over sections of layers; subclasses supply what :class:`SectionMethods` asks for."""

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
        self._device = _usable(device)

    @property
    def calibration_sha256(self) -> str:
        """See :class:`~ctxpress.cache.codec.Codec`."""
        return "" if self.calibration is None else self.calibration.sha256

    def encode(self, block: KVBlock) -> bytes:
        """See :class:`~ctxpress.cache.codec.Codec`."""
        block = replace(block, keys=block.keys.detach(), values=block.values.detach())
        exact = sorted({*self._non_finite_tokens(block), *self.exact_tokens(block)})
        encoded = self.encode_sections(without_tokens(block, exact) if exact else block)
        sections: list[tuple[tuple[int, int], SectionData]] = [
            (layers, [*exact_rows(block, layers, exact), *parts_of(data)])
            for layers, data in encoded.sections
        ]
        if encoded.shared:
            sections.insert(0, ((0, 0), encoded.shared))
        try:
            header = ContainerHeader(
                codec=self.name,
                codec_version=self.version,
                layout=_layout(block),
                identity=block.identity,
                position_start=block.position_start,
                keys_rotated=block.keys_rotated,
                calibration=self.calibration_sha256,
                parameters={**encoded.parameters, EXACT_PARAMETER: exact},
            )
        except ValueError as error:
            raise CodecError(f"the block cannot be carried: {error}") from None
        return write_container(header, sections)

    def decode(
        self,
        data: bytes | memoryview,
        *,
        expected: KVIdentity | None = None,
        max_decoded_bytes: int = DEFAULT_MAX_DECODED_BYTES,
    ) -> KVBlock:
        """See :class:`~ctxpress.cache.codec.Codec`."""
        view = byte_view(data)
        header = parse_header(view, max_decoded_bytes=max_decoded_bytes)
        if expected is not None:
            header.require(expected)
        self._check(header)
        if len(view) != header.total_bytes:
            raise CorruptContainerError(
                f"the container has {len(view)} bytes; its header speaks of {header.total_bytes}"
            )
        sections = [read_section(header, i, view) for i in range(len(header.sections))]
        first = 1 if header.has_shared_section else 0
        shared = sections[0] if first else memoryview(b"")
        return self._decoded(header, dict(enumerate(sections[first:], first)), shared)

    def decode_section(
        self,
        header: ContainerHeader,
        index: int,
        section: bytes | memoryview,
        shared: bytes | memoryview = b"",
    ) -> KVBlock:
        """See :class:`~ctxpress.cache.codec.Codec`."""
        self._check(header)
        if not int(header.has_shared_section) <= index < len(header.sections):
            raise CodecError(f"section {index} holds no layers")
        wanted = header.sections[0].size_bytes if header.has_shared_section else 0
        for what, view, size in (
            (f"section {index}", byte_view(section), header.sections[index].size_bytes),
            ("the shared section", byte_view(shared), wanted),
        ):
            if len(view) != size:
                raise CorruptContainerError(f"{what} has {len(view)} bytes, not {size}")
        return self._decoded(header, {index: byte_view(section)}, byte_view(shared))

    def describe_section(
        self,
        header: ContainerHeader,
        index: int,
        section: bytes | memoryview,
        shared: bytes | memoryview = b"",
    ) -> dict[str, int]:
        """What the bytes of section ``index`` are for: names to bytes, which sum up to its own.

        Needs no calibration. The shared section is described as ``shared``.

        :raises CorruptContainerError: as :meth:`decode_section`.
        """
        view = byte_view(section)
        if index == 0 and header.has_shared_section:
            return {"shared": len(view)}
        rows, own = split_exact_rows(header, index, view, len(exact_tokens_of(header)))
        found = {"framing": len(view) - len(rows) - len(own), "exact_rows": len(rows)}
        for name, size_bytes in self.describe_own(header, index, own, byte_view(shared)).items():
            found[name] = found.get(name, 0) + size_bytes
        return found

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

    def _decoded(
        self, header: ContainerHeader, sections: Mapping[int, memoryview], shared: memoryview
    ) -> KVBlock:
        """The layers of ``sections``, by index and adjacent, in one block."""
        tokens = exact_tokens_of(header)
        split = {}
        for index, section in sections.items():
            split[index] = split_exact_rows(header, index, section, len(tokens))
            self.check_section(header, index, split[index][1], shared)
        start = header.sections[min(sections)].layers[0]
        keys, values = self._allocated(header, start, header.sections[max(sections)].layers[1])

        def decode_one(index: int) -> None:
            first, last = header.sections[index].layers
            rows, own = split[index]
            part = slice(first - start, last - start)
            self.decode_into(header, index, own, shared, keys[part], values[part])
            restore_exact_rows(keys[part], values[part], tokens, rows)

        try:
            if self._threads == 1 or len(split) == 1:
                for index in split:
                    decode_one(index)
            else:
                with ThreadPoolExecutor(min(self._threads, len(split))) as pool:
                    list(pool.map(decode_one, split))
        except MemoryError:
            raise LimitExceededError("not enough memory to decode the container") from None
        return KVBlock(
            keys=keys,
            values=values,
            position_start=header.position_start,
            keys_rotated=header.keys_rotated,
            identity=header.identity,
        )

    def _allocated(
        self, header: ContainerHeader, first: int, last: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        layout = header.layout
        shape = (last - first, layout.n_kv_heads, layout.n_tokens, layout.head_dim)
        dtype = DTYPES[layout.dtype]
        try:
            keys = empty_tensor(shape, dtype, self._device)
            return keys, empty_tensor(shape, dtype, self._device)
        except (MemoryError, RuntimeError) as error:  # torch has its own kinds of "out of memory"
            size_bytes = (last - first) * layout.layer_bytes
            raise LimitExceededError(
                f"cannot allocate {size_bytes} bytes on {self._device} for the tensors"
            ) from error

    def _non_finite_tokens(self, block: KVBlock) -> list[int]:
        tokens = [] if self.exact else non_finite_tokens(block)
        if tokens and self._non_finite == "refuse":
            raise CodecError(
                f"token {tokens[0]} holds NaN or infinities ({len(tokens)} tokens do); "
                "create the codec with non_finite='exact' to carry them"
            )
        return tokens


def _layout(block: KVBlock) -> KVLayout:
    return KVLayout(
        n_layers=block.n_layers,
        n_kv_heads=block.n_kv_heads,
        n_tokens=block.n_tokens,
        head_dim=block.head_dim,
        dtype=block.dtype_name,
    )


def _usable(device: str) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (AssertionError, RuntimeError) as error:  # torch raises either, by what is missing
        problem = str(error).splitlines()[0]
        raise ConfigError(f"device {device!r} cannot be used: {problem}") from error
