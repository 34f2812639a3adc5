"""A real Redis server for tests: started on a free port, killed, paused and restarted at will."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from ctxpress.cli.demo_store import find_redis_server

__all__ = ["RedisServer", "find_redis_server"]


class RedisServer:
    """One server process without persistence, on a port and a socket that stay the same.

    ``options`` go to the server's command line.
    """

    def __init__(
        self, binary: str, folder: Path, *, port: int = 0, options: Sequence[str] = ()
    ) -> None:
        self._binary = binary
        self._folder = folder
        self._options = options
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            self.port: int = probe.getsockname()[1]
        self.socket_path = folder / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Over TCP, database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        """Over the socket, database 0."""
        return f"unix://{self.socket_path}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = [
            self._binary, "--port", str(self.port), "--bind", "127.0.0.1",
            "--unixsocket", str(self.socket_path), "--save", "", "--appendonly", "no",
            "--dir", str(self._folder), "--loglevel", "warning", *self._options,
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(500):
            with contextlib.suppress(OSError):
                if self.command("PING") == b"+PONG\r\n":
                    return
            time.sleep(0.02)
        raise RuntimeError("redis-server does not answer")

    def kill(self) -> None:
        """End it at once (SIGKILL); connections break and all data is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kill it if it runs, and start an empty one on the same port."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stop it from answering (SIGSTOP): the kernel still accepts connections."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def command(self, *words: str) -> bytes:
        """Send one command over a fresh connection; its raw reply (up to 64 KiB)."""
        packed = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(f"*{len(words)}\r\n{packed}".encode())
            return connection.recv(65_536)
