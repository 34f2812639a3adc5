"""Stores: asynchronous key-value stores of bytes, and the one place that turns a URL into one.

::

    memory://?max_bytes=64mb             this process only
    disk:///var/lib/ctxpress             a folder, shared by processes; disk:// is the state folder
    redis://user:password@host:6379/0    shared by machines; rediss:// for TLS, unix:// for a socket
    redis+cluster://host:6379,host:6380  a Redis cluster; rediss+cluster:// for TLS

Every URL takes ``timeout_ms``, ``min_bytes_per_s`` and ``max_value_bytes``; ``memory`` and ``disk``
take ``max_bytes``, the Redis schemes ``max_connections`` and ``db`` (clusters have one database),
those with TLS its ``ssl_…`` options.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, overload

from ctxpress.cache.key import Namespace, state_dir
from ctxpress.cache.store_url import (
    StoreUrl,
    parse_bytes,
    parse_count,
    parse_flag,
    parse_positive,
)
from ctxpress.cache.stores.limits import DEFAULT_MIN_BYTES_PER_S, StoreLimits
from ctxpress.cache.stores.resp import Buffer
from ctxpress.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from ctxpress.cache.stores.redis_address import RedisAddress

__all__ = ["Buffer", "RangeStore", "Store", "create_store"]

DEFAULT_TIMEOUT_MS = 100.0
DEFAULT_MAX_VALUE_BYTES = 64 * 2**20
DEFAULT_MEMORY_BYTES = 256 * 2**20
DEFAULT_DISK_BYTES = 2 * 2**30
DEFAULT_REDIS_CONNECTIONS = 32

_COMMON = ("timeout_ms", "min_bytes_per_s", "max_value_bytes")
_REDIS = (*_COMMON, "max_connections", "db")
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_CLUSTER = (*_COMMON, "max_connections")
_OPTIONS = {
    "memory": (*_COMMON, "max_bytes"),
    "disk": (*_COMMON, "max_bytes"),
    "redis": _REDIS,
    "rediss": (*_REDIS, *_TLS),
    "unix": _REDIS,
    "redis+cluster": _CLUSTER,
    "rediss+cluster": (*_CLUSTER, *_TLS),
}


class Store(Protocol):
    """A store of bytes under opaque keys, which ``cache.key.Namespace`` makes.

    Safe to use from many tasks, threads and event loops. Values live ``ttl_s`` seconds at most:
    a full store drops some sooner. Every operation ends within the store's time-out, which for
    large values is longer by what they need at ``min_bytes_per_s``. All of them
    raise StoreError (and nothing else) when the store is unreachable, too slow, full or closed,
    or when a value is larger than the cap; ValueError where ``ttl_s`` is not above zero.
    A value read back that is larger than the cap is a miss.
    """

    async def get(self, key: str, *, ttl_s: float | None = None) -> bytes | None:
        """The value under ``key``, or ``None``; with ``ttl_s``, a hit lives that long from now."""

    async def get_many(
        self, keys: Sequence[str], *, ttl_s: float | None = None
    ) -> list[bytes | None]:
        """:meth:`get` of every key, in order, in one round trip."""

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Set ``key``, whatever it held."""

    async def set_if_absent(self, key: str, value: bytes, *, ttl_s: float) -> bytes:
        """Set ``key`` unless it is held; the value that is held now.

        Atomic across processes and machines: all callers get the value of the one that was
        first. ``b""`` where what is held cannot be read back (it is larger than the cap): it is
        not overruled. A rival's value keeps its own time to live.
        """

    async def set_many_if_absent(
        self, items: Sequence[tuple[str, bytes]], *, ttl_s: float
    ) -> list[bytes]:
        """:meth:`set_if_absent` of every item, in order, in one round trip.

        Each item is atomic by itself. After an error some may have been set.
        """

    async def delete(self, key: str) -> None:
        """Forget ``key``; nothing happens where it is not held."""

    async def ping(self) -> None:
        """Return when the store answers."""

    async def aclose(self) -> None:
        """Release connections, files and threads; later calls raise StoreError."""


class RangeStore(Store, Protocol):
    """A store of large values that can be read in part. What it reads is not yet trusted.

    Values are given and read as they are, without a seal: a range cannot be checked by the seal
    of a whole value. ``cache.chunks.KVStore`` seals each range by itself.
    """

    @property
    def max_value_bytes(self) -> int:
        """The cap on a value."""

    async def put_parts(self, key: str, parts: Sequence[Buffer], *, ttl_s: float) -> None:
        """:meth:`put` of the joined ``parts``, which are not copied together on the way."""

    async def get_range(self, key: str, start: int, size_bytes: int) -> Buffer:
        """``size_bytes`` from byte ``start`` of the value under ``key``.

        Fewer, or none, where the value ends before or is not held. ValueError where ``start`` is
        below zero or ``size_bytes`` below one. The buffer is the caller's and read-only.
        """

    async def get_ranges(
        self, ranges: Sequence[tuple[str, int, int]], *, ttl_s: float | None = None
    ) -> list[Buffer | StoreError]:
        """:meth:`get_range` of every key, start and size, in one round trip.

        With ``ttl_s``, keys that are held live that long from now. An item is an error where only
        its part of the store, such as one node of a cluster, fails.
        """

    def read_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, ahead_bytes: int
    ) -> AsyncGenerator[Buffer]:
        """:meth:`get_range` of starts and sizes of one value, one by one, as they arrive.

        Up to ``ahead_bytes``, and at least one range, are asked for before they are waited for.
        Close it (``contextlib.aclosing``) where it is not read to its end.
        """


