"""What a container says of itself: each field checked, and the one JSON form that it has.

FORMAT.md describes the fields. Nothing here knows bytes or tensors; whatever is wrong is a
ValueError that names the field, which readers turn into an error of the container.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from ctxpress.cache.canonical_json import from_canonical, to_canonical
from ctxpress.cache.identity import KVIdentity

__all__ = [
    "CODEC_NAME",
    "MAX_HEAD_DIM",
    "MAX_KV_HEADS",
    "MAX_LAYERS",
    "MAX_POSITION",
    "MAX_TOKENS",
    "ContainerHeader",
    "KVLayout",
    "Section",
    "header_from_json",
    "header_to_json",
]

MAX_LAYERS: Final = 1024
MAX_KV_HEADS: Final = 1024
MAX_HEAD_DIM: Final = 4096
MAX_TOKENS: Final = 2**20
MAX_POSITION: Final = 2**31 - 1
_MAX_CODEC_VERSION: Final = 2**16 - 1
_MAX_PARAMETER_DEPTH: Final = 5
CODEC_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_DTYPE_BYTES: Final = {"float32": 4, "float16": 2, "bfloat16": 2}


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
        _check_integer("layout.n_layers", self.n_layers, 1, MAX_LAYERS)
        _check_integer("layout.n_kv_heads", self.n_kv_heads, 1, MAX_KV_HEADS)
        _check_integer("layout.n_tokens", self.n_tokens, 0, MAX_TOKENS)
        _check_integer("layout.head_dim", self.head_dim, 1, MAX_HEAD_DIM)
        if not isinstance(self.dtype, str) or self.dtype not in _DTYPE_BYTES:
            raise ValueError(f"layout.dtype must be one of {', '.join(_DTYPE_BYTES)}")

    @property
    def layer_values(self) -> int:
        """How many numbers keys and values of one layer have together."""
        return 2 * self.n_kv_heads * self.n_tokens * self.head_dim

    @property
    def layer_bytes(self) -> int:
        """What keys and values of one layer take up when they are decoded."""
        return self.layer_values * _DTYPE_BYTES[self.dtype]

    @property
    def decoded_bytes(self) -> int:
        """What keys and values take up when they are decoded."""
        return self.n_layers * self.layer_bytes


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

    :raises ValueError: a field is out of range or contradicts another.
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

    def __post_init__(self) -> None:
        if not (isinstance(self.codec, str) and CODEC_NAME.fullmatch(self.codec)):
            raise ValueError("codec must be 1 to 64 of a-z, 0-9, '.', '_' and '-'")
        _check_integer("codec_version", self.codec_version, 0, _MAX_CODEC_VERSION)
        _check_integer("position_start", self.position_start, 0, MAX_POSITION)
        if self.calibration and not _SHA256.fullmatch(self.calibration):
            raise ValueError("calibration must be empty or a SHA-256 in hexadecimal")
        if self.identity.dtype not in ("", self.layout.dtype):
            raise ValueError(f"identity.dtype is not layout.dtype, which is {self.layout.dtype}")
        _check_parameters(self.parameters)

    @property
    def total_bytes(self) -> int:
        """The length of the whole container."""
        last = self.sections[-1]
        return last.offset + last.size_bytes

    @property
    def has_shared_section(self) -> bool:
        """Whether section 0 is shared by all layers."""
        return bool(self.sections) and self.sections[0].layers == (0, 0)

    def section_of(self, layer: int) -> int:
        """The index of the section that holds ``layer``."""
        for index, section in enumerate(self.sections):
            if section.layers[0] <= layer < section.layers[1]:
                return index
        raise ValueError(f"no layer {layer}")

    def require(self, expected: KVIdentity) -> None:
        """Return where every field that ``expected`` names is the same here.

        :raises IdentityMismatchError: one is not; the message names it and both values.
        """
        replace(self.identity, dtype=self.layout.dtype).require(expected)


def header_to_json(
    header: ContainerHeader, sections: Sequence[tuple[tuple[int, int], int, int]]
) -> bytes:
    """The header's canonical JSON; ``sections`` are layer ranges, sizes in bytes and CRC-32s.

    :raises ValueError: the layer ranges are not all layers in order.
    """
    _check_layers([layers for layers, _, _ in sections], header.layout.n_layers)
    value = {
        "calibration": header.calibration,
        "codec": header.codec,
        "codec_version": header.codec_version,
        "identity": {name: getattr(header.identity, name) for name in _IDENTITY_FIELDS},
        "keys_rotated": header.keys_rotated,
        "layout": {name: getattr(header.layout, name) for name in _LAYOUT_FIELDS},
        "parameters": header.parameters,
        "position_start": header.position_start,
        "sections": [[*layers, size, checksum] for layers, size, checksum in sections],
    }
    return to_canonical(value)


def header_from_json(text: bytes, offset: int) -> ContainerHeader:
    """The header in ``text``; ``offset`` is where its first section begins.

    :raises ValueError: it is not JSON, not in canonical form, or a field is wrong.
    """
    value = from_canonical(text)
    _check_fields("header", value, _HEADER_FIELDS)
    _check_fields("layout", value["layout"], _LAYOUT_FIELDS)
    _check_fields("identity", value["identity"], _IDENTITY_FIELDS)
    layout = KVLayout(**value["layout"])
    rows = value.pop("sections")
    return ContainerHeader(
        **{
            **value,
            "layout": layout,
            "identity": KVIdentity(**value["identity"]),
            "sections": _sections(rows, layout.n_layers, offset),
        }
    )


_HEADER_FIELDS: Final[dict[str, type]] = {
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
_IDENTITY_FIELDS: Final[dict[str, type]] = {one.name: str for one in fields(KVIdentity)}
_LAYOUT_FIELDS: Final[dict[str, type]] = {
    one.name: str if one.name == "dtype" else int for one in fields(KVLayout)
}


def _check_fields(where: str, value: dict[str, Any], kinds: Mapping[str, type]) -> None:
    if set(value) != set(kinds):
        raise ValueError(f"{where} does not have exactly the fields {', '.join(sorted(kinds))}")
    for name, kind in kinds.items():
        if type(value[name]) is not kind:  # a bool is an int to isinstance
            raise ValueError(f"{where}.{name} is not of type {kind.__name__}")


def _check_integer(name: str, value: object, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} must be an integer of {least} to {most}")


def _check_parameters(value: object, depth: int = 1) -> None:
    if isinstance(value, str):
        if not (value.isascii() and value.isprintable()):
            raise ValueError("a text in parameters is not printable ASCII")
    elif isinstance(value, Mapping | list | tuple):
        if depth > _MAX_PARAMETER_DEPTH:
            raise ValueError(f"parameters are nested deeper than {_MAX_PARAMETER_DEPTH}")
        items: Iterable[object] = value
        if isinstance(value, Mapping):
            if not all(isinstance(key, str) for key in value):
                raise ValueError("a name in parameters is not a text")
            items = [*value, *value.values()]
        for item in items:
            _check_parameters(item, depth + 1)
    else:
        _check_integer("an item of parameters", value, -(2**63), 2**63 - 1)


def _sections(rows: list[Any], n_layers: int, offset: int) -> tuple[Section, ...]:
    if len(rows) > n_layers + 1:
        raise ValueError(f"{len(rows)} sections for {n_layers} layers")
    sections = []
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != 4:
            raise ValueError(f"section {index} is not [first layer, last layer, bytes, CRC-32]")
        for item, most in zip(row, (MAX_LAYERS, MAX_LAYERS, 2**63 - 1, 2**32 - 1), strict=True):
            _check_integer(f"an integer of section {index}", item, 0, most)
        first, last, size, checksum = row
        sections.append(
            Section(layers=(first, last), offset=offset, size_bytes=size, crc32=checksum)
        )
        offset += size
    _check_layers([section.layers for section in sections], n_layers)
    return tuple(sections)


def _check_layers(ranges: Sequence[tuple[int, int]], n_layers: int) -> None:
    expected = 0
    for index, (first, last) in enumerate(ranges):
        if (first, last) == (0, 0) and index == 0:
            continue
        if first != expected or last <= first:
            raise ValueError(
                f"section {index} holds layers {first} to {last}, not from layer {expected}"
            )
        expected = last
    if expected != n_layers:
        raise ValueError(f"sections hold {expected} layers of {n_layers}")
