"""The container of compressed KV: a checked header, then sections that can be read by range.

FORMAT.md describes the bytes. This module knows sizes, checksums and identities, never tensors;
what a section's bytes mean is its codec's affair. Everything is checked before it is believed:
the order is magic, version, header length against its cap, header checksum, JSON, its canonical
form, every field's type and range, the sum of all sections against the bytes that are there.
CRC-32 finds damage and does not authenticate: stores seal values with a key for that.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from ctxpress.cache.identity import KVIdentity
from ctxpress.errors import (
    CodecError,
    CorruptContainerError,
    LimitExceededError,
    UnsupportedVersionError,
)

__all__ = [
    "DEFAULT_MAX_DECODED_BYTES",
    "PREFIX_BYTES",
    "ContainerHeader",
    "KVLayout",
    "Section",
    "parse_header",
    "read_section",
    "write_container",
]

MAGIC = b"\x89CTXKV\r\n"  # as PNG's: a transfer as text or as seven bits damages it
VERSION = 1
_PREFIX = struct.Struct("<8sHHII")  # magic, version, flags (zero), header bytes, header CRC-32
PREFIX_BYTES = _PREFIX.size
MAX_HEADER_BYTES = 2**20
MAX_LAYERS = 1024
MAX_KV_HEADS = 1024
MAX_HEAD_DIM = 4096
MAX_TOKENS = 2**20
DEFAULT_MAX_DECODED_BYTES = 2**31
_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class KVLayout:
    """The shape of keys, which is that of values, and their dtype.

    :raises ValueError: a dimension is outside the format's limits, or the dtype is unknown.
    """

    n_layers: int
    n_kv_heads: int
    n_tokens: int
    head_dim: int
    dtype: str

    def __post_init__(self) -> None:
        for name, least, most in (
            ("n_layers", 1, MAX_LAYERS),
            ("n_kv_heads", 1, MAX_KV_HEADS),
            ("n_tokens", 0, MAX_TOKENS),
            ("head_dim", 1, MAX_HEAD_DIM),
        ):
            value = getattr(self, name)
            if not _is_int(value) or not least <= value <= most:
                raise ValueError(f"layout.{name} must be {least} to {most}, not {value!r}")
        if self.dtype not in _DTYPE_BYTES:
            raise ValueError(f"layout.dtype must be one of {', '.join(_DTYPE_BYTES)}")

    @property
    def decoded_bytes(self) -> int:
        """What keys and values take up when they are decoded."""
        per_token = 2 * self.n_layers * self.n_kv_heads * self.head_dim * _DTYPE_BYTES[self.dtype]
        return per_token * self.n_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One range of the container: ``layers`` ``[first, last)``; ``(0, 0)`` is shared by all."""

    layers: tuple[int, int]
    offset: int
    size_bytes: int
    crc32: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerHeader:
    """Everything that a container says of itself before its first section.

    ``parameters`` are the codec's own: names to integers, strings and lists of these.
    ``calibration`` is the SHA-256 of the calibration it was encoded with, or empty.
    """

    codec: str
    codec_version: int
    layout: KVLayout
    identity: KVIdentity
    position_start: int
    keys_rotated: bool
    calibration: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    sections: tuple[Section, ...] = ()

    @property
    def total_bytes(self) -> int:
        """The length of the whole container."""
        last = self.sections[-1]
        return last.offset + last.size_bytes

    def section_of(self, layer: int) -> int:
        """The index of the section that holds ``layer``."""
        for index, section in enumerate(self.sections):
            if section.layers[0] <= layer < section.layers[1]:
                return index
        raise ValueError(f"no layer {layer}")


def write_container(
    header: ContainerHeader, sections: Sequence[tuple[tuple[int, int], bytes]]
) -> bytes:
    """The bytes of a container; ``header.sections`` is computed from ``sections``.

    ``sections``: layer ranges ``[first, last)`` and their bytes, in order; ``(0, 0)`` may stand
    first, for what all layers share.

    :raises CodecError: the layer ranges are not all layers in order, or the header is too large.
    """
    problem = _layers_problem([layers for layers, _ in sections], header.layout.n_layers)
    if problem:
        raise CodecError(problem)
    text = json.dumps(
        {
            "calibration": header.calibration,
            "codec": header.codec,
            "codec_version": header.codec_version,
            "identity": {f.name: getattr(header.identity, f.name) for f in fields(KVIdentity)},
            "keys_rotated": header.keys_rotated,
            "layout": {f.name: getattr(header.layout, f.name) for f in fields(KVLayout)},
            "parameters": dict(header.parameters),
            "position_start": header.position_start,
            "sections": [[*layers, len(data), zlib.crc32(data)] for layers, data in sections],
        },
        **_CANONICAL,
    ).encode("ascii")
    if len(text) > MAX_HEADER_BYTES:
        raise CodecError(f"the header has {len(text)} bytes; {MAX_HEADER_BYTES} are allowed")
    prefix = _PREFIX.pack(MAGIC, VERSION, 0, len(text), zlib.crc32(text))
    return b"".join((prefix, text, *(data for _, data in sections)))