@overload
def create_store(
    url: str,
    *,
    namespace: None = None,
    timeout_ms: float = DEFAULT_TIMEOUT_MS,
    max_value_bytes: int = DEFAULT_MAX_VALUE_BYTES,
) -> RangeStore: ...
@overload
def create_store(
    url: str,
    *,
    namespace: Namespace,
    timeout_ms: float = DEFAULT_TIMEOUT_MS,
    max_value_bytes: int = DEFAULT_MAX_VALUE_BYTES,
) -> Store: ...
def create_store(
    url: str,
    *,
    namespace: Namespace | None = None,
    timeout_ms: float = DEFAULT_TIMEOUT_MS,
    max_value_bytes: int = DEFAULT_MAX_VALUE_BYTES,
) -> Store:
    """The store at ``url``; options in the URL go before the keywords. Nothing is opened yet.

    With a ``namespace`` keys are hashed and values sealed with a tenant's key: any text may be a
    key, nobody else can read or forge a value, and what does not open is a miss. Without one keys
    and values go as they are, for callers that hash and seal by themselves.

    :raises ConfigError: unknown scheme, unknown option, or a wrong value; names the nearest. Also
        where ``namespace`` is something else, such as the name of a tenant, which is no secret.
    :raises MissingDependencyError: a Redis scheme without the package ``redis``.
    """
    if namespace is None:
        return _create(url, timeout_ms=timeout_ms, max_value_bytes=max_value_bytes)
    from ctxpress.cache.stores.namespaced import NamespacedStore

    if not isinstance(namespace, Namespace):
        raise ConfigError(
            "a store's namespace is made of a secret and a tenant's name: "
            "Namespace.derive(load_secret(None, state_dir()), 'tenant')"
        )
    return NamespacedStore(
        _create(url, timeout_ms=timeout_ms, max_value_bytes=max_value_bytes), namespace
    )


def _create(url: str, *, timeout_ms: float, max_value_bytes: int) -> RangeStore:
    parsed = StoreUrl.parse(url, options_of=_OPTIONS)
    limits = StoreLimits(
        timeout_s=parsed.option("timeout_ms", parse_positive, timeout_ms) / 1000,
        max_value_bytes=parsed.option("max_value_bytes", parse_bytes, max_value_bytes),
        min_bytes_per_s=parsed.option("min_bytes_per_s", parse_bytes, DEFAULT_MIN_BYTES_PER_S),
    )
    if parsed.scheme == "memory":
        from ctxpress.cache.stores.memory import MemoryStore

        _refuse_address(parsed, with_path=True)
        max_bytes = parsed.option("max_bytes", parse_bytes, DEFAULT_MEMORY_BYTES)
        return MemoryStore(max_bytes=max_bytes, limits=limits)
    if parsed.scheme == "disk":
        from ctxpress.cache.stores.disk import DiskStore

        _refuse_address(parsed, with_path=False)
        folder = Path(parsed.path) if parsed.path.strip("/") else state_dir()
        max_bytes = parsed.option("max_bytes", parse_bytes, DEFAULT_DISK_BYTES)
        return DiskStore(folder, max_bytes=max_bytes, limits=limits)
    from ctxpress.cache.stores.redis import RedisStore

    return RedisStore(
        _redis_address(parsed),
        limits=limits,
        max_connections=parsed.option("max_connections", parse_count, DEFAULT_REDIS_CONNECTIONS),
    )


def _refuse_address(url: StoreUrl, *, with_path: bool) -> None:
    if url.host or url.port or url.username or url.password or (with_path and url.path.strip("/")):
        hint = "memory:// takes no address" if with_path else "a path is absolute: disk:///folder"
        raise ConfigError(f"{url.scheme}:// store: {hint}")


def _redis_address(url: StoreUrl) -> RedisAddress:
    from ctxpress.cache.stores.redis_address import RedisAddress

    is_socket = url.scheme == "unix"
    if url.nodes and url.path.strip("/"):
        raise ConfigError(f"{url.scheme}:// store: a cluster has one database; write no path")
    if is_socket and (url.host or not url.path.strip("/")):
        raise ConfigError("unix:// store: write the socket's path as unix:///run/redis.sock?db=0")
    in_path = "" if is_socket else url.path.strip("/")
    if in_path and "db" in url.options:
        raise ConfigError(f"{url.scheme}:// store: the database is given twice")
    database = in_path or url.options.get("db", "0")
    if not (database.isascii() and database.isdecimal()):
        raise ConfigError(f"{url.scheme}:// store: the database must be a number, as in /0")
    cert_reqs = url.options.get("ssl_cert_reqs", "required")
    if cert_reqs not in ("required", "optional", "none"):
        raise ConfigError(f"{url.scheme}:// store: ssl_cert_reqs is required, optional or none")
    return RedisAddress(
        host="" if is_socket else url.host or "localhost",
        port=url.port or 6379,
        socket_path=url.path if is_socket else "",
        nodes=tuple((host, port or 6379) for host, port in url.nodes),
        database=int(database),
        username=url.username,
        password=url.password,
        tls=url.scheme.startswith("rediss"),
        ssl_ca_certs=url.options.get("ssl_ca_certs"),
        ssl_certfile=url.options.get("ssl_certfile"),
        ssl_keyfile=url.options.get("ssl_keyfile"),
        ssl_cert_reqs=cert_reqs,
        ssl_check_hostname=url.option("ssl_check_hostname", parse_flag, cert_reqs == "required"),
    )
