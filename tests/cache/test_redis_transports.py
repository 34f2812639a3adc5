"""Large values over TLS and in uvloop: other transports than the tests' usual one."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ctxpress.cache.store import RangeStore, create_store
from tests.redis_server import RedisServer

VALUE = bytes(range(256)) * 12_000


async def exercise(store: RangeStore) -> None:
    """Small and large values, whole, in part and one by one."""
    await store.put_parts("k", (VALUE[:10], VALUE[10:]), ttl_s=60)
    assert await store.set_if_absent("k", b"late", ttl_s=60) == VALUE
    assert await store.get_many(["k", "absent"], ttl_s=60) == [VALUE, None]
    ranges = [(n * 100_000, 100_000) for n in range(30)]
    for _ in range(3):
        parts = [part async for part in store.read_ranges("k", ranges, ahead_bytes=500_000)]
        assert b"".join(parts) == VALUE[:3_000_000]
    got = await asyncio.gather(*(store.get_range("k", n, 200_000) for n in range(20)))
    assert [bytes(part) for part in got] == [VALUE[n : n + 200_000] for n in range(20)]


@pytest.mark.parametrize("which", ["url", "unix_url"])
def test_in_uvloop(redis_server: RedisServer, which: str) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def test() -> None:
        store = create_store(f"{getattr(redis_server, which)}?timeout_ms=10000")
        await exercise(store)
        await store.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test())


@pytest.fixture
def tls_context(tmp_path: Path) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate for localhost in ``tmp_path``."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    certificate, secret = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", secret, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, secret)
    return context


@pytest.fixture
async def tls_port(redis_server: RedisServer, tls_context: ssl.SSLContext) -> AsyncIterator[int]:
    """A port where the server is behind TLS."""

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(100_000):
                sink.write(data)
                await sink.drain()
        except (OSError, ssl.SSLError):
            pass
        finally:
            sink.close()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", redis_server.port)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=tls_context)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


async def test_over_tls(tls_port: int, tmp_path: Path) -> None:
    store = create_store(
        f"rediss://localhost:{tls_port}?timeout_ms=20000&ssl_ca_certs={tmp_path}/cert.pem"
    )
    await exercise(store)
    await store.aclose()
    await asyncio.sleep(0.1)  # the far side closes