def header_bytes(prefix: bytes | memoryview) -> int:
    """How many bytes from the start hold the whole header, told from the first PREFIX_BYTES.

    :raises CorruptContainerError, UnsupportedVersionError, LimitExceededError: see
        :func:`parse_header`.
    """
    if len(prefix) < PREFIX_BYTES:
        raise CorruptContainerError(f"{len(prefix)} bytes; a container has {PREFIX_BYTES} or more")
    magic, version, flags, size, _ = _PREFIX.unpack(prefix[:PREFIX_BYTES])
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
    :raises LimitExceededError: the header or the decoded tensors would be larger than allowed.
    """
    end = header_bytes(data)
    checksum = _PREFIX.unpack(data[:PREFIX_BYTES])[4]
    text = bytes(data[PREFIX_BYTES:end])
    if len(text) < end - PREFIX_BYTES:
        raise CorruptContainerError("truncated within the header")
    if zlib.crc32(text) != checksum:
        raise CorruptContainerError("the header's checksum does not match")
    header = _header_of(_canonical_json(text), end)
    if header.layout.decoded_bytes > max_decoded_bytes:
        raise LimitExceededError(
            f"the tensors would take {header.layout.decoded_bytes} bytes; "
            f"{max_decoded_bytes} are allowed"
        )
    return header


def read_section(
    header: ContainerHeader, index: int, data: bytes | memoryview, *, start: int = 0
) -> memoryview:
    """Section ``index``, checked, out of ``data``, which begins at byte ``start`` of the container.

    :raises CorruptContainerError: the section is not whole or its checksum does not match.
    """
    section = header.sections[index]
    begin = section.offset - start
    view = memoryview(data)[max(begin, 0) : max(begin + section.size_bytes, 0)]
    if begin < 0 or len(view) != section.size_bytes:
        raise CorruptContainerError(f"truncated within section {index}")
    if zlib.crc32(view) != section.crc32:
        raise CorruptContainerError(f"the checksum of section {index} does not match")
    return view


_CANONICAL: dict[str, Any] = {
    "sort_keys": True,
    "separators": (",", ":"),
    "ensure_ascii": True,
    "allow_nan": False,
}


def _canonical_json(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
        again = json.dumps(value, **_CANONICAL).encode("ascii")
    except (ValueError, RecursionError):
        raise CorruptContainerError("the header is not JSON") from None
    # One header, one form: no duplicate keys, blanks or other spellings that readers differ on.
    if again != text or not isinstance(value, dict):
        raise CorruptContainerError("the header is not in canonical form")
    return value


def _header_of(value: dict[str, Any], offset: int) -> ContainerHeader:
    _exact_keys(value, _HEADER_FIELDS, "header")
    layout, identity = value["layout"], value["identity"]
    _exact_keys(layout, [f.name for f in fields(KVLayout)], "layout")
    _exact_keys(identity, [f.name for f in fields(KVIdentity)], "identity")
    for name, kind in _HEADER_FIELDS.items():
        if type(value[name]) is not kind:
            raise CorruptContainerError(f"header.{name} is not of type {kind.__name__}")
    if not all(type(item) is str for item in identity.values()):
        raise CorruptContainerError("header.identity holds something else than text")
    if value["position_start"] < 0 or value["codec_version"] < 0:
        raise CorruptContainerError("header.position_start or codec_version is negative")
    _check_parameters(value["parameters"])
    try:
        return ContainerHeader(
            codec=value["codec"],
            codec_version=value["codec_version"],
            layout=KVLayout(**layout),
            identity=KVIdentity(**identity),
            position_start=value["position_start"],
            keys_rotated=value["keys_rotated"],
            calibration=value["calibration"],
            parameters=value["parameters"],
            sections=_sections_of(value["sections"], layout["n_layers"], offset),
        )
    except ValueError as error:
        raise CorruptContainerError(f"header: {error}") from None


_HEADER_FIELDS: dict[str, type] = {
    "calibration": str,
    "codec": str,
    "codec_version": int,
    "identity": dict,
    "keys_rotated": bool,
    "layout": dict,
    "parameters": dict,
    "position_start": int,
    "sections": list,
}


def _exact_keys(value: object, names: Sequence[str] | Mapping[str, Any], where: str) -> None:
    if not isinstance(value, dict) or set(value) != set(names):
        raise CorruptContainerError(f"{where} does not have exactly the fields {sorted(names)}")


def _check_parameters(value: object, depth: int = 0) -> None:
    if isinstance(value, dict | list) and depth < 4:
        for item in value.values() if isinstance(value, dict) else value:
            _check_parameters(item, depth + 1)
    elif not (_is_int(value) or isinstance(value, str)):
        raise CorruptContainerError("header.parameters holds something else than integers and text")


def _sections_of(rows: list[Any], n_layers: object, offset: int) -> tuple[Section, ...]:
    sections = []
    for row in rows:
        if not (
            isinstance(row, list)
            and len(row) == 4
            and all(_is_int(item) and item >= 0 for item in row)
        ):
            raise ValueError("a section is not [first layer, last layer, bytes, CRC-32]")
        first, last, size, checksum = row
        sections.append(
            Section(layers=(first, last), offset=offset, size_bytes=size, crc32=checksum)
        )
        offset += size
    problem = _layers_problem([section.layers for section in sections], n_layers)
    if problem:
        raise ValueError(problem)
    return tuple(sections)


def _layers_problem(ranges: Sequence[tuple[int, int]], n_layers: object) -> str:
    """What is wrong with the sections' layers; empty where they are all layers in order."""
    expected = 0
    for index, (first, last) in enumerate(ranges):
        if (first, last) == (0, 0) and index == 0:
            continue
        if first != expected or last <= first:
            return f"section {index} holds layers {first} to {last}, not from layer {expected}"
        expected = last
    return "" if expected == n_layers else f"sections hold {expected} layers of {n_layers}"


def _is_int(value: object) -> bool:
    return type(value) is int and abs(value) < 2**63
