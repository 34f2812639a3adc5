"""A link of a given speed in front of a TCP port: bytes towards the client pass a token bucket.

As a process of its own, so that it takes no time from what is measured::

    with shaped_link(6379, bytes_per_s=125_000_000) as port:
        ...
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
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
        self._free_s = time.perf_counter()  # when all that has passed is paid for

    async def take(self, n_bytes: int) -> None:
        """Wait until ``n_bytes`` may have passed."""
        now_s = time.perf_counter()
        if now_s - self._free_s > _MADE_UP_S:
            self._free_s = now_s
        self._free_s += n_bytes / self._bytes_per_s
        if self._free_s > now_s:
            await asyncio.sleep(self._free_s - now_s)


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bucket: _Bucket | None
) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(_PIECE_BYTES):
            if bucket is not None:
                await bucket.take(len(piece))
            writer.write(piece)
            await writer.drain()
        writer.close()


async def _serve(port: int, bytes_per_s: float) -> None:
    bucket = _Bucket(bytes_per_s)

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_copy(reader, far_writer, None), _copy(far_reader, writer, bucket))

    server = await asyncio.start_server(connect, "127.0.0.1", 0, limit=2**20)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve until terminated; the first line of the output is the port."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("bytes_per_s", type=float)
    options = parser.parse_args()
    asyncio.run(_serve(options.port, options.bytes_per_s))


if __name__ == "__main__":
    main()
