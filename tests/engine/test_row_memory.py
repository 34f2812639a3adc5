"""Buffers of rows that have ended serve the next ones, and never two at a time."""

from __future__ import annotations

import gc

import torch

from ctxpress.engine.row_memory import RowMemory

SHAPE, CPU = (2, 2**20), torch.device("cpu")


def test_memory_comes_back_when_the_last_view_is_gone() -> None:
    memory = RowMemory()
    tensor = memory.empty(SHAPE, torch.bfloat16, CPU)
    place = tensor.data_ptr()
    array = tensor[1, 5:].view(torch.int16).numpy()
    del tensor
    gc.collect()
    assert memory.held_bytes == 0  # an array of numpy still looks there
    other = memory.empty(SHAPE, torch.bfloat16, CPU)
    assert other.data_ptr() != place
    del array
    gc.collect()
    assert memory.held_bytes > 0
    assert memory.empty(SHAPE, torch.bfloat16, CPU).data_ptr() == place


def test_memory_serves_other_shapes_and_dtypes_that_fit() -> None:
    memory = RowMemory()
    place = memory.empty(SHAPE, torch.bfloat16, CPU).data_ptr()
    longer = memory.empty((2, 2**20 + 2**16), torch.bfloat16, CPU)
    assert longer.data_ptr() == place
    assert longer.shape == (2, 2**20 + 2**16)
    del longer
    exact = memory.empty((2**20,), torch.float32, CPU)
    assert exact.data_ptr() == place
    assert exact.fill_(1.5).sum() == 1.5 * 2**20
    del exact
    assert memory.empty((3 * 2**22,), torch.bfloat16, CPU).data_ptr() != place  # too small for it


def test_what_is_kept_is_bounded() -> None:
    memory = RowMemory(max_bytes=2**23)
    several = [memory.empty(SHAPE, torch.bfloat16, CPU) for _ in range(4)]
    large = memory.empty((2**23,), torch.bfloat16, CPU)
    small = memory.empty((100,), torch.bfloat16, CPU)
    del several, large, small
    gc.collect()
    assert 0 < memory.held_bytes <= 2 * 2**23
