"""The SQLite file behind the disk store. Synchronous; used by one thread, many processes.

One table ``entries(key, value, file, size_bytes, expires_s)``, times in seconds since 1970; a
large value is a file of its own, and ``value`` is then empty. Write-ahead log with
``synchronous=NORMAL``: a power cut may lose the last entries, never the SQLite file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ctxpress.cache.stores.disk_values import ValueFiles
from ctxpress.cache.stores.resp import Buffer
from ctxpress.errors import StoreError

__all__ = ["DiskFile"]

logger = logging.getLogger(__name__)

_FILE_NAME = "store-2.sqlite3"  # the number is the layout's: another layout is another file
_VALUES_FOLDER = "store-2-values"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    key TEXT PRIMARY KEY, value BLOB NOT NULL, file TEXT, size_bytes INTEGER, expires_s REAL
);
CREATE INDEX IF NOT EXISTS entries_by_expiry ON entries (expires_s);
CREATE INDEX IF NOT EXISTS entries_by_file ON entries (file, size_bytes) WHERE file IS NOT NULL;
"""
_FILE_FROM_BYTES = 128 * 2**10
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_RENEWAL_SLACK = 0.02  # a life is renewed when that part of it is gone: reads seldom write
_SWEEP_EVERY_WRITES = 64
_SWEEP_ROWS = 512
_WAL_LIMIT_BYTES = 16 * 2**20


class _Row(NamedTuple):
    """A live entry: its value, or the part that was asked for, or the file that it is in."""

    value: object
    file: object
    size_bytes: object
    expires_s: float


