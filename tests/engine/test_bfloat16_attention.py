"""The kernel for bfloat16: as exact as torch's own, whatever the shapes, values and threads."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.engine.bfloat16_attention import attend_bfloat16, can_attend_bfloat16
from ctxpress.engine.bfloat16_tiles import has_tiles
from ctxpress.engine.lse import attend, attend_eager

needs_tiles = pytest.mark.skipif(not has_tiles(), reason="needs a processor with AVX-512 BF16")


def drawn(
    heads: int, n: int, n_keys: int, head_dim: int, *, seed: int = 0, spread: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, keys and values; the latter two lie in buffers with room behind the tokens."""
    draw = torch.Generator().manual_seed(seed)
    query = torch.randn(heads, n, head_dim, generator=draw) * spread
    keys = torch.randn(heads, n_keys + 5, head_dim, generator=draw)
    values = torch.randn(heads, n_keys + 5, head_dim, generator=draw)
    keys[:, n_keys:] = values[:, n_keys:] = float("nan")  # nothing may look there
    query, keys, values = query.bfloat16(), keys.bfloat16(), values.bfloat16()
    return query, keys[:, :n_keys], values[:, :n_keys]


def exact(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    output, lse = attend_eager(query.unsqueeze(1), keys, values, scale, own=0)
    return output[:, 0], lse[:, 0]


@needs_tiles
@settings(deadline=None, max_examples=80)
@given(
    heads=st.integers(1, 3),
    n=st.integers(1, 200),
    n_keys=st.integers(1, 200),
    head_dim=st.sampled_from([16, 32, 48, 64, 128]),
    spread=st.sampled_from([0.0, 1.0, 8.0]),
    seed=st.integers(0, 2**16),
)
def test_it_is_attention_for_all_shapes(
    heads: int, n: int, n_keys: int, head_dim: int, spread: float, seed: int
) -> None:
    tensors = drawn(heads, n, n_keys, head_dim, seed=seed, spread=spread)
    assert can_attend_bfloat16(*tensors)
    scale = head_dim**-0.5
    output, lse = attend_bfloat16(*tensors, scale)
    expected, expected_lse = exact(*tensors, scale)
    # Weights are rounded to bfloat16, by at most 2^-9 of each, and values are below 5.
    assert torch.allclose(output, expected, atol=0.01)
    assert torch.allclose(lse, expected_lse, atol=1e-4)


@needs_tiles
@pytest.mark.parametrize("scale", [0.125, 1.0])
def test_its_error_is_no_greater_than_that_of_torchs_kernel(scale: float) -> None:
    tensors = drawn(8, 96, 4100, 64)
    query, keys, values = tensors
    expected, expected_lse = exact(*tensors, scale)
    flash, flash_lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query.unsqueeze(1), keys.unsqueeze(1), values.unsqueeze(1), 0.0, False, scale=scale
    )
    output, lse = attend_bfloat16(*tensors, scale)
    # Measured: half of it or less, since torch rounds its output to bfloat16.
    assert (output - expected).norm() <= (flash[:, 0].float() - expected).norm()
    assert (lse - expected_lse).norm() <= (flash_lse.reshape(lse.shape) - expected_lse).norm()


@needs_tiles
def test_logits_that_grow_from_block_to_block_do_not_overflow() -> None:
    query, keys, values = drawn(1, 20, 400, 64)
    grown = keys * torch.linspace(0, 300, 400)[:, None].bfloat16()
    output, lse = attend_bfloat16(query, grown, values, 1.0)
    expected, expected_lse = exact(query, grown, values, 1.0)
    assert torch.allclose(output, expected, atol=0.01)
    assert torch.allclose(lse, expected_lse, rtol=1e-5)


@needs_tiles
@pytest.mark.parametrize("which", [0, 1, 2])
def test_nan_is_not_hidden(which: int) -> None:
    tensors = drawn(2, 20, 100, 64)
    tensors[which][1, 7, 3] = float("nan")
    output, _ = attend_bfloat16(*tensors, 0.125)
    expected, _ = exact(*tensors, 0.125)
    assert torch.equal(output.isnan(), expected.isnan())
    assert output.isnan().any()


@needs_tiles
def test_threads_do_not_change_a_bit() -> None:
    tensors = drawn(5, 150, 300, 64)
    before = torch.get_num_threads()
    try:
        found = []
        for n_threads in (1, 2, 4):
            torch.set_num_threads(n_threads)
            found.append(attend_bfloat16(*tensors, 0.125))
    finally:
        torch.set_num_threads(before)
    for output, lse in found[1:]:
        assert torch.equal(output, found[0][0])
        assert torch.equal(lse, found[0][1])


@needs_tiles
def test_many_queries_in_bfloat16_go_through_it_with_their_shape() -> None:
    query, keys, values = drawn(2, 24, 300, 64)
    grouped = query.view(2, 4, 6, 64)
    output, lse = attend(grouped, keys, values, 0.125, own=0)
    expected, expected_lse = attend_bfloat16(query, keys, values, 0.125)
    assert torch.equal(output.reshape(2, 24, 64), expected)
    assert torch.equal(lse.reshape(2, 24), expected_lse)


def test_tensors_that_it_does_not_know_are_left_to_others() -> None:
    query, keys, values = drawn(2, 20, 30, 64)
    turned = keys.transpose(1, 2).contiguous().transpose(1, 2)
    assert not can_attend_bfloat16(query.float(), keys.float(), values.float())
    assert not can_attend_bfloat16(query, turned, values)
    assert not can_attend_bfloat16(query[..., :24], keys[..., :24], values[..., :24])
    assert not can_attend_bfloat16(query, keys[:, :0], values[:, :0])
    query, keys, values = query[..., :24], keys[..., :24], values[..., :24]
    output, lse = attend(query.unsqueeze(1), keys, values, 0.125, own=0)
    expected, expected_lse = exact(query, keys, values, 0.125)
    assert torch.allclose(output[:, 0].float(), expected, atol=0.02)
    assert torch.allclose(lse[:, 0], expected_lse, atol=1e-3)
