"""The SQLite file behind the disk store. Synchronous; used by one thread, many processes.

One table ``entries(key, value, expires_s)``, times in seconds since 1970. Write-ahead log with
``synchronous=NORMAL``: a power cut may lose the last entries, never the file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ctxpress.errors import StoreError

__all__ = ["DiskFile"]

logger = logging.getLogger(__name__)

_FILE_NAME = "store-1.sqlite3"  # the number is the layout's: another layout is another file
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB NOT NULL, expires_s REAL);
CREATE INDEX IF NOT EXISTS entries_by_expiry ON entries (expires_s);
"""
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_RENEWAL_SLACK = 0.02  # a life is renewed when that part of it is gone: reads seldom write
_SWEEP_EVERY_WRITES = 64
_SWEEP_ROWS = 512
_WAL_LIMIT_BYTES = 16 * 2**20


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

    def read(self, keys: Sequence[str], *, ttl_s: float | None) -> list[bytes | None]:
        """The values under ``keys``; with ``ttl_s``, those found live that long from now."""
        now_s = time.time()
        values: list[bytes | None] = []
        stale: list[str] = []
        with self._opened() as connection:
            for key in keys:
                row = connection.execute(_READ, (self._max_value_bytes, key, now_s)).fetchone()
                value = row[0] if row else None
                values.append(value if isinstance(value, bytes) else None)
                if row and ttl_s and abs(now_s + ttl_s - row[1]) > _RENEWAL_SLACK * ttl_s:
                    stale.append(key)
            if stale and ttl_s:
                # A life that cannot be renewed now (a busy or read-only file) is no reason to miss.
                with contextlib.suppress(sqlite3.OperationalError), _transaction(connection):
                    connection.executemany(_RENEW, [(now_s + ttl_s, key) for key in stale])
        return values

    def write(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Set ``key``."""
        self._check_size(len(value))
        with self._opened() as connection:
            with _transaction(connection):
                connection.execute(_WRITE, (key, value, time.time() + ttl_s))
            self._tidy(connection, 1)

    def claim(self, items: Sequence[tuple[str, bytes]], *, ttl_s: float) -> list[bytes]:
        """Set every key that is not held; the values held then, in one transaction."""
        self._check_size(sum(len(value) for _, value in items))
        held: list[bytes] = []
        with self._opened() as connection:
            with _transaction(connection):
                now_s = time.time()
                for key, value in items:
                    connection.execute(_EXPIRE, (key, now_s))
                    connection.execute(_INSERT, (key, value, now_s + ttl_s))
                    (found, _) = connection.execute(
                        _READ, (self._max_value_bytes, key, now_s)
                    ).fetchone()
                    held.append(found if isinstance(found, bytes) else b"")
            self._tidy(connection, len(items))
        return held

    def delete(self, key: str) -> None:
        """Forget ``key``."""
        with self._opened() as connection, _transaction(connection):
            connection.execute("DELETE FROM entries WHERE key = ?", (key,))

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
            connection.execute(_READ, (self._max_value_bytes, "", 0.0)).fetchone()
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

    def _tidy(self, connection: sqlite3.Connection, writes: int) -> None:
        """Now and then, drop what has expired; when the file is full, what would expire first.

        Where another process keeps the file busy, the next write tries again.
        """
        self._writes += writes
        with contextlib.suppress(sqlite3.OperationalError):
            if self._writes >= _SWEEP_EVERY_WRITES:
                with _transaction(connection):
                    connection.execute(_SWEEP, (time.time(), _SWEEP_ROWS))
                self._writes = 0
            self._evict(connection)

    def _evict(self, connection: sqlite3.Connection) -> None:
        while (excess_bytes := self._used_bytes(connection) - self._max_bytes) > 0:
            with _transaction(connection):
                if not connection.execute(_EVICT, (excess_bytes + self._max_bytes // 20,)).rowcount:
                    break

    def _used_bytes(self, connection: sqlite3.Connection) -> int:
        pages, free, page_bytes = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * page_bytes)

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
SELECT CASE WHEN length(value) <= ? THEN value END, expires_s FROM entries
WHERE key = ? AND typeof(expires_s) = 'real' AND expires_s > ?
"""
_RENEW = "UPDATE entries SET expires_s = ? WHERE key = ?"
_WRITE = "INSERT OR REPLACE INTO entries (key, value, expires_s) VALUES (?, ?, ?)"
_INSERT = "INSERT OR IGNORE INTO entries (key, value, expires_s) VALUES (?, ?, ?)"
_EXPIRE = "DELETE FROM entries WHERE key = ? AND (typeof(expires_s) <> 'real' OR expires_s <= ?)"
_SWEEP = """
DELETE FROM entries WHERE rowid IN (
    SELECT rowid FROM entries WHERE expires_s <= ? ORDER BY expires_s LIMIT ?
)
"""
# Those that expire first, up to and including the one that frees the wanted number of bytes.
_EVICT = """
DELETE FROM entries WHERE rowid IN (
    SELECT rowid FROM (
        SELECT rowid, sum(length(value) + length(key)) OVER (ORDER BY expires_s, rowid)
            - length(value) - length(key) AS before
        FROM (SELECT rowid, key, value, expires_s FROM entries ORDER BY expires_s LIMIT 4096)
    ) WHERE before < ?
)
"""


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
