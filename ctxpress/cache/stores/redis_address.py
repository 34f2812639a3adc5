"""Where a Redis server is and how to log in; makes redis-py connections, its only importer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ctxpress.errors import MissingDependencyError

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

__all__ = ["RedisAddress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """A server's address. ``socket_path`` goes before ``host``; ``ssl_…`` count with ``tls``.

    ``nodes``, hosts and ports, are where a cluster can be asked who holds what; then ``host`` and
    ``port`` are those of a node that :meth:`at` was told.
    """

    host: str = "localhost"
    port: int = 6379
    socket_path: str = ""
    nodes: tuple[tuple[str, int], ...] = ()
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_cert_reqs: str = "required"
    ssl_check_hostname: bool = True

    @property
    def label(self) -> str:
        """The address for messages: without user and password."""
        if self.socket_path:
            return f"unix://{self.socket_path}"
        scheme = "rediss" if self.tls else "redis"
        if self.nodes:
            return f"{scheme}+cluster://{','.join(_netloc(*node) for node in self.nodes)}"
        return f"{scheme}://{_netloc(self.host, self.port)}/{self.database}"

    def at(self, host: str, port: int) -> RedisAddress:
        """One node of a cluster, with the same login."""
        return replace(self, host=host, port=port, nodes=())

    def require_client(self) -> None:
        """Check that redis-py is there.

        :raises MissingDependencyError: it is not.
        """
        try:
            import redis.asyncio  # noqa: F401 - only whether it can be had
        except ImportError as error:
            raise MissingDependencyError(
                "a Redis store needs the package redis: pip install 'ctxpress[redis]'"
            ) from error

    def create_connection(self, *, timeout_s: float) -> AbstractConnection:
        """A connection that is not yet open. It never retries: the store decides about that."""
        from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        options: dict[str, Any] = {
            "db": self.database,
            "username": self.username,
            "password": self.password,
            "socket_connect_timeout": timeout_s,
            "socket_timeout": None,  # the store bounds whole operations, not single reads
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,  # saves the HELLO round trip of a new connection
        }
        if self.socket_path:
            return UnixDomainSocketConnection(path=self.socket_path, **options)
        options |= {"host": self.host, "port": self.port}
        if not self.tls:
            return Connection(**options)
        return SSLConnection(
            ssl_ca_certs=self.ssl_ca_certs,
            ssl_certfile=self.ssl_certfile,
            ssl_keyfile=self.ssl_keyfile,
            ssl_cert_reqs=self.ssl_cert_reqs,
            ssl_check_hostname=self.ssl_check_hostname,
            **options,
        )


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
