"""Blocks are cut, put together and rounded without losing or moving anything."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.cache import KVBlock
from ctxpress.engine import concatenated, rounded, split
from ctxpress.errors import CodecError, ConfigError


def block(n_tokens: int, position_start: int = 0) -> KVBlock:
    numbers = torch.arange(2 * 3 * n_tokens * 4, dtype=torch.float32).view(2, 3, n_tokens, 4)
    return KVBlock(keys=numbers, values=-numbers, position_start=position_start)


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 9))
def test_chunks_put_together_are_the_block(n_tokens: int, chunk: int, start: int) -> None:
    whole = block(n_tokens, start)
    parts = split(whole, chunk)
    assert [part.n_tokens for part in parts[:-1]] == [chunk] * (len(parts) - 1)
    again = concatenated(parts)
    assert torch.equal(again.keys, whole.keys)
    assert torch.equal(again.values, whole.values)
    assert again.position_start == start


def test_blocks_that_do_not_follow_each_other_are_refused() -> None:
    with pytest.raises(CodecError, match="starts at 5, not at 4"):
        concatenated([block(4), block(4, 5)])
    with pytest.raises(CodecError, match="dtype"):
        concatenated([block(4), rounded(block(4, 4), "float16")])
    with pytest.raises(CodecError, match="no blocks"):
        concatenated([])


def test_rounding_beyond_float16_gives_its_largest_number_and_keeps_nan() -> None:
    given_block = block(1)
    given_block.keys[0, 0, 0] = torch.tensor([1e6, -1e6, float("nan"), float("inf")])
    keys = rounded(given_block, "float16").keys[0, 0, 0].tolist()
    assert keys[:2] == [65504, -65504]
    assert keys[2] != keys[2]
    assert keys[3] == float("inf")


def test_an_unknown_dtype_is_named() -> None:
    with pytest.raises(ConfigError, match="float32, float16, bfloat16, not 'int3'"):
        rounded(block(1), "int3")


def test_rounding_to_the_same_dtype_copies_nothing() -> None:
    one = block(3)
    assert rounded(one, "float32") is one
    assert rounded(replace(one), "bfloat16").dtype_name == "bfloat16"
