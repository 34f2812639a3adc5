"""Products of int8 matrices, exact on every device.

Floating-point sums depend on their order, so CPU and GPU differ in the last bits. Sums of integers
do not.
"""

from __future__ import annotations

from functools import lru_cache

import torch

__all__ = ["integer_matmul"]

_CUDA_ROWS = 17  # torch._int_mm on CUDA takes more than 16 rows, and multiples of 8 elsewhere
_CUDA_MULTIPLE = 8


def integer_matmul(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """``left @ right`` as int32; both int8 matrices on one device.

    No sum may leave the range of int32, which 130,000 products cannot.
    """
    if 0 in (*left.shape, right.shape[1]):
        shape = (left.shape[0], right.shape[1])
        return torch.zeros(shape, dtype=torch.int32, device=left.device)
    left, right = _plain(left), _plain(right)
    if left.device.type == "cuda":
        return _on_cuda(left, right)
    if left.device.type == "cpu" and _cpu_kernel_is_exact():
        return torch._int_mm(left, right)
    return left.to(torch.int32) @ right.to(torch.int32)


def _plain(matrix: torch.Tensor) -> torch.Tensor:
    """``matrix`` with the strides of its shape.

    The stride of a single row is free, so numpy and torch call it contiguous whatever it is; the
    kernel takes it for the row's length, and reads past it.
    """
    if matrix.stride() == (matrix.shape[1], 1):
        return matrix
    return torch.empty(matrix.shape, dtype=matrix.dtype, device=matrix.device).copy_(matrix)


@lru_cache(maxsize=1)
def _cpu_kernel_is_exact() -> bool:
    """Whether torch's kernel is there and does not saturate, as some older vector units do."""
    extremes = torch.tensor([-128, 127, 127, -128, 127, 1, -128], dtype=torch.int8)
    left = extremes.repeat(64)[: 8 * 48].view(8, 48).contiguous()
    right = extremes.flip(0).repeat(64)[: 48 * 16].repeat(2)[: 48 * 16].view(48, 16).contiguous()
    try:
        product = torch._int_mm(left, right)
    except (AttributeError, RuntimeError):
        return False
    return bool(torch.equal(product, left.to(torch.int32) @ right.to(torch.int32)))


def _on_cuda(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    rows, inner, columns = left.shape[0], left.shape[1], right.shape[1]
    inner_pad = -inner % _CUDA_MULTIPLE
    column_pad = -columns % _CUDA_MULTIPLE
    row_pad = max(0, _CUDA_ROWS - rows)
    pad = torch.nn.functional.pad
    padded = torch._int_mm(
        pad(left, (0, inner_pad, 0, row_pad)), pad(right, (0, column_pad, 0, inner_pad))
    )
    return padded[:rows, :columns]
