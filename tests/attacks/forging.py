"""Containers taken apart and put together again, wrong in one place and right in all others.

Written from FORMAT.md alone, so that what the reader checks is not what the builder shares with it.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

PREFIX = struct.Struct("<8sHHII")


@dataclass
class Forgery:
    """A container as its JSON header and its sections; ``build`` makes every checksum right.

    ``sections`` in the header are computed while ``rows`` is None. ``text`` stands for the whole
    header where it is not None.
    """

    header: dict[str, Any]
    sections: list[bytes]
    rows: list[Any] | None = None
    text: bytes | None = None
    magic: bytes = b"\x89CTXKV\r\n"
    version: int = 1
    flags: int = 0
    header_size: int | None = None
    header_crc32: int | None = None
    tail: bytes = b""
    layers: list[list[int]] = field(default_factory=list)

    @classmethod
    def of(cls, data: bytes) -> Forgery:
        """Take apart a container that is in order."""
        magic, version, flags, size, _ = PREFIX.unpack(data[: PREFIX.size])
        header = json.loads(data[PREFIX.size : PREFIX.size + size])
        rows = header.pop("sections")
        sections, offset = [], PREFIX.size + size
        for _first, _last, length, _checksum in rows:
            sections.append(data[offset : offset + length])
            offset += length
        layers = [row[:2] for row in rows]
        return cls(header, sections, magic=magic, version=version, flags=flags, layers=layers)

    def right_rows(self) -> list[list[int]]:
        """What the header says of the sections where nothing is forged."""
        return [
            [*layers, len(data), zlib.crc32(data)]
            for layers, data in zip(self.layers, self.sections, strict=True)
        ]

    def build(self) -> bytes:
        """The bytes, with sizes and checksums that are right unless they were set."""
        text = self.text
        if text is None:
            rows = self.right_rows() if self.rows is None else self.rows
            text = canonical({**self.header, "sections": rows})
        size = len(text) if self.header_size is None else self.header_size
        checksum = zlib.crc32(text) if self.header_crc32 is None else self.header_crc32
        prefix = PREFIX.pack(self.magic, self.version, self.flags, size, checksum)
        return b"".join((prefix, text, *self.sections, self.tail))


def canonical(value: object) -> bytes:
    """The JSON form that FORMAT.md asks for; NaN and the like are written, being forgeries."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def forged(data: bytes, change: Callable[[Forgery], object]) -> bytes:
    """``data`` with ``change`` made to it and every checksum right."""
    forgery = Forgery.of(data)
    change(forgery)
    return forgery.build()


def set_field(path: Sequence[str], value: object) -> Callable[[Forgery], object]:
    """A change of one header field, given by its path."""

    def change(forgery: Forgery) -> None:
        place = forgery.header
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value

    return change
