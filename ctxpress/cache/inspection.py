"""What is inside a container, and where its bits went. Decodes nothing and loads a codec late."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, runtime_checkable

from ctxpress.cache.codec import BUILTIN_CODECS, CodecFactory, create_codec
from ctxpress.cache.container import (
    PREFIX_BYTES,
    ContainerHeader,
    Section,
    header_bytes,
    parse_header,
    read_section,
)
from ctxpress.errors import ConfigError, CorruptContainerError, CtxpressError

if TYPE_CHECKING:
    from ctxpress.cache.calibration import Calibration

__all__ = ["DescribesSections", "Inspection", "SectionUse", "inspect_file"]

_WHOLE = "section"  # the only part of a section whose codec tells nothing
_ANY_SIZE = 2**63  # nothing is decoded, so nothing is allocated


@runtime_checkable
class DescribesSections(Protocol):
    """A codec that can say what the bytes of its sections are for."""

    def describe_section(
        self,
        header: ContainerHeader,
        index: int,
        section: bytes | memoryview,
        shared: bytes | memoryview = b"",
    ) -> dict[str, int]:
        """Names to bytes, which sum up to the section's; ends in ``_k`` or ``_v`` where only
        keys or only values are meant."""


@dataclass(frozen=True, slots=True)
class SectionUse:
    """One section and what its bytes are for, by name."""

    section: Section
    parts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Inspection:
    """A container that is in order, taken apart.

    ``header_bytes`` counts the prefix too. ``note`` says why the codec could not tell more; empty
    where it could.
    """

    header: ContainerHeader
    header_bytes: int
    sections: tuple[SectionUse, ...]
    note: str

    @property
    def n_values(self) -> int:
        """How many numbers keys and values have together."""
        return self.values_of(0, self.header.layout.n_layers)

    def values_of(self, first: int, last: int) -> int:
        """How many numbers keys and values of the layers ``[first, last)`` have together."""
        return (last - first) * self.header.layout.layer_values

    @property
    def parts(self) -> dict[str, int]:
        """Bytes by name over the whole container, the header first."""
        found = {"header": self.header_bytes}
        for use in self.sections:
            for name, size_bytes in use.parts.items():
                found[name] = found.get(name, 0) + size_bytes
        return found

    def bits_per_value(self, size_bytes: int) -> float | None:
        """What ``size_bytes`` of the whole are for each number; None where there are none."""
        return 8 * size_bytes / self.n_values if self.n_values else None


def inspect_file(
    path: Path,
    *,
    calibrations: Sequence[Calibration] = (),
    codecs: Mapping[str, str | CodecFactory] = BUILTIN_CODECS,
) -> Inspection:
    """Check the container in ``path`` whole, and take it apart.

    ``codecs`` are asked what their sections hold; without one of them, or its calibration where
    it needs one, the sizes of sections are all that is told.

    :raises ConfigError: the file cannot be read.
    :raises CodecError: it is not a container in order.
    """
    try:
        with path.open("rb") as file:
            return _inspected(file, path.stat().st_size, calibrations, codecs)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def _inspected(
    file: BinaryIO,
    size_bytes: int,
    calibrations: Sequence[Calibration],
    codecs: Mapping[str, str | CodecFactory],
) -> Inspection:
    prefix = file.read(PREFIX_BYTES)
    end = header_bytes(prefix)
    header = parse_header(prefix + file.read(end - PREFIX_BYTES), max_decoded_bytes=_ANY_SIZE)
    if size_bytes != header.total_bytes:
        raise CorruptContainerError(
            f"the file has {size_bytes} bytes; its header speaks of {header.total_bytes}"
        )
    codec, note = _describing(header, calibrations, codecs)
    return Inspection(header, end, tuple(_uses(file, header, codec)), note)


def _uses(
    file: BinaryIO, header: ContainerHeader, codec: DescribesSections | None
) -> Iterator[SectionUse]:
    shared: bytes | memoryview = b""
    for index, section in enumerate(header.sections):
        data = read_section(header, index, file.read(section.size_bytes), start=section.offset)
        if index == 0 and header.has_shared_section:
            shared = data
        parts = {_WHOLE: section.size_bytes}
        if codec is not None:
            parts = codec.describe_section(header, index, data, shared)
        yield SectionUse(section, parts)


def _describing(
    header: ContainerHeader,
    calibrations: Sequence[Calibration],
    codecs: Mapping[str, str | CodecFactory],
) -> tuple[DescribesSections | None, str]:
    """The codec that can tell about sections, or why there is none."""
    calibration = next((c for c in calibrations if c.sha256 == header.calibration), None)
    if header.calibration and calibration is None:
        return None, f"the calibration {header.calibration[:12]}… would tell more"
    try:
        codec = create_codec(header.codec, calibration, codecs=codecs)
    except CtxpressError as error:
        return None, str(error)
    if getattr(codec, "version", header.codec_version) != header.codec_version:
        return None, f"version {header.codec_version} of codec {header.codec!r} is not known here"
    if not isinstance(codec, DescribesSections):
        return None, f"the codec {header.codec!r} does not tell what its sections hold"
    return codec, ""
