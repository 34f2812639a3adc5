"""Keys of chunks: the same text gives the same keys everywhere, any difference gives others."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.cache.chunk_key import CacheKey, KVLevel, chunk_keys, tokens_digest
from ctxpress.cache.identity import KVIdentity

MODEL = KVIdentity(model="m", revision="r", tokenizer="t", rope="p", dtype="float16")
RAW = KVLevel(codec="raw")
# Made by another program from the description in chunk_key.py.
FIRST = "7a7f0531ab217b431e580cb2415e4a6cefdca955cce1f51cb7b8520034ce8268"
SECOND = "304ad254b49daaa313b4ac8f856b3146060a376f7254dd8ff8605f2ce6f714d2"
IDS = st.lists(st.integers(0, 2**32 - 1), max_size=40)


def test_keys_never_change() -> None:
    (first, second) = chunk_keys(MODEL, [1, 2, 3], chunk_tokens=2)
    assert first.digest(RAW).hex() == FIRST
    assert second.digest(KVLevel(codec="kvtc", calibration="ab" * 32)).hex() == SECOND


@given(IDS, st.integers(1, 9), st.integers(0, 40))
def test_equal_beginnings_have_equal_keys(ids: list[int], size: int, cut: int) -> None:
    whole = chunk_keys(MODEL, ids, chunk_tokens=size)
    start = chunk_keys(MODEL, ids[:cut], chunk_tokens=size)
    full = min(cut, len(ids)) // size
    assert start[:full] == whole[:full]
    assert len(whole) == -(-len(ids) // size)
    assert len({key.digest(RAW) for key in whole}) == len(whole)


@given(IDS, IDS)
def test_digests_chain(before: list[int], after: list[int]) -> None:
    behind = tokens_digest(after, before=tokens_digest(before))
    assert (behind == tokens_digest(after)) is False
    assert behind == tokens_digest(tuple(after), before=tokens_digest(iter(before)))


@given(st.integers(0, 30), IDS)
def test_a_changed_token_changes_its_chunk_and_all_behind(at: int, ids: list[int]) -> None:
    ids = [*ids, *range(31)]
    changed = [*ids[:at], ids[at] ^ 1, *ids[at + 1 :]]
    one, other = chunk_keys(MODEL, ids, chunk_tokens=4), chunk_keys(MODEL, changed, chunk_tokens=4)
    differs = [a != b for a, b in zip(one, other, strict=True)]
    assert differs == [number >= at // 4 for number in range(len(one))]


def test_every_field_counts() -> None:
    key = CacheKey(identity=replace(MODEL, tokens="x", shard="0/1"))
    digests = {key.digest(RAW)}
    for field in fields(KVIdentity):
        digests.add(replace(key, identity=replace(key.identity, **{field.name: "y"})).digest(RAW))
    # The same characters in neighbouring fields.
    digests.add(replace(key, identity=replace(key.identity, model="mr", revision="")).digest(RAW))
    digests |= {replace(key, rotated_from=position).digest(RAW) for position in (0, 1)}
    digests |= {
        key.digest(KVLevel(codec="cachegen-1")),
        key.digest(KVLevel(codec="raw", calibration="a" * 64)),
    }
    assert len(digests) == 1 + len(fields(KVIdentity)) + 1 + 2 + 2


def test_positions_of_rotated_chunks() -> None:
    keys = chunk_keys(MODEL, range(10), chunk_tokens=4, rotated_from=100)
    assert [key.rotated_from for key in keys] == [100, 104, 108]


def test_what_is_no_key() -> None:
    with pytest.raises(ValueError, match="name the model and the tokens"):
        CacheKey(identity=MODEL)
    with pytest.raises(ValueError, match="name the model and the tokens"):
        CacheKey(identity=KVIdentity(tokens="x"))
    with pytest.raises(ValueError, match="not be negative"):
        CacheKey(identity=replace(MODEL, tokens="x"), rotated_from=-1)
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        tokens_digest([1], before="abc")
    for wrong in ([-1], [2**32], [1.5], ["1"]):
        with pytest.raises(ValueError, match="whole numbers from 0"):
            tokens_digest(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1"):
        chunk_keys(MODEL, [1], chunk_tokens=0)


def test_levels_in_words() -> None:
    assert str(RAW) == "raw"
    assert str(KVLevel(codec="kvtc", calibration="0123456789abcdef")) == "kvtc@0123456789ab"
