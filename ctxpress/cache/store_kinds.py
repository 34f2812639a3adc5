"""Kinds of stores by the scheme of their URLs: what options they take, and how they are made.

Code of a kind, and packages that it needs, load when a store of that kind is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from ctxpress.cache.key import state_dir
from ctxpress.cache.store_url import StoreUrl, parse_bytes, parse_count, parse_flag
from ctxpress.cache.stores.limits import StoreLimits
from ctxpress.errors import ConfigError

if TYPE_CHECKING:
    from ctxpress.cache.store import RangeStore
    from ctxpress.cache.stores.redis_address import RedisAddress

__all__ = ["BUILTIN_STORES", "COMMON_OPTIONS", "StoreKind"]

COMMON_OPTIONS = ("timeout_ms", "min_bytes_per_s", "max_value_bytes")

_DEFAULT_MEMORY_BYTES = 256 * 2**20
_DEFAULT_DISK_BYTES = 2 * 2**30
_DEFAULT_REDIS_CONNECTIONS = 32
_NEEDS = "needs ctxpress[redis]"
_CLUSTER = ("max_connections",)
_REDIS = (*_CLUSTER, "db")
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreKind:
    """How stores of one scheme are made.

    ``create(url, limits)`` makes one and opens nothing; it raises ConfigError for what is wrong in
    the URL. ``options`` are the URL's options that it reads, beside COMMON_OPTIONS, which are read
    for it into ``limits``. ``about``: what the kind is for, in a few words.
    """

    create: Callable[[StoreUrl, StoreLimits], RangeStore]
    options: tuple[str, ...] = ()
    about: str = ""


def _memory(url: StoreUrl, limits: StoreLimits) -> RangeStore:
    from ctxpress.cache.stores.memory import MemoryStore

    _refuse_address(url, with_path=True)
    max_bytes = url.option("max_bytes", parse_bytes, _DEFAULT_MEMORY_BYTES)
    return MemoryStore(max_bytes=max_bytes, limits=limits)


def _disk(url: StoreUrl, limits: StoreLimits) -> RangeStore:
    from ctxpress.cache.stores.disk import DiskStore

    _refuse_address(url, with_path=False)
    folder = Path(url.path) if url.path.strip("/") else state_dir()
    max_bytes = url.option("max_bytes", parse_bytes, _DEFAULT_DISK_BYTES)
    return DiskStore(folder, max_bytes=max_bytes, limits=limits)


def _redis(url: StoreUrl, limits: StoreLimits) -> RangeStore:
    from ctxpress.cache.stores.redis import RedisStore

    return RedisStore(
        _redis_address(url),
        limits=limits,
        max_connections=url.option("max_connections", parse_count, _DEFAULT_REDIS_CONNECTIONS),
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


BUILTIN_STORES: Mapping[str, StoreKind] = MappingProxyType(
    {
        "memory": StoreKind(create=_memory, options=("max_bytes",), about="this process only"),
        "disk": StoreKind(create=_disk, options=("max_bytes",), about="a folder of this machine"),
        "redis": StoreKind(create=_redis, options=_REDIS, about=f"shared by replicas; {_NEEDS}"),
        "rediss": StoreKind(
            create=_redis, options=(*_REDIS, *_TLS), about=f"a Redis server over TLS; {_NEEDS}"
        ),
        "unix": StoreKind(
            create=_redis, options=_REDIS, about=f"a Redis server's socket; {_NEEDS}"
        ),
        "redis+cluster": StoreKind(
            create=_redis, options=_CLUSTER, about=f"a Redis cluster; {_NEEDS}"
        ),
        "rediss+cluster": StoreKind(
            create=_redis, options=(*_CLUSTER, *_TLS), about=f"a Redis cluster over TLS; {_NEEDS}"
        ),
    }
)
