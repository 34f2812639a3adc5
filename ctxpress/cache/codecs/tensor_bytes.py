"""Tensors as little-endian bytes in row-major order, and back, with one copy; room for them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

__all__ = ["copy_bytes_into", "empty_tensor", "tensor_to_bytes"]

_INTEGERS: dict[int, tuple[torch.dtype, np.dtype[np.signedinteger[Any]]]] = {
    4: (torch.int32, np.dtype("<i4")),
    2: (torch.int16, np.dtype("<i2")),
}


def tensor_to_bytes(tensor: torch.Tensor) -> memoryview:
    """The bytes of a tensor of float32, float16 or bfloat16; a view where that is possible."""
    integers, little_endian = _INTEGERS[tensor.element_size()]
    array = tensor.contiguous().cpu().view(integers).numpy()
    return memoryview(array.astype(little_endian, copy=False).reshape(-1).view(np.uint8))


def copy_bytes_into(tensor: torch.Tensor, data: memoryview) -> None:
    """Fill ``tensor``, of any strides and device, with exactly its number of bytes."""
    integers, little_endian = _INTEGERS[tensor.element_size()]
    array = np.frombuffer(data, little_endian).reshape(tensor.shape)
    if tensor.device.type == "cpu":
        tensor.view(integers).numpy()[...] = array
    else:
        native = torch.from_numpy(array.astype(little_endian.newbyteorder("="), copy=True))
        tensor.copy_(native.view(tensor.dtype))


def empty_tensor(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A tensor of float32, float16 or bfloat16 that holds anything; large ones in huge pages."""
    if device.type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    # numpy asks the system for huge pages where an array is large: the first touch of small ones
    # costs several times what decoding does.
    raw = np.empty(math.prod(shape), f"i{dtype.itemsize}")
    return torch.from_numpy(raw).view(dtype).view(shape)
