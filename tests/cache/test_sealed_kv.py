"""What a store holds of a chunk: nothing but what was sealed is ever handed out."""

from __future__ import annotations

import asyncio
import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.cache.chunks import KVStore
from ctxpress.cache.container import PREFIX_BYTES
from ctxpress.cache.sealed_kv import FIXED_BYTES, front_bytes_of, open_front
from ctxpress.cache.store import create_store
from ctxpress.errors import KVMissError
from tests.cache.containers import ACME, RAW, container, key


@settings(max_examples=150, deadline=None)
@given(draw=st.data())
def test_any_change_of_stored_bytes_is_a_miss(draw: st.DataObject) -> None:
    async def check() -> None:
        store = create_store("memory://")
        kv = KVStore(store, ACME)
        data = container(key(), section_bytes=(300, 2, 500))
        await kv.put(key(), RAW, data, ttl_s=60)
        name = kv._sealed.name(key(), RAW)
        whole = await store.get(name)
        assert whole is not None
        changed = bytearray(whole)
        kind = draw.draw(st.sampled_from(["flip", "cut", "insert", "splice"]))
        at = draw.draw(st.integers(0, len(whole) - 1))
        if kind == "flip":
            changed[at] ^= 1 << draw.draw(st.integers(0, 7))
        elif kind == "cut":
            del changed[at:]
        elif kind == "insert":
            changed[at:at] = draw.draw(st.binary(min_size=1, max_size=40))
        else:
            other = draw.draw(st.integers(0, len(whole) - 1))
            changed[at : at + 50] = whole[other : other + 50]
        if bytes(changed[: len(whole)]) == whole:
            return
        await store.put(name, bytes(changed), ttl_s=60)
        assert await kv.get(key(), RAW) is None
        with contextlib.suppress(KVMissError, KeyError):
            (found,) = await kv.find([key()], [RAW])
            got = [part async for part in kv.fetch(found[RAW])]
            raise AssertionError(f"{len(got)} sections of a changed value were read to the end")
        await kv.aclose()

    asyncio.run(check())


def front(magic: bytes, version: int, reserved: int, header_bytes: int, n_sections: int) -> bytes:
    return bytes(16) + struct.pack("<8sHHII", magic, version, reserved, header_bytes, n_sections)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ((b"\x89CTXKV\r\n", 1, 0, 100, 1), "the container's own magic"),
        ((b"\x89CTXKVS\n", 2, 0, 100, 1), "a later version"),
        ((b"\x89CTXKVS\n", 1, 1, 100, 1), "reserved bits"),
        ((b"\x89CTXKVS\n", 1, 0, PREFIX_BYTES - 1, 1), "no room for a prefix"),
        ((b"\x89CTXKVS\n", 1, 0, 2**20 + PREFIX_BYTES + 1, 1), "a header above its cap"),
        ((b"\x89CTXKVS\n", 1, 0, 2**32 - 1, 1), "four gigabytes of header"),
        ((b"\x89CTXKVS\n", 1, 0, 100, 0), "no sections"),
        ((b"\x89CTXKVS\n", 1, 0, 100, 1026), "more sections than layers"),
        ((b"\x89CTXKVS\n", 1, 0, 100, 2**32 - 1), "four billion sections"),
    ],
)
def test_fronts_that_are_none(fields: tuple[bytes, int, int, int, int], why: str) -> None:
    assert front_bytes_of(front(*fields)) == 0, why
    assert open_front(ACME, "k", front(*fields) + bytes(5000), key=key(), level=RAW) is None


def test_a_front_tells_its_length_first() -> None:
    head = front(b"\x89CTXKVS\n", 1, 0, 100, 3)
    assert len(head) == FIXED_BYTES
    assert front_bytes_of(head) == FIXED_BYTES + 3 * 24 + 100
    assert front_bytes_of(head[:-1]) == 0
    assert open_front(ACME, "k", head + bytes(171), key=key(), level=RAW) is None
    assert open_front(ACME, "k", head + bytes(172), key=key(), level=RAW) is None  # no seal
