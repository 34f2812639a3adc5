"""What became of reads and writes of KV: counted, so that nothing fails unseen."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from enum import StrEnum

from ctxpress.errors import KVMissError, StoreError

__all__ = ["KVDrop", "KVMiss", "KVReport"]


class KVMiss(StrEnum):
    """Why a chunk was not had from the store."""

    ABSENT = "absent"  # never stored, expired, or evicted
    UNREACHABLE = "unreachable"  # the store, or its part that holds the chunk, failed or was late
    UNSEALED = "unsealed"  # what is there was not written, or not whole, by this namespace
    GONE = "gone"  # it vanished, or became shorter, while it was read
    DAMAGED = "damaged"  # a section is not the one that was stored
    MISMATCH = "mismatch"  # it is KV of something else than its key says


class KVDrop(StrEnum):
    """Why a chunk was not written."""

    UNREACHABLE = "unreachable"  # the store failed, was late, or is out of memory
    TOO_LARGE = "too_large"  # above the store's max_value_bytes


@dataclass(slots=True)
class KVReport:
    """Counts of chunks, bytes of containers, and milliseconds of waiting for the store.

    ``found`` chunks were there when asked for; ``hits`` were read whole. ``computed`` and
    ``waited`` count single-flight: results computed here, and those had by waiting for another
    caller or process. ``last_error`` is the newest failure in words.
    """

    found: int = 0
    hits: int = 0
    misses: Counter[KVMiss] = field(default_factory=Counter)
    writes: int = 0
    dropped_writes: Counter[KVDrop] = field(default_factory=Counter)
    computed: int = 0
    waited: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    read_ms: float = 0.0
    write_ms: float = 0.0
    last_error: str = ""

    def miss(self, error: StoreError) -> KVMissError:
        """Count ``error`` as a miss; the same as an error that says which."""
        if not isinstance(error, KVMissError):
            error = KVMissError(str(error), reason=KVMiss.UNREACHABLE)
        self.misses[KVMiss(error.reason)] += 1
        self.last_error = str(error) or self.last_error
        return error

    def drop(self, reason: KVDrop, error: str) -> None:
        """Count a write that was dropped."""
        self.dropped_writes[reason] += 1
        self.last_error = error

    def add(self, other: KVReport) -> None:
        """Add the counts of ``other``; its error, where it has one, is the newer one."""
        for each in fields(self):
            mine, more = getattr(self, each.name), getattr(other, each.name)
            if isinstance(mine, Counter):
                mine.update(more)
            elif isinstance(mine, str):
                self.last_error = more or mine
            else:
                setattr(self, each.name, mine + more)
