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

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol, overload, runtime_checkable

from ctxpress.cache.key import Namespace
from ctxpress.cache.store_kinds import BUILTIN_STORES, COMMON_OPTIONS, StoreKind
from ctxpress.cache.store_url import StoreUrl, parse_bytes, parse_positive
from ctxpress.cache.stores.limits import DEFAULT_MIN_BYTES_PER_S, StoreLimits
from ctxpress.cache.stores.resp import Buffer
from ctxpress.errors import ConfigError, StoreError

__all__ = ["Buffer", "RangeStore", "Store", "create_store"]

DEFAULT_TIMEOUT_MS = 100.0
DEFAULT_MAX_VALUE_BYTES = 64 * 2**20


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


@runtime_checkable
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
    kinds: Mapping[str, StoreKind] = BUILTIN_STORES,
) -> RangeStore: ...
@overload
def create_store(
    url: str,
    *,
    namespace: Namespace,
    timeout_ms: float = DEFAULT_TIMEOUT_MS,
    max_value_bytes: int = DEFAULT_MAX_VALUE_BYTES,
    kinds: Mapping[str, StoreKind] = BUILTIN_STORES,
) -> Store: ...
def create_store(
    url: str,
    *,
    namespace: Namespace | None = None,
    timeout_ms: float = DEFAULT_TIMEOUT_MS,
    max_value_bytes: int = DEFAULT_MAX_VALUE_BYTES,
    kinds: Mapping[str, StoreKind] = BUILTIN_STORES,
) -> Store:
    """The store at ``url``; options in the URL go before the keywords. Nothing is opened yet.

    With a ``namespace`` keys are hashed and values sealed with a tenant's key: any text may be a
    key, nobody else can read or forge a value, and what does not open is a miss. Without one keys
    and values go as they are, for callers that hash and seal by themselves. ``kinds``: the stores
    by the scheme of their URLs; those of plugins are ``PluginManager.store_kinds()``.

    :raises ConfigError: unknown scheme, unknown option, or a wrong value; names the nearest. Also
        where ``namespace`` is something else, such as the name of a tenant, which is no secret.
    :raises MissingDependencyError: a Redis scheme without the package ``redis``.
    """
    if not (namespace is None or isinstance(namespace, Namespace)):
        raise ConfigError(
            "a store's namespace is made of a secret and a tenant's name: "
            "Namespace.derive(load_secret(None, state_dir()), 'tenant')"
        )
    options_of = {scheme: (*COMMON_OPTIONS, *kind.options) for scheme, kind in kinds.items()}
    parsed = StoreUrl.parse(url, options_of=options_of)
    limits = StoreLimits(
        timeout_s=parsed.option("timeout_ms", parse_positive, timeout_ms) / 1000,
        max_value_bytes=parsed.option("max_value_bytes", parse_bytes, max_value_bytes),
        min_bytes_per_s=parsed.option("min_bytes_per_s", parse_bytes, DEFAULT_MIN_BYTES_PER_S),
    )
    store = kinds[parsed.scheme].create(parsed, limits)
    if namespace is None:
        return store
    from ctxpress.cache.stores.namespaced import NamespacedStore

    return NamespacedStore(store, namespace)
