"""Large values of the disk store: a file each, beside the SQLite file that says which key it is.

SQLite writes a large value twice and reads it page by page, thirty times slower than a file. A
file's name is random and is in the table only once the file is whole, so nothing is ever renamed
or rewritten. Files are not synced: after a power cut one may be cut off, which its length tells,
or hold zeros, which a seal tells; what stores hold is sealed by whoever needs to trust it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from ctxpress.cache.stores.resp import Buffer

__all__ = ["ValueFiles"]

_NAME = re.compile(r"[0-9a-f]{32}")
_MAX_PIECES = 512  # the system's limit on one vectored write is 1,024
_ORPHAN_AGE_S = 3600.0


class ValueFiles:
    """Files in ``folder``, which is made when the first is written. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, parts: Sequence[Buffer]) -> str:
        """A new file of the joined ``parts``; its name. Nothing is left of it on failure."""
        name = secrets.token_hex(16)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _write_all(descriptor, parts)
        except BaseException:
            self.remove((name,))
            raise
        finally:
            os.close(descriptor)
        return name

    def read(self, name: str, start: int, size_bytes: int) -> bytes | None:
        """Up to ``size_bytes`` from byte ``start``; ``None`` where there is no such file."""
        if not _NAME.fullmatch(name):
            return None
        try:
            descriptor = os.open(self._folder / name, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return os.pread(descriptor, size_bytes, start)
        finally:
            os.close(descriptor)

    def remove(self, names: Iterable[str]) -> None:
        """Delete files; those that cannot be are left to :meth:`sweep`."""
        for name in names:
            if _NAME.fullmatch(name):
                with contextlib.suppress(OSError):
                    (self._folder / name).unlink()

    def sweep(self, held: Iterable[str]) -> None:
        """Delete what a crash left behind: files that are not ``held`` and an hour old."""
        known = set(held)
        before_s = time.time() - _ORPHAN_AGE_S
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another process was faster
                    if entry.name not in known and entry.stat().st_mtime < before_s:
                        self.remove((entry.name,))


def _write_all(descriptor: int, parts: Sequence[Buffer]) -> None:
    left = [memoryview(part).cast("B") for part in parts if len(part)]
    while left:
        written = os.writev(descriptor, left[:_MAX_PIECES])
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if written:
            left[0] = left[0][written:]
