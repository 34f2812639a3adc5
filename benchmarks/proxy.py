"""How much the proxy costs: load generator, upstream mock and proxies on one machine, in turns.

Rows: the mock itself, a bare aiohttp forwarder (the least that a Python proxy can do), and
ctxpress with compression off, observing, and on with a pipeline that changes nothing. Rounds are
interleaved so that all rows see the same weather; each figure is a median over the rounds.

    python -m benchmarks.proxy [--rounds 7] [--seconds 1.5] [--write docs/performance.md]
                               [--litellm /path/to/python]

The figures are ratios for this machine: generator, mock and proxy share its cores.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from benchmarks.proxy_peers import serve
from ctxpress.evaluation.sections import replace_section

CONCURRENCIES = (1, 10, 100)
CPU_CONCURRENCY = 10
STREAM_CONCURRENCY = 1
PATH = "/v1/chat/completions"
PROMPT = b'{"model":"m","messages":[{"role":"user","content":"' + b"word " * 400 + b'"}]}'
STREAMED = PROMPT[:-1] + b',"stream":true}'


class Connection:
    """One keep-alive connection of the load generator, over plain streams."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def __aenter__(self) -> Connection:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def post(self, body: bytes) -> float:
        """Send one request; returns the seconds until the first byte of its body."""
        started = time.perf_counter()
        self._writer.write(
            b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: localhost\r\n"
            b"authorization: Bearer sk-bench\r\ncontent-type: application/json\r\n"
            b"accept: application/json\r\naccept-encoding: gzip, deflate\r\n"
            b"user-agent: bench\r\nx-stainless-lang: python\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(head.decode())
        if b"transfer-encoding: chunked" in head:
            await self._reader.readuntil(b"\n\n")
            first = time.perf_counter() - started
            await self._reader.readuntil(b"\r\n0\r\n\r\n")
            return first
        length = int(head[head.find(b"content-length:") + 15 :].split(b"\r\n", 1)[0])
        await self._reader.readexactly(length)
        return time.perf_counter() - started


@dataclass
class Load:
    """One round of load: requests per second, latencies in milliseconds, all requests sent."""

    rate: float
    latencies_ms: list[float]
    sent: int


async def load(port: int, concurrency: int, seconds: float, body: bytes) -> Load:
    latencies: list[float] = []
    sent = 0
    until = time.perf_counter() + seconds

    async def client() -> None:
        nonlocal sent
        async with Connection(port) as connection:
            while time.perf_counter() < until:
                started = time.perf_counter()
                first = await connection.post(body)
                sent += 1
                if started > warm:
                    latencies.append(first * 1000)

    warm = time.perf_counter() + seconds * 0.2
    await asyncio.gather(*(client() for _ in range(concurrency)))
    return Load(len(latencies) / (seconds * 0.8), latencies, sent)


@dataclass
class Row:
    """All rounds of one server."""

    name: str
    port: int
    pid: int
    cpu_us: list[float] = field(default_factory=list)
    rates: dict[int, list[float]] = field(default_factory=lambda: {c: [] for c in CONCURRENCIES})
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used; 0 where there is no ``/proc``."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(rows: list[Row], rounds: int, seconds: float) -> None:
    for number in range(rounds + 1):
        turn = rows[number % len(rows) :] + rows[: number % len(rows)]
        for row in turn:
            for concurrency in CONCURRENCIES:
                before_s = cpu_seconds(row.pid)
                done = await load(row.port, concurrency, seconds, PROMPT)
                used_s = cpu_seconds(row.pid) - before_s
                if number == 0:
                    continue  # a round to warm up
                row.rates[concurrency].append(done.rate)
                if concurrency == CPU_CONCURRENCY:
                    row.cpu_us.append(used_s * 1e6 / done.sent)
                if concurrency == 1:
                    row.p50.append(statistics.median(done.latencies_ms))
                    row.p99.append(statistics.quantiles(done.latencies_ms, n=100)[98])
            done = await load(row.port, STREAM_CONCURRENCY, seconds, STREAMED)
            if number:
                row.first.append(statistics.median(done.latencies_ms))


def table(rows: list[Row]) -> Iterator[str]:
    """Medians over the rounds; ratios and differences are taken within each round."""
    direct, bare = rows[0], rows[1]
    middle = statistics.median
    header = ["", *(f"req/s c={c} (of bare)" for c in CONCURRENCIES), "CPU µs", "p50 ms"]
    header += ["added p50", "added p99", "first event ms", "later than bare"]
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        cells = [row.name]
        for c in CONCURRENCIES:
            share = middle(a / b for a, b in zip(row.rates[c], bare.rates[c], strict=True))
            cells.append(f"{middle(row.rates[c]):,.0f} ({share:.2f}x)")
        cells += [f"{middle(row.cpu_us):.0f}", f"{middle(row.p50):.2f}"]
        for mine, base in ((row.p50, direct.p50), (row.p99, direct.p99)):
            cells.append(f"{middle(a - b for a, b in zip(mine, base, strict=True)):+.2f}")
        later = middle(a - b for a, b in zip(row.first, bare.first, strict=True))
        cells += [f"{middle(row.first):.2f}", f"{later:+.2f}"]
        yield "| " + " | ".join(cells) + " |"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def servers(litellm: str | None) -> AsyncIterator[list[Row]]:
    """Every server in a process of its own."""
    mock = free_port()
    upstream = f"http://127.0.0.1:{mock}"
    kinds = [("mock, direct", "mock", "-"), ("bare aiohttp forwarder", "bare", upstream)]
    kinds += [(f"ctxpress, {m}", f"ctxpress:{m}", upstream) for m in ("off", "observe", "on")]
    if litellm:
        kinds.append(("LiteLLM", f"litellm:{litellm}", upstream))
    rows, processes = [], []
    try:
        for name, kind, target in kinds:
            port = mock if kind == "mock" else free_port()
            command = [sys.executable, "-m", "benchmarks.proxy", "--serve", kind, str(port), target]
            process = subprocess.Popen(command)  # noqa: ASYNC220 - it runs beside us
            processes.append(process)
            rows.append(Row(name, port, process.pid))
        for row in rows:
            await until_up(row.port)
        yield rows
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


async def until_up(port: int, within_s: float = 60) -> None:
    until = time.monotonic() + within_s
    while True:
        try:
            async with Connection(port) as connection:
                await connection.post(PROMPT)
                return
        except (OSError, asyncio.IncompleteReadError, RuntimeError):
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.1)


async def main(options: argparse.Namespace) -> None:
    async with servers(options.litellm) as rows:
        await measure(rows, options.rounds, options.seconds)
    text = "\n".join(table(rows))
    print(text)
    if options.write:
        where = f"Python {platform.python_version()}, {os.cpu_count()} cores shared by load"
        note = (
            f"`python -m benchmarks.proxy`: {where} generator, mock and proxies; 2 KB prompts, "
            f"medians of {options.rounds} interleaved rounds. Latencies at one request at a time; "
            f"`CPU µs` is the process's time for a request at c={CPU_CONCURRENCY}; "
            "`first event` is the first event of a stream. Pipelines here change nothing: this is "
            "the cost of the proxy, not of compression."
        )
        replace_section(Path(options.write), "proxy", "The proxy", f"{note}\n\n{text}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement")
    parser.add_argument("--write", help="Markdown file whose section is replaced")
    parser.add_argument("--litellm", help="a Python beside which a `litellm` command is installed")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve[0], int(given.serve[1]), given.serve[2])
    else:
        uvloop.run(main(given))
