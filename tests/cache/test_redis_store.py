"""Redis that is down, paused, full or no Redis at all: an error in time, no trace afterwards."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import secrets
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest

from ctxpress.cache.store import RangeStore, Store, create_store
from ctxpress.cache.stores.redis import RedisStore
from ctxpress.errors import MissingDependencyError, StoreError
from tests.redis_server import RedisServer

TIMEOUT_MS = 400
IN_TIME_S = TIMEOUT_MS / 1000 + 1.0  # with room for a busy machine

OPERATIONS: Mapping[str, Callable[[Store], Awaitable[object]]] = {
    "get": lambda store: store.get("k"),
    "get_many": lambda store: store.get_many(["k", "l"], ttl_s=60),
    "put": lambda store: store.put("k", b"v", ttl_s=60),
    "set_if_absent": lambda store: store.set_if_absent("k", b"v", ttl_s=60),
    "set_many": lambda store: store.set_many_if_absent([("k", b"v"), ("l", b"v")], ttl_s=60),
    "delete": lambda store: store.delete("k"),
    "ping": lambda store: store.ping(),
}


async def fails_in_time(store: Store, names: Sequence[str] = tuple(OPERATIONS)) -> list[str]:
    messages = []
    for name in names:
        started = time.monotonic()
        with pytest.raises(StoreError) as caught:
            await OPERATIONS[name](store)
        assert time.monotonic() - started < IN_TIME_S, name
        assert caught.value.__cause__ is not None
        messages.append(str(caught.value))
    return messages


async def works(store: Store) -> None:
    key = f"works-{secrets.token_hex(8)}"  # some tests call this many times at once
    await store.put(key, b"yes", ttl_s=60)
    assert await store.get(key, ttl_s=60) == b"yes"
    await store.delete(key)


@pytest.fixture
async def store(redis_server: RedisServer):  # type: ignore[no-untyped-def]
    opened = create_store(redis_server.url, timeout_ms=TIMEOUT_MS)
    await works(opened)
    yield opened
    await opened.aclose()


async def test_a_killed_server(store: Store, redis_server: RedisServer) -> None:
    redis_server.kill()
    assert all("cannot be reached" in message for message in await fails_in_time(store))
    redis_server.restart()
    await works(store)


async def test_a_restart_goes_unnoticed(store: Store, redis_server: RedisServer) -> None:
    await asyncio.gather(*(store.get("k") for _ in range(20)))  # many idle connections
    redis_server.restart()
    await asyncio.gather(*(works(store) for _ in range(20)))


async def test_a_paused_server(store: Store, redis_server: RedisServer) -> None:
    redis_server.pause()
    assert all("no answer within 400 ms" in message for message in await fails_in_time(store))
    redis_server.resume()
    await works(store)


async def test_a_server_paused_before_the_first_connection(redis_server: RedisServer) -> None:
    store = create_store(redis_server.url.replace("/0", "/3"), timeout_ms=TIMEOUT_MS)
    redis_server.pause()
    await fails_in_time(store, ["ping", "get"])
    redis_server.resume()
    await works(store)
    await store.aclose()


async def test_time_in_the_waiting_line_counts(redis_server: RedisServer) -> None:
    store = create_store(f"{redis_server.url}?max_connections=2", timeout_ms=TIMEOUT_MS)
    await works(store)
    redis_server.pause()
    started = time.monotonic()
    results = await asyncio.gather(*(store.get("k") for _ in range(50)), return_exceptions=True)
    assert time.monotonic() - started < IN_TIME_S
    assert all(isinstance(result, StoreError) for result in results)
    redis_server.resume()
    await asyncio.gather(*(works(store) for _ in range(50)))
    await store.aclose()


async def test_tasks_cancelled_twice_lose_no_connection(redis_server: RedisServer) -> None:
    store = create_store(f"{redis_server.url}?max_connections=2&timeout_ms=5000")
    await works(store)
    for _ in range(10):
        redis_server.pause()
        tasks = [asyncio.create_task(store.get("k")) for _ in range(4)]
        await asyncio.sleep(0.005)
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        redis_server.resume()
    await works(store)
    await store.aclose()


async def test_a_stream_whose_last_value_was_read_leaves_its_connection(
    store: RangeStore, redis_server: RedisServer
) -> None:
    await store.put("k", bytes(300_000), ttl_s=60)

    async def clients() -> list[str]:
        reply = await asyncio.to_thread(redis_server.command, "CLIENT", "LIST")
        lines = [line for line in reply.decode().splitlines() if line.startswith("id=")]
        return sorted(line.split()[0] for line in lines if "cmd=client" not in line)

    ranges = [(0, 100_000), (100_000, 200_000)]
    before = await clients()
    for _ in range(3):
        async with contextlib.aclosing(store.read_ranges("k", ranges, ahead_bytes=10)) as parts:
            assert [len(await anext(parts)) for _ in ranges] == [100_000, 200_000]
    assert before
    assert await clients() == before
    assert [part async for part in store.read_ranges("k", [], ahead_bytes=10)] == []


async def test_a_full_server(store: Store, redis_server: RedisServer) -> None:
    await store.put("k", b"held", ttl_s=60)
    redis_server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    redis_server.command("CONFIG", "SET", "maxmemory", "1")
    messages = await fails_in_time(store, ["put", "set_if_absent", "set_many"])
    assert all("out of memory" in message for message in messages)
    assert await store.get("k", ttl_s=60) == b"held"
    redis_server.command("CONFIG", "SET", "maxmemory", "0")
    await works(store)


async def test_foreign_values_are_misses(redis_server: RedisServer) -> None:
    store = create_store(redis_server.url, max_value_bytes=10)
    redis_server.command("SET", "big", "x" * 11)
    redis_server.command("SET", "fits", "x" * 10)
    redis_server.command("RPUSH", "list", "x")
    expected = [None, b"x" * 10, None]
    assert await store.get_many(["big", "fits", "list"]) == expected
    assert await store.get_many(["big", "fits", "list"], ttl_s=60) == expected
    items = [("big", b"1"), ("list", b"2"), ("new", b"3")]
    assert await store.set_many_if_absent(items, ttl_s=60) == [b"", b"", b"3"]
    await store.aclose()


async def test_a_rival_that_expires_in_between(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = create_store(redis_server.url)
    assert isinstance(store, RedisStore)
    send = store._send
    calls = 0

    async def rival_gone(commands):  # type: ignore[no-untyped-def]
        nonlocal calls
        calls += 1
        # The rival held the key when SET NX came, and no longer when it was read.
        return [None, b"", 0] if calls <= 2 else await send(commands)

    monkeypatch.setattr(store, "_send", rival_gone)
    assert await store.set_if_absent("k", b"ours", ttl_s=60) == b"ours"
    assert calls == 3
    await store.aclose()


@pytest.mark.parametrize("hangs", [False, True])
@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$99999999999999\r\n", b"$x\r\n", b"\0\0\0\0",
     b"*1\r\n", b":1\r\n", b"+OK", b"-ERR unknown command 's3cret'\r\n" * 9],
)  # fmt: skip
async def test_servers_that_speak_nonsense(answer: bytes, hangs: bool) -> None:
    talks: list[asyncio.Task[None] | None] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(asyncio.current_task())
        await reader.read(100)
        writer.write(answer)
        if not hangs:
            writer.close()
        await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = create_store(f"redis://:s3cret@127.0.0.1:{port}", timeout_ms=TIMEOUT_MS)
    for message in await fails_in_time(store, ["get", "set_many"]):
        assert "s3cret" not in message
    await store.aclose()
    server.close()
    await asyncio.gather(*(task for task in talks if task is not None))
    await server.wait_closed()


async def test_passwords_and_databases(redis_server: RedisServer) -> None:
    redis_server.command("CONFIG", "SET", "requirepass", "p@ss/#1")
    try:
        open_url = f"redis://:p%40ss%2F%231@127.0.0.1:{redis_server.port}/5"
        fifth, other = create_store(open_url), create_store(open_url.replace("/5", "/6"))
        unix = create_store(f"unix://:p%40ss%2F%231@{redis_server.socket_path}?db=5")
        await fifth.put("k", b"5", ttl_s=60)
        assert await other.get("k") is None
        assert await unix.get("k") == b"5"
        for store in (fifth, other, unix):
            assert "p@ss" not in repr(store) + str(vars(store))
            await store.aclose()
        for url in (redis_server.url, open_url.replace("p%40", "wr0ng")):
            refused = create_store(url)
            with pytest.raises(StoreError, match="refused") as caught:
                await refused.get("k")
            text = "".join(traceback.format_exception(caught.value))
            assert "wr0ng" not in text
            assert "ss/#1" not in text
            await refused.aclose()
    finally:
        redis_server.restart()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "redis"]:
        monkeypatch.delitem(sys.modules, name)
    real_import = builtins.__import__

    def refuse(name: str, *rest: object) -> object:
        if name.partition(".")[0] == "redis":
            raise ImportError(name)
        return real_import(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingDependencyError, match=r"pip install 'ctxpress\[redis\]'"):
        create_store("redis://localhost")
