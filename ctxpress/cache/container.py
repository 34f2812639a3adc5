"""The container of compressed KV: a checked header, then sections that can be read by range.

FORMAT.md describes the bytes. This module knows sizes, checksums and identities, never tensors;
what a section's bytes mean is its codec's affair. Everything is checked before it is believed:
the order is magic, version, header length against its cap, header checksum, JSON, its canonical
form, every field's type and range, sizes against the limits, the sum of all sections against the
bytes that are there. CRC-32 finds damage and does not authenticate: stores seal values with a key
for that.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Final, TypeAlias

from ctxpress.cache.header import (
    ContainerHeader,
    KVLayout,
    Section,
    header_from_json,
    header_to_json,
)
from ctxpress.errors import (
    CodecError,
    CorruptContainerError,
    LimitExceededError,
    UnsupportedVersionError,
)

__all__ = [
    "DEFAULT_MAX_DECODED_BYTES",
    "MAX_HEADER_BYTES",
    "PREFIX_BYTES",
    "ContainerHeader",
    "KVLayout",
    "Section",
    "SectionData",
    "byte_view",
    "header_bytes",
    "parse_header",
    "parts_of",
    "read_section",
    "write_container",
]

MAGIC: Final = b"\x89CTXKV\r\n"  # as PNG's: a transfer as text or as seven bits damages it
VERSION: Final = 1
_PREFIX = struct.Struct("<8sHHII")  # magic, version, flags (zero), header bytes, header CRC-32
PREFIX_BYTES: Final = _PREFIX.size
MAX_HEADER_BYTES: Final = 2**20
DEFAULT_MAX_DECODED_BYTES: Final = 2**31
_SECTION_SLACK_BYTES: Final = 2**20


SectionData: TypeAlias = bytes | memoryview | Sequence[bytes | memoryview]


def write_container(
    header: ContainerHeader, sections: Sequence[tuple[tuple[int, int], SectionData]]
) -> bytes:
    """The bytes of a container; ``header.sections`` is computed from ``sections``.

    ``sections``: layer ranges ``[first, last)`` and their bytes, or the parts of these, in order;
    ``(0, 0)`` may stand first, for what all layers share.

    :raises CodecError: the layer ranges are not all layers in order, or the header or a section
        is larger than readers accept.
    """
    rows, body = [], []
    for index, (layers, data) in enumerate(sections):
        size_bytes, checksum = 0, 0
        for part in parts_of(data):
            size_bytes, checksum = size_bytes + len(part), zlib.crc32(part, checksum)
            body.append(part)
        problem = _size_problem(header.layout, index, layers, size_bytes)
        if problem:
            raise CodecError(problem)
        rows.append((layers, size_bytes, checksum))
    try:
        text = header_to_json(header, rows)
    except ValueError as error:
        raise CodecError(str(error)) from None
    if len(text) > MAX_HEADER_BYTES:
        raise CodecError(f"the header has {len(text)} bytes; {MAX_HEADER_BYTES} are allowed")
    prefix = _PREFIX.pack(MAGIC, VERSION, 0, len(text), zlib.crc32(text))
    return b"".join((prefix, text, *body))


def parts_of(data: SectionData) -> Sequence[bytes | memoryview]:
    """A section's bytes as a sequence of parts."""
    return [data] if isinstance(data, bytes | bytearray | memoryview) else data


def header_bytes(prefix: bytes | memoryview) -> int:
    """How many bytes from the start hold the whole header, told from the first PREFIX_BYTES.

    :raises CorruptContainerError, UnsupportedVersionError, LimitExceededError: see
        :func:`parse_header`.
    """
    view = byte_view(prefix)
    if len(view) < PREFIX_BYTES:
        raise CorruptContainerError(f"{len(view)} bytes; a container has {PREFIX_BYTES} or more")
    magic, version, flags, size, _ = _PREFIX.unpack(view[:PREFIX_BYTES])
    if magic != MAGIC:
        raise CorruptContainerError("not a container: the magic bytes are missing")
    if version != VERSION:
        raise UnsupportedVersionError(f"container version {version}; this program reads {VERSION}")
    if flags != 0:
        raise CorruptContainerError(f"reserved flags are set: {flags:#06x}")
    if size > MAX_HEADER_BYTES:
        raise LimitExceededError(f"a header of {size} bytes; {MAX_HEADER_BYTES} are allowed")
    return PREFIX_BYTES + int(size)


def parse_header(
    data: bytes | memoryview, *, max_decoded_bytes: int = DEFAULT_MAX_DECODED_BYTES
) -> ContainerHeader:
    """The header at the start of ``data``, which may end anywhere behind it.

    :raises CorruptContainerError: truncated, damaged or not canonical; says where.
    :raises UnsupportedVersionError: of another format version.
    :raises LimitExceededError: the header, a section or the decoded tensors would be larger than
        allowed.
    """
    view = byte_view(data)
    end = header_bytes(view)
    checksum = _PREFIX.unpack(view[:PREFIX_BYTES])[4]
    text = bytes(view[PREFIX_BYTES:end])
    if len(text) < end - PREFIX_BYTES:
        raise CorruptContainerError("truncated within the header")
    if zlib.crc32(text) != checksum:
        raise CorruptContainerError("the header's checksum does not match")
    try:
        header = header_from_json(text, end)
    except ValueError as error:
        raise CorruptContainerError(f"header: {error}") from None
    if header.layout.decoded_bytes > max_decoded_bytes:
        raise LimitExceededError(
            f"the tensors would take {header.layout.decoded_bytes} bytes; "
            f"{max_decoded_bytes} are allowed"
        )
    for index, section in enumerate(header.sections):
        problem = _size_problem(header.layout, index, section.layers, section.size_bytes)
        if problem:
            raise LimitExceededError(problem)
    return header


def read_section(
    header: ContainerHeader, index: int, data: bytes | memoryview, *, start: int = 0
) -> memoryview:
    """Section ``index``, checked, out of ``data``, which begins at byte ``start`` of the container.

    :raises CorruptContainerError: the section is not whole or its checksum does not match.
    """
    section = header.sections[index]
    begin = section.offset - start
    view = byte_view(data)[max(begin, 0) : max(begin + section.size_bytes, 0)]
    if begin < 0 or len(view) != section.size_bytes:
        raise CorruptContainerError(f"truncated within section {index}")
    if zlib.crc32(view) != section.crc32:
        raise CorruptContainerError(f"the checksum of section {index} does not match")
    return view


def byte_view(data: bytes | bytearray | memoryview) -> memoryview:
    """``data`` as a view of single bytes, whatever items it was a view of. Copies nothing.

    :raises CodecError: it is no bytes-like object, or not contiguous.
    """
    try:
        view = memoryview(data)
    except TypeError:
        raise CodecError(f"a container is bytes, not {type(data).__name__}") from None
    if view.nbytes == 0:
        return memoryview(b"")
    try:
        return view.cast("B")
    except TypeError:
        raise CodecError("a container is contiguous bytes, and this view is not") from None


def _size_problem(layout: KVLayout, index: int, layers: tuple[int, int], size_bytes: int) -> str:
    """Whether a section is larger than any codec could want; empty where it is not.

    Kept exactly, KV takes what it takes decoded; twice that, and something for tables, is room
    enough. The bound is what a reader of one range allocates for it.
    """
    first, last = layers if layers != (0, 0) else (0, layout.n_layers)
    most = 2 * max(last - first, 0) * layout.layer_bytes + _SECTION_SLACK_BYTES
    if size_bytes <= most:
        return ""
    return f"section {index} has {size_bytes} bytes; {most} are allowed for its layers"
