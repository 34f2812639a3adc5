"""RESP2 as bytes arrive: in any pieces the same replies; nonsense ends the connection at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.cache.stores.resp import ProtocolError, RespStream, ServerError, size_of

MAX_BYTES = 300_000


class Wire(asyncio.Transport):
    """A transport that keeps what is written, and can be told to stand still."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.largest = 0
        self.aborted = False
        self.protocol: Any = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data
        self.largest = max(self.largest, len(data))

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def feed(self, data: bytes, sizes: list[int]) -> None:
        """Hand over ``data`` in pieces of at most ``sizes`` bytes, over and over again."""
        turn = 0
        while data and not self.aborted:
            buffer = self.protocol.get_buffer(-1)
            count = min(len(buffer), sizes[turn % len(sizes)], len(data))
            buffer[:count] = data[:count]
            data, turn = data[count:], turn + 1
            self.protocol.buffer_updated(count)


def opened() -> tuple[Wire, RespStream]:
    wire = Wire()
    return wire, RespStream(wire, max_reply_bytes=MAX_BYTES)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.integers(-(10**18) + 1, 10**18 - 1),
        st.binary(max_size=60),
        st.sampled_from([b"x" * 20_000, b"y" * 70_000, b"z" * 200_000]),
    ),
    lambda items: st.lists(items, max_size=4),
    max_leaves=6,
)


def encoded(value: object) -> bytes:
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(map(encoded, value))
    assert isinstance(value, bytes)
    return b"$%d\r\n%s\r\n" % (len(value), value)


def plain(value: object) -> object:
    if isinstance(value, list):
        return [plain(item) for item in value]
    return bytes(value) if isinstance(value, memoryview) else value


@settings(max_examples=60, deadline=None)
@given(
    st.lists(VALUES, min_size=1, max_size=4),
    st.lists(st.sampled_from([1, 2, 3, 100, 65_536, 10**6]), min_size=1, max_size=5),
)
def test_replies_in_any_pieces(values: list[object], sizes: list[int]) -> None:
    if min(sizes) < 100:
        sizes = [*sizes, 10**6]  # or a large value takes minutes

    async def test() -> None:
        wire, stream = opened()
        announced: list[int] = []
        stream.announce = announced.append
        await stream.send([("GET", "k")] * len(values))
        wire.feed(b"".join(map(encoded, values)), sizes)
        assert [plain(await stream.receive()) for _ in values] == values
        assert stream.is_alive
        assert all(size > 10_000 for size in announced)

    run(test)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 200 OK\r\n", b"$x\r\n", b"$-9x\r\n", b"$99999999999999999999\r\n", b":1.5\r\n",
        b"$300001\r\n", b"$3\r\nabcde", b"$200000\r\n" + b"x" * 200_002, b"*65537\r\n",
        b"*1\r\n" * 9, b"+" + b"x" * 70_000, b"*" + b"9" * 5000 + b"\r\n", b"%1\r\n", b"\r\n",
        b"_\r\n", b"+OK\r\n+OK\r\n", b"+OK\r\n$200000\r\n",
    ],
)  # fmt: skip
def test_nonsense_ends_the_connection(nonsense: bytes) -> None:
    async def test() -> None:
        wire, stream = opened()
        await stream.send([("PING",)])
        wire.feed(nonsense, [50_000])
        assert wire.aborted
        assert not stream.is_alive
        if nonsense.startswith(b"+OK\r\n"):
            assert await stream.receive() == b"OK"  # what came before counts
        with pytest.raises(ProtocolError):
            await stream.receive()
        with pytest.raises(ProtocolError):
            await stream.send([("PING",)])

    run(test)


def test_what_is_announced_is_not_allocated_twice_its_cap() -> None:
    async def test() -> None:
        wire, stream = opened()
        await stream.send([("GET", "k")])
        wire.feed(b"$300000\r\n", [100])
        assert len(stream.get_buffer(-1)) == 300_002
        assert not wire.aborted

    run(test)


def test_errors_are_values_with_a_code() -> None:
    async def test() -> None:
        wire, stream = opened()
        await stream.send([("A",), ("B",), ("C",)])
        wire.feed(b"-OOM too much 's3cret'\r\n-moved\r\n*1\r\n-ERR in a list\r\n", [7])
        first, second = await stream.receive(), await stream.receive()
        assert isinstance(first, ServerError)
        assert isinstance(second, ServerError)
        assert (first.code, second.code) == ("OOM", "")
        assert "s3cret" not in f"{first} {first!r}"
        (nested,) = await stream.receive()  # type: ignore[misc, union-attr]
        assert isinstance(nested, ServerError)

    run(test)


def test_a_lost_connection_wakes_whoever_waits() -> None:
    async def test() -> None:
        for lost in (None, OSError("reset")):
            wire, stream = opened()
            await stream.send([("GET", "k")])
            waiting = asyncio.create_task(stream.receive())
            await asyncio.sleep(0)
            wire.protocol.connection_lost(lost)
            with pytest.raises(OSError, match="reset|closed by the server"):
                await waiting
            with pytest.raises(OSError, match="reset|closed by the server"):
                await stream.send([("GET", "k")])

    run(test)


def test_large_arguments_are_written_in_pieces_that_wait() -> None:
    async def test() -> None:
        wire, stream = opened()
        large, parts = b"v" * 3_000_000, (b"a", memoryview(b"b" * 20_000), b"")
        stream.pause_writing()
        sending = asyncio.create_task(stream.send([("SET", "k", large), ("SET", "l", parts, 7)]))
        await asyncio.sleep(0)
        assert not sending.done()
        assert len(wire.written) <= 2**20 + 100
        while not sending.done():
            stream.resume_writing()
            stream.pause_writing()
            await asyncio.sleep(0)
        await sending
        assert wire.largest <= 2**20
        assert wire.written == (
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3000000\r\n" + large + b"\r\n"
            b"*4\r\n$3\r\nSET\r\n$1\r\nl\r\n$20001\r\na" + b"b" * 20_000 + b"\r\n$1\r\n7\r\n"
        )
        assert size_of([("SET", "k", large), ("SET", "l", parts, 7)]) == 3_020_001

    run(test)
