"""URLs: what is read from them, which mistakes are named, and that no password is."""

from __future__ import annotations

import subprocess
import sys
import traceback

import pytest

from ctxpress.cache.store import create_store
from ctxpress.cache.store_url import parse_bytes
from ctxpress.cache.stores.redis import RedisStore
from ctxpress.cache.stores.redis_address import RedisAddress
from ctxpress.errors import ConfigError


def address(url: str) -> RedisAddress:
    store = create_store(url)
    assert isinstance(store, RedisStore)
    return store._address


def test_redis_urls() -> None:
    assert address("redis://") == RedisAddress()
    full = address("redis://us%40er:p%2F%23%3A@h.example:1234/7")
    assert (full.username, full.password) == ("us@er", "p/#:")
    assert (full.host, full.port, full.database) == ("h.example", 1234, 7)
    assert full.label == "redis://h.example:1234/7"
    assert "p/#" not in repr(full)
    assert address("redis://h?db=3").database == 3
    assert address("redis://[::1]:1/2").label == "redis://[::1]:1/2"
    unix = address("unix://:pw@/run/redis.sock?db=2")
    assert (unix.socket_path, unix.password, unix.database) == ("/run/redis.sock", "pw", 2)


def test_cluster_urls() -> None:
    cluster = address("redis+cluster://us%40er:p%2F%23@h.example:7000,[::1]:7001,other")
    assert cluster.nodes == (("h.example", 7000), ("::1", 7001), ("other", 6379))
    assert (cluster.username, cluster.password, cluster.tls) == ("us@er", "p/#", False)
    assert cluster.label == "redis+cluster://h.example:7000,[::1]:7001,other:6379"
    node = cluster.at("10.0.0.1", 7005)
    assert (node.host, node.port, node.password, node.nodes) == ("10.0.0.1", 7005, "p/#", ())
    assert address("rediss+cluster://h?ssl_ca_certs=/ca.pem&max_connections=3").tls
    assert "p/#" not in repr(cluster)


def test_tls_urls() -> None:
    safe = address("rediss://h/1")
    assert (safe.tls, safe.ssl_cert_reqs, safe.ssl_check_hostname) == (True, "required", True)
    loose = address("rediss://h?ssl_cert_reqs=none&ssl_ca_certs=/ca.pem&ssl_certfile=c")
    assert (loose.ssl_cert_reqs, loose.ssl_check_hostname) == ("none", False)
    assert (loose.ssl_ca_certs, loose.ssl_certfile) == ("/ca.pem", "c")
    connection = safe.create_connection(timeout_s=1)
    assert type(connection).__name__ == "SSLConnection"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("reddis://h", r"'reddis'; did you mean 'rediss?'"),
        ("memroy://", "did you mean 'memory'"),
        ("s3://bucket", r"valid: disk, memory, redis, redis\+cluster, rediss, rediss"),
        ("memory", "unknown kind of store"),
        ("", "unknown kind of store"),
        ("memory://?max_byte=1mb", "'max_byte'; did you mean 'max_bytes'"),
        ("redis://h?ssl_ca_certs=x", "no option 'ssl_ca_certs'"),
        ("memory://?max_bytes=big", "option max_bytes: not a size"),
        ("memory://?max_bytes=0", "at least one byte"),
        ("memory://?timeout_ms=0", "option timeout_ms: must be above zero"),
        ("memory://?timeout_ms=nan", "above zero"),
        ("memory://?timeout_ms=x", "not a number"),
        ("memory://?max_bytes=1&max_bytes=2", "given twice"),
        ("memory://host", "takes no address"),
        ("memory:///path", "takes no address"),
        ("disk://relative/path", "absolute"),
        ("redis://h/zero", "database must be a number"),
        ("redis://h/1?db=2", "given twice"),
        ("redis://h?max_connections=0", "one or more"),
        ("rediss://h?ssl_cert_reqs=maybe", "required, optional or none"),
        ("rediss://h?ssl_check_hostname=yes", "true or false"),
        ("redis+cluster://", "cannot be read"),
        ("redis+cluster://h,", "cannot be read"),
        ("redis+cluster://h:port", "cannot be read"),
        ("redis+cluster://h/1", "one database"),
        ("redis+cluster://h?db=1", "no option 'db'"),
        ("redis+clusters://h", r"did you mean 'redis\+cluster'"),
        ("redis://h:1,i:2", "cannot be read"),
        ("memory://?min_bytes_per_s=0", "at least one byte"),
        ("unix://run/redis.sock", "unix:///run/redis.sock"),
        ("unix://", "unix:///run/redis.sock"),
    ],
)
def test_mistakes_are_named(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_store(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cr#et@h/0", "redis://:s3cr?et@h/0", "redis://:s3cr/et@h/0", "redis://u:1/s3cret@h",
        "redis://u:s3cret@h:port", "redis://u:s3cret@[h", "redis://u:s3cret@h?s3cret", "unix://s3cr/et",
        "rdis://:s3cret@h", "redis://u:s3cret@h/s3cret", "redis:/:s3cret@h", "s3cret@h", "redis://u:[s3cret@h",
        "redis+cluster://u:s3cr#et@h,i", "redis+cluster://u:s3cret@h:1,i:s3cret", "redis+cluster://u:s3cr/et@h,i",
    ],
)  # fmt: skip
def test_mistakes_tell_no_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        create_store(url)
    text = "".join(traceback.format_exception(caught.value)[-1:])
    assert "s3cr" not in text
    assert "et@" not in text
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("1", 1), ("64mb", 64 << 20), ("64 MiB", 64 << 20), ("1.5gb", 3 << 29), ("2K", 2048),
     ("7b", 7), ("1tb", 1 << 40)],
)  # fmt: skip
def test_sizes(text: str, size_bytes: int) -> None:
    assert parse_bytes(text) == size_bytes


def test_import_is_light() -> None:
    program = (
        "import sys, ctxpress.cache.store, ctxpress.tokens\n"
        "heavy = {'redis', 'sqlite3', 'tiktoken', 'tokenizers', 'onnxruntime', 'torch', 'numpy'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
