"""A container as a store holds it: a sealed front, then the container's sections.

One value holds all of a chunk at one level, so it is written, renewed and evicted as a whole, and
can still be read by range: the front says how long each section is and holds a MAC of each. All
numbers are little-endian::

    16 bytes  seal: HMAC-SHA-256, cut to 16 bytes, of the namespace over store key and what follows
    8 bytes   magic
    u16 u16   version, reserved (zero)
    u32       header bytes H of the container, its prefix included
    u32       sections n
    n times   u64 section bytes, 16 bytes MAC: keyed BLAKE3 of the section, cut to 16 bytes
    H bytes   the container's prefix and header; here the container begins
    …         the container's sections

Anybody may have written what a store holds. Sizes are capped before they are believed, the seal
is checked before anything else is, and each section's MAC before the section is handed out.
https://github.com/BLAKE3-team/BLAKE3-specs (keyed hash)
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ctxpress.cache.chunk_key import CacheKey, KVLevel
from ctxpress.cache.container import MAX_HEADER_BYTES, PREFIX_BYTES, ContainerHeader, parse_header
from ctxpress.cache.key import Namespace
from ctxpress.cache.kv_report import KVMiss
from ctxpress.cache.stores.resp import Buffer
from ctxpress.errors import CodecError, IdentityMismatchError, KVMissError, MissingDependencyError

__all__ = ["SectionMac", "StoredKV", "front_bytes_of", "open_front", "seal_front"]

_SEAL_BYTES = 16
_MAC_BYTES = 16
_FIXED = struct.Struct("<8sHHII")
_ROW = struct.Struct("<Q16s")
_MAGIC = b"\x89CTXKVS\n"
_VERSION = 1
_MAX_SECTIONS = 1025  # the container's 1,024 layers, and what they share
FIXED_BYTES = _SEAL_BYTES + _FIXED.size


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKV:
    """A chunk at one level, as the store's sealed front describes it; nothing else is read yet.

    ``container_bytes`` is its size as a container; ``section_bytes`` those of its sections.
    """

    key: CacheKey
    level: KVLevel
    section_bytes: tuple[int, ...]
    header_data: bytes = field(repr=False)
    macs: tuple[bytes, ...] = field(repr=False)
    store_key: str = field(repr=False)
    front_bytes: int = field(repr=False)

    @property
    def container_bytes(self) -> int:
        """The size of the whole container."""
        return len(self.header_data) + sum(self.section_bytes)

    @property
    def container_start(self) -> int:
        """The byte of the stored value at which the container begins."""
        return self.front_bytes - len(self.header_data)

    def reads(self, *, at_least_bytes: int) -> list[tuple[int, int, list[int]]]:
        """How to read all sections in order: start and size of each range, indices in it.

        Sections that are smaller are read together until they have ``at_least_bytes``.
        """
        reads: list[tuple[int, int, list[int]]] = []
        start, size_bytes, indices = self.front_bytes, 0, list[int]()
        for index, section_bytes in enumerate(self.section_bytes):
            size_bytes += section_bytes
            indices.append(index)
            if size_bytes >= at_least_bytes or index == len(self.section_bytes) - 1:
                reads.append((start, size_bytes, indices))
                start, size_bytes, indices = start + size_bytes, 0, []
        return reads

    def header(self) -> ContainerHeader:
        """The container's header, parsed at every call.

        :raises KVMissError: it is not a header, or speaks of other KV than the key.
        """
        try:
            header = parse_header(self.header_data)
            require_key(header, self.key, self.level)
        except CodecError as error:
            raise KVMissError(str(error), reason=KVMiss.MISMATCH) from error
        sizes = tuple(section.size_bytes for section in header.sections)
        if sizes != self.section_bytes:
            raise KVMissError("the header speaks of other sections", reason=KVMiss.MISMATCH)
        return header


class SectionMac:
    """Keyed BLAKE3 of sections, with the namespace's own key: 3 times the speed of HMAC-SHA-256.

    :raises MissingDependencyError: the package ``blake3`` is not installed.
    """

    def __init__(self, namespace: Namespace) -> None:
        try:
            from blake3 import blake3
        except ImportError as error:
            raise MissingDependencyError(
                "a store of KV needs the package blake3: pip install 'ctxpress[torch]'"
            ) from error
        self._blake3: Any = blake3
        self._key = namespace.derive_key("kv-section")

    def digest(self, section: Buffer) -> bytes:
        """16 bytes that only this namespace can compute."""
        digest: bytes = self._blake3(section, key=self._key).digest(_MAC_BYTES)
        return digest

    def check(self, sections: Sequence[Buffer], macs: Sequence[bytes]) -> bool:
        """Whether ``macs`` are those of ``sections``."""
        return all(
            hmac.compare_digest(self.digest(section), mac)
            for section, mac in zip(sections, macs, strict=True)
        )


def require_key(header: ContainerHeader, key: CacheKey, level: KVLevel) -> None:
    """Return where a container is what ``key`` and ``level`` name.

    :raises IdentityMismatchError: it is not.
    """
    header.require(key.identity)
    if replace(header.identity, dtype="") != replace(key.identity, dtype=""):
        raise IdentityMismatchError("the container's identity says more than its key")
    rotated_from = header.position_start if header.keys_rotated else None
    if rotated_from != key.rotated_from:
        raise IdentityMismatchError(
            f"the container's keys are rotated from {rotated_from}, its key's {key.rotated_from}"
        )
    found = KVLevel(codec=header.codec, calibration=header.calibration)
    if found != level:
        raise IdentityMismatchError(f"a container of {found}, stored as {level}")


def seal_front(
    namespace: Namespace, store_key: str, header_data: Buffer, sections: Sequence[tuple[int, bytes]]
) -> bytes:
    """The front of a container: its header, prefix included; sizes and MACs of its sections."""
    rows = b"".join(_ROW.pack(size_bytes, mac) for size_bytes, mac in sections)
    fixed = _FIXED.pack(_MAGIC, _VERSION, 0, len(header_data), len(sections))
    return namespace.seal(store_key, b"".join((fixed, rows, header_data)))


def front_bytes_of(data: Buffer) -> int:
    """How long the front is that begins with ``data``; zero where it is none.

    Needs the first FIXED_BYTES. Nothing is checked by a seal yet, sizes are within limits.
    """
    if len(data) < FIXED_BYTES:
        return 0
    fields: tuple[bytes, int, int, int, int] = _FIXED.unpack_from(data, _SEAL_BYTES)
    magic, version, reserved, header_bytes, n_sections = fields
    if (magic, version, reserved) != (_MAGIC, _VERSION, 0):
        return 0
    if not PREFIX_BYTES <= header_bytes <= PREFIX_BYTES + MAX_HEADER_BYTES:
        return 0
    if not 1 <= n_sections <= _MAX_SECTIONS:
        return 0
    return FIXED_BYTES + n_sections * _ROW.size + header_bytes


def open_front(
    namespace: Namespace, store_key: str, data: Buffer, *, key: CacheKey, level: KVLevel
) -> StoredKV | None:
    """What the front at the start of ``data`` describes; ``None`` where its seal is not ours."""
    front_bytes = front_bytes_of(data)
    if not 0 < front_bytes <= len(data):
        return None
    body = namespace.open(store_key, bytes(data[:front_bytes]))
    if body is None:
        return None
    _, _, _, header_bytes, n_sections = _FIXED.unpack_from(body)
    rows = [_ROW.unpack_from(body, _FIXED.size + n * _ROW.size) for n in range(n_sections)]
    return StoredKV(
        key=key,
        level=level,
        section_bytes=tuple(size for size, _ in rows),
        header_data=body[-header_bytes:],
        macs=tuple(mac for _, mac in rows),
        store_key=store_key,
        front_bytes=front_bytes,
    )
