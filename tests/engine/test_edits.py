"""Documents that change: what stays keeps its KV, at its new place."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.cache.kv import KVBlock
from ctxpress.engine.edits import plan_edit, reencode
from ctxpress.engine.loading import RotaryModel
from ctxpress.engine.parallel import encode_behind
from ctxpress.errors import CodecError
from tests.engine.models import rotary_model


def ids(n: int, seed: int) -> list[int]:
    return torch.randint(3, 96, (n,), generator=torch.Generator().manual_seed(seed)).tolist()


def run(model: RotaryModel, prefix: KVBlock, old: list[int], new: list[int]) -> KVBlock:
    before = encode_behind(model, prefix, PREFIX, old)
    work = reencode(model, prefix, before, new, plan_edit(old, new), piece_tokens=7)
    try:
        while True:
            next(work)
    except StopIteration as done:
        found: KVBlock = done.value
        return found


PREFIX = ids(6, 0)
TEXT = ids(40, 1)


@settings(deadline=None)
@given(
    old=st.lists(st.integers(0, 5), max_size=60),
    new=st.lists(st.integers(0, 5), max_size=60),
)
def test_a_plan_covers_the_new_text_and_takes_equal_tokens_only(
    old: list[int], new: list[int]
) -> None:
    place, last_old = 0, 0
    for start, stop, at in plan_edit(old, new).runs:
        assert start == place
        assert start < stop
        place = stop
        if at is not None:
            assert old[at : at + stop - start] == new[start:stop]
            assert at >= last_old
            last_old = at + stop - start
    assert place == len(new)


def test_a_text_that_did_not_change_is_not_computed() -> None:
    model = rotary_model()
    prefix = encode_behind(model, None, (), PREFIX)
    assert plan_edit(TEXT, TEXT).computed_tokens == 0
    again = run(model, prefix, TEXT, TEXT)
    before = encode_behind(model, prefix, PREFIX, TEXT)
    assert torch.allclose(again.keys, before.keys, atol=1e-5)
    assert torch.equal(again.values, before.values)


def test_text_that_was_added_at_the_end_is_exact() -> None:
    model = rotary_model()
    prefix = encode_behind(model, None, (), PREFIX)
    longer = [*TEXT, *ids(9, 2)]
    again, exact = run(model, prefix, TEXT, longer), encode_behind(model, prefix, PREFIX, longer)
    assert torch.allclose(again.keys, exact.keys, atol=1e-5)
    assert torch.allclose(again.values, exact.values, atol=1e-5)


def test_behind_an_insertion_the_first_layer_is_exact_and_the_rest_is_moved() -> None:
    model = rotary_model()
    prefix = encode_behind(model, None, (), PREFIX)
    new = [*TEXT[:15], *ids(5, 3), *TEXT[15:]]
    again, exact = run(model, prefix, TEXT, new), encode_behind(model, prefix, PREFIX, new)
    before = encode_behind(model, prefix, PREFIX, TEXT)
    assert plan_edit(TEXT, new).reused_tokens == len(TEXT)
    # Keys and values of the first layer depend on the token alone.
    assert torch.allclose(again.keys[0], exact.keys[0], atol=1e-5)
    assert torch.allclose(again.keys[:, :, :20], exact.keys[:, :, :20], atol=1e-5)
    assert torch.allclose(again.keys[:, :, 20:], before.keys[:, :, 15:], atol=1e-5)
    assert again.n_tokens == len(new)


def test_a_new_text_altogether_is_computed_and_exact() -> None:
    model = rotary_model()
    prefix = encode_behind(model, None, (), PREFIX)
    new = [(token + 40) % 93 + 3 for token in TEXT]
    assert plan_edit(TEXT, new).reused_tokens < len(TEXT) // 2
    again, exact = run(model, prefix, TEXT, new), encode_behind(model, prefix, PREFIX, new)
    assert torch.allclose(again.keys, exact.keys, atol=1e-5)


def test_kv_that_cannot_be_moved_is_refused() -> None:
    model = rotary_model()
    prefix = encode_behind(model, None, (), PREFIX)
    block = encode_behind(model, prefix, PREFIX, TEXT)
    plan = plan_edit(TEXT, TEXT)
    with pytest.raises(CodecError, match="un-rotated"):
        next(reencode(model, prefix, replace(block, keys_rotated=True), TEXT, plan))
    short = replace(block, keys=block.keys[:, :, :5], values=block.values[:, :, :5])
    with pytest.raises(CodecError, match="more tokens than the 5"):
        next(reencode(model, prefix, short, TEXT, plan))