class DiskFile:
    """Opens its file when first asked. Every failure is a StoreError."""

    def __init__(
        self, folder: Path, *, max_bytes: int, max_value_bytes: int, busy_timeout_s: float
    ) -> None:
        self._folder = folder
        self._path = folder / _FILE_NAME
        self._max_bytes = max_bytes
        self._max_value_bytes = max_value_bytes
        self._busy_timeout_s = busy_timeout_s
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._writes = 0
        self._values = ValueFiles(folder / _VALUES_FOLDER)
        self._values_bytes = 0

    def read(
        self, keys: Sequence[str], *, ttl_s: float | None, announce: Callable[[int], None]
    ) -> list[bytes | None]:
        """The values under ``keys``; with ``ttl_s``, those found live that long from now.

        ``announce`` is told the size of a large value before it is read.
        """
        ranges = [(key, 0, self._max_value_bytes) for key in keys]
        return self.read_ranges(ranges, ttl_s=ttl_s, announce=announce)

    def read_ranges(
        self,
        ranges: Sequence[tuple[str, int, int]],
        *,
        ttl_s: float | None,
        announce: Callable[[int], None] | None = None,
    ) -> list[bytes | None]:
        """Keys' bytes from a start on, a number of them; as :meth:`read`."""
        now_s = time.time()
        values: list[bytes | None] = []
        stale: list[str] = []
        with self._opened() as connection:
            for key, start, size_bytes in ranges:
                found = connection.execute(
                    _READ, (self._max_value_bytes, start + 1, size_bytes, key, now_s)
                ).fetchone()
                row = _Row(*found) if found else None
                values.append(None if row is None else self._part(row, start, size_bytes, announce))
                if row and ttl_s and abs(now_s + ttl_s - row.expires_s) > _RENEWAL_SLACK * ttl_s:
                    stale.append(key)
            if stale and ttl_s:
                # A life that cannot be renewed now (a busy or read-only file) is no reason to miss.
                with contextlib.suppress(sqlite3.OperationalError), _transaction(connection):
                    connection.executemany(_RENEW, [(now_s + ttl_s, key) for key in stale])
        return values

    def write(self, key: str, parts: Sequence[Buffer], *, ttl_s: float) -> None:
        """Set ``key`` to the joined ``parts``."""
        self._check_size(sum(len(part) for part in parts))
        with self._opened() as connection:
            with self._placing() as place:
                placed = place(parts)
                with _transaction(connection):
                    replaced = connection.execute(_FILES_OF, (key,)).fetchall()
                    connection.execute(_WRITE, (key, *placed, time.time() + ttl_s))
            self._remove(replaced)
            self._tidy(connection, 1, large=placed[1] is not None)

    def claim(self, items: Sequence[tuple[str, bytes]], *, ttl_s: float) -> list[bytes]:
        """Set every key that is not held; the values held then, in one transaction."""
        self._check_size(sum(len(value) for _, value in items))
        held: list[bytes] = []
        replaced: list[tuple[object, ...]] = []
        large = False
        with self._opened() as connection:
            with self._placing() as place, _transaction(connection):
                now_s = time.time()
                for key, given in items:
                    found = connection.execute(
                        _READ, (self._max_value_bytes, 1, self._max_value_bytes, key, now_s)
                    ).fetchone()
                    if found:
                        whole = self._part(_Row(*found), 0, self._max_value_bytes, None)
                        held.append(whole or b"")
                        continue
                    replaced += connection.execute(_FILES_OF, (key,)).fetchall()
                    placed = place((given,))
                    connection.execute(_WRITE, (key, *placed, now_s + ttl_s))
                    large = large or placed[1] is not None
                    held.append(given)
            self._remove(replaced)
            self._tidy(connection, len(items), large=large)
        return held

    def delete(self, key: str) -> None:
        """Forget ``key``."""
        with self._opened() as connection:
            with _transaction(connection):
                files = connection.execute(_FILES_OF, (key,)).fetchall()
                connection.execute("DELETE FROM entries WHERE key = ?", (key,))
            self._remove(files)

    def check(self) -> None:
        """Open the file and read from it."""
        with self._opened() as connection:
            connection.execute("SELECT key FROM entries LIMIT 1").fetchone()

    def close(self) -> None:
        """Close the file; the next operation would open it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _part(
        self, row: _Row, start: int, size_bytes: int, announce: Callable[[int], None] | None
    ) -> bytes | None:
        """The bytes of ``row`` that were asked for; ``None`` for a row that is not ours."""
        if row.file is None:
            return row.value if isinstance(row.value, bytes) else None
        held_bytes = row.size_bytes
        if not isinstance(row.file, str) or not isinstance(held_bytes, int):
            return None
        if not 0 <= held_bytes <= self._max_value_bytes:
            return None
        wanted_bytes = max(min(size_bytes, held_bytes - start), 0)
        if announce is not None:
            announce(wanted_bytes)
        part = self._values.read(row.file, start, wanted_bytes)
        return part if part is not None and len(part) == wanted_bytes else None

    @contextlib.contextmanager
    def _placing(self) -> Iterator[Callable[[Sequence[Buffer]], tuple[bytes, str | None, int]]]:
        """Gives a function that puts parts into the row, or into a file that the row names.

        Its files go where the block fails.
        """
        files: list[str] = []

        def place(parts: Sequence[Buffer]) -> tuple[bytes, str | None, int]:
            size_bytes = sum(len(part) for part in parts)
            if size_bytes < _FILE_FROM_BYTES:
                return b"".join(parts), None, size_bytes
            files.append(self._values.write(parts))
            return b"", files[-1], size_bytes

        try:
            yield place
        except BaseException:
            self._values.remove(files)
            raise

    def _remove(self, rows: Sequence[tuple[object, ...]]) -> None:
        """Delete the files in the last column of ``rows``, which are no longer in the table."""
        self._values.remove(row[-1] for row in rows if isinstance(row[-1], str))

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._connection or self._open_mended()
        except sqlite3.DatabaseError as error:
            if _is_damage(error):
                self._set_aside()
            raise self._failure(error) from error
        except (sqlite3.Error, OSError) as error:
            raise self._failure(error) from error

    def _open_mended(self) -> sqlite3.Connection:
        try:
            return self._open()
        except sqlite3.DatabaseError as error:
            # SQLITE_ERROR: the tables in it are not ours.
            if not _is_damage(error) and _code(error) != sqlite3.SQLITE_ERROR:
                raise
            self._set_aside()
            return self._open()

    def _open(self) -> sqlite3.Connection:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made here, because SQLite would make it readable by others; its side files follow it.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        self._inode = self._path.stat().st_ino
        connection = sqlite3.connect(
            self._path,
            timeout=self._busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,  # closed by whichever thread lets go of the store
        )
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
            connection.executescript(_SCHEMA)
            connection.execute(_READ, (self._max_value_bytes, 1, 1, "", 0.0)).fetchone()
            self._values.sweep(row[0] for row in connection.execute(_ALL_FILES))
            self._values_bytes = _total(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _set_aside(self) -> None:
        """Move the damaged file away, unless another process has done so already."""
        self.close()
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino != self._inode:
                return
            stamp = f"{time.time_ns() // 1_000_000}"
            for suffix in ("", "-wal", "-shm"):
                side = self._path.with_name(self._path.name + suffix)
                with contextlib.suppress(FileNotFoundError):
                    side.rename(side.with_name(f"damaged-{stamp}-{side.name}"))
            logger.warning(
                "the store %s was damaged; moved aside as damaged-%s-%s, a fresh one begins",
                self._path, stamp, self._path.name,
            )  # fmt: skip

    def _tidy(self, connection: sqlite3.Connection, writes: int, *, large: bool) -> None:
        """Now and then, drop what has expired; when the store is full, what would expire first.

        Where another process keeps the file busy, the next write tries again.
        """
        self._writes += writes
        with contextlib.suppress(sqlite3.OperationalError):
            if self._writes >= _SWEEP_EVERY_WRITES:
                self._drop(connection, _EXPIRED, (time.time(), _SWEEP_ROWS))
                self._writes, large = 0, True
            if large:
                self._values_bytes = _total(connection)
            self._evict(connection)

    def _evict(self, connection: sqlite3.Connection) -> None:
        while (excess_bytes := self._used_bytes(connection) - self._max_bytes) > 0:
            if not self._drop(connection, _FIRST, (excess_bytes + self._max_bytes // 20,)):
                break
            self._values_bytes = _total(connection)

    def _drop(self, connection: sqlite3.Connection, which: str, values: tuple[float, ...]) -> bool:
        """Delete the entries that ``which`` selects; whether there were any."""
        with _transaction(connection):
            rows = connection.execute(which, values).fetchall()
            connection.executemany("DELETE FROM entries WHERE rowid = ?", [(r[0],) for r in rows])
        self._remove(rows)
        return bool(rows)

    def _used_bytes(self, connection: sqlite3.Connection) -> int:
        pages, free, page_bytes = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * page_bytes) + self._values_bytes

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._max_bytes // 2:
            raise StoreError(
                f"disk store {self._folder}: {size_bytes} bytes at once are above half of the "
                f"whole store ({self._max_bytes} bytes; max_bytes)"
            )

    def _failure(self, error: Exception) -> StoreError:
        code = _code(error)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            reason = f"locked for more than {self._busy_timeout_s * 1000:g} ms"
        elif code == sqlite3.SQLITE_FULL:
            reason = "the disk is full"
        else:
            reason = getattr(error, "strerror", None) or str(error)
        return StoreError(f"disk store {self._folder}: {reason} ({type(error).__name__})")


_READ = """
SELECT
    CASE WHEN length(value) <= ? THEN coalesce(substr(value, ?, ?), x'') END,
    file, size_bytes, expires_s
