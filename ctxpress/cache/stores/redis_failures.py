"""What went wrong with a Redis server, in words that tell nothing but the kind of error."""

from __future__ import annotations

from ctxpress.cache.stores.resp import ServerError
from ctxpress.errors import StoreError

__all__ = ["failure_of"]

_CODES = {
    "NOAUTH": "user or password refused",
    "WRONGPASS": "user or password refused",
    "NOPERM": "the user may not do this",
    "OOM": "out of memory (maxmemory)",
    "READONLY": "a read-only replica",
    "LOADING": "still loading its data",
    "BUSY": "busy with a script",
    "MISCONF": "cannot write its snapshot, and takes no writes until it can",
    "CLUSTERDOWN": "the cluster is down",
    "MOVED": "a node of a cluster; write the URL as redis+cluster://",
    "TRYAGAIN": "a slot is being moved",
}
_TYPES = {
    "AuthenticationError": "user or password refused",
    "NoPermissionError": "the user may not do this",
    "OutOfMemoryError": "out of memory (maxmemory)",
    "ReadOnlyError": "a read-only replica",
    "BusyLoadingError": "still loading its data",
    "ConnectionError": "cannot be reached",
    "TimeoutError": "cannot be reached in time",
    "ProtocolError": "does not speak as Redis does",
}


def failure_of(label: str, error: Exception) -> StoreError:
    """``error`` as a StoreError about the server ``label``.

    Only the kind of error is told: a server may quote the arguments of a command it refuses.
    """
    if isinstance(error, StoreError):
        return error
    if isinstance(error, ServerError):
        code = error.code or "ERR"
        return StoreError(f"{label}: {_CODES.get(code, 'refused the command')} ({code})")
    name = type(error).__name__
    if name not in _TYPES and isinstance(error, OSError):
        return StoreError(f"{label}: cannot be reached ({name})")
    return StoreError(f"{label}: {_TYPES.get(name, 'failed')} ({name})")
