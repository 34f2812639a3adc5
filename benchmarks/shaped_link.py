"""A link of a given speed in front of a TCP port: bytes towards the client pass a token bucket.

As a process of its own, which moves pages from socket to socket without looking at them: a link
takes no time from the processors of what is measured, and this takes little::

    with shaped_link(6379, bytes_per_s=125_000_000) as port:
        ...
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

__all__ = ["shaped_link"]

_PIECE_BYTES = 64 * 1024
_MADE_UP_S = (
    0.02  # a shorter gap is a late wake-up of ours and is made up for; a longer one a pause
)


@contextlib.contextmanager
def shaped_link(port: int, *, bytes_per_s: float) -> Iterator[int]:
    """The port of a link to ``port`` on this machine, all of whose connections share the speed."""
    command = [sys.executable, "-m", "benchmarks.shaped_link", str(port), str(bytes_per_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            if not line.strip():
                raise RuntimeError("the shaped link did not start")
            yield int(line)
        finally:
            process.terminate()


class _Bucket:
    """Lets ``bytes_per_s`` pass on average; what is saved in pauses is lost."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._lock = threading.Lock()
        self._free_s = time.perf_counter()  # when all that has passed is paid for

    def take(self, n_bytes: int) -> None:
        """Wait until ``n_bytes`` may have passed."""
        with self._lock:
            now_s = time.perf_counter()
            if now_s - self._free_s > _MADE_UP_S:
                self._free_s = now_s
            self._free_s += n_bytes / self._bytes_per_s
            wait_s = self._free_s - now_s
        if wait_s > 0:
            time.sleep(wait_s)


def _copy(source: socket.socket, target: socket.socket, bucket: _Bucket | None) -> None:
    """Until ``source`` ends; then so does ``target``."""
    out_of, into = os.pipe()
    try:
        with contextlib.suppress(OSError):
            while n_bytes := os.splice(source.fileno(), into, _PIECE_BYTES):
                if bucket is not None:
                    bucket.take(n_bytes)
                while n_bytes:
                    n_bytes -= os.splice(out_of, target.fileno(), n_bytes)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
    finally:
        os.close(out_of)
        os.close(into)


def _connect(near: socket.socket, port: int, bucket: _Bucket) -> None:
    with near, socket.create_connection(("127.0.0.1", port)) as far:
        for one in (near, far):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        asks = threading.Thread(target=_copy, args=(near, far, None), daemon=True)
        asks.start()
        _copy(far, near, bucket)
        with contextlib.suppress(OSError):
            far.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            near.shutdown(socket.SHUT_RDWR)
        asks.join()


def _serve(port: int, bytes_per_s: float) -> None:
    bucket = _Bucket(bytes_per_s)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            near, _ = server.accept()
            threading.Thread(target=_connect, args=(near, port, bucket), daemon=True).start()


def main() -> None:
    """Serve until terminated; the first line of the output is the port."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("bytes_per_s", type=float)
    options = parser.parse_args()
    _serve(options.port, options.bytes_per_s)


if __name__ == "__main__":
    main()
