"""Keys that are turned and written in one pass are those that torch turns."""

from __future__ import annotations

import pytest
import torch

from ctxpress.engine.placing import can_place, place_keys
from ctxpress.engine.thread_pools import single_threaded_pool
from tests.engine.models import rotary_model

MODEL = rotary_model()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_keys_are_placed_as_torch_rotates_them(dtype: torch.dtype) -> None:
    positions = torch.arange(5, 16)
    angles = MODEL.rope.at(positions)
    keys = torch.randn(2, 11, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    keys[0, 3, 2], keys[1, 4, 9] = float("nan"), float("inf")
    buffer = torch.zeros(2, 40, 16, dtype=dtype)
    assert can_place(keys, buffer)
    place_keys(keys, *angles.layers[1], buffer[:, 20:31])
    expected = angles.rotate(keys, 1).to(dtype)
    tolerance = {torch.bfloat16: 2**-8, torch.float32: 2**-21}[dtype]  # the last bit, fused or not
    placed = buffer[:, 20:31]
    torch.testing.assert_close(placed, expected, rtol=tolerance, atol=1e-6, equal_nan=True)
    assert not buffer[:, :20].any()
    assert not buffer[:, 31:].any()


def test_a_place_of_another_shape_is_refused_before_anything_is_written() -> None:
    keys = torch.zeros(2, 11, 16, dtype=torch.bfloat16)
    cos, sin = torch.zeros(11, 16), torch.zeros(11, 16)
    for place in (torch.zeros(2, 10, 16), torch.zeros(1, 11, 16), torch.zeros(2, 11, 8)):
        with pytest.raises(ValueError, match="for a place of"):
            place_keys(keys, cos, sin, place.bfloat16())
    with pytest.raises(ValueError, match="for a place of"):
        place_keys(keys, cos, sin[:10], keys.clone())
    with pytest.raises(ValueError, match="next to each other"):
        place_keys(keys, cos, sin, torch.zeros(2, 16, 11, dtype=torch.bfloat16).transpose(1, 2))


def test_other_types_are_left_to_torch() -> None:
    half, single = torch.zeros(1, dtype=torch.float16), torch.zeros(1)
    assert not can_place(half, half)
    assert not can_place(half, single)


def test_threads_of_a_pool_compute_alone_and_others_as_before() -> None:
    before = torch.get_num_threads()
    pool = single_threaded_pool(2, "alone")
    assert pool.submit(torch.get_num_threads).result() == 1
    pool.shutdown()
    assert torch.get_num_threads() == before