FROM entries WHERE key = ? AND typeof(expires_s) = 'real' AND expires_s > ?
"""
_RENEW = "UPDATE entries SET expires_s = ? WHERE key = ?"
_WRITE = """
INSERT OR REPLACE INTO entries (key, value, file, size_bytes, expires_s) VALUES (?, ?, ?, ?, ?)
"""
_FILES_OF = "SELECT file FROM entries WHERE key = ? AND file IS NOT NULL"
_ALL_FILES = "SELECT file FROM entries WHERE file IS NOT NULL"
_EXPIRED = "SELECT rowid, file FROM entries WHERE expires_s <= ? ORDER BY expires_s LIMIT ?"
# Those that expire first, up to and including the one that frees the wanted number of bytes.
_FIRST = """
SELECT rowid, file FROM (
    SELECT rowid, file, sum(bytes) OVER (ORDER BY expires_s, rowid) - bytes AS before
    FROM (
        SELECT rowid, file, expires_s,
            length(key) + length(value) + CASE WHEN file IS NULL THEN 0 ELSE size_bytes END AS bytes
        FROM entries ORDER BY expires_s LIMIT 4096
    )
) WHERE before < ?
"""


def _total(connection: sqlite3.Connection) -> int:
    """How many bytes the files of large values have in all."""
    row = connection.execute("SELECT total(size_bytes) FROM entries WHERE file IS NOT NULL")
    return int(row.fetchone()[0])


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return _code(error) in _DAMAGE


def _code(error: Exception) -> int:
    """SQLite's primary result code; 0 for other errors."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
