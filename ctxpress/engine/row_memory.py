"""Memory of rows that have ended, kept for those to come.

Touching memory that the process did not have costs as much as decoding what is put there, and on
virtual machines that give free memory back to their host several times that. So the buffers of a
few rows stay with the process.
"""

from __future__ import annotations

import math
import weakref
from collections import deque

import numpy as np
import torch

from ctxpress.cache.codecs.tensor_bytes import empty_tensor

__all__ = ["RowMemory"]

_LEAST_BYTES = 2**22  # less is quickly had
_MOST_KEPT = 2


class RowMemory:
    """Hands out tensors; their memory comes back when the last view of them is gone.

    ``max_bytes``: larger ones are not kept. At most two are. Safe to use from many threads.
    """

    def __init__(self, max_bytes: int = 2**29) -> None:
        self._max_bytes = max_bytes
        self._free: deque[np.ndarray] = deque(maxlen=_MOST_KEPT)

    @property
    def held_bytes(self) -> int:
        """What is kept and not in use."""
        return sum(one.nbytes for one in list(self._free))

    def empty(
        self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> torch.Tensor:
        """A tensor of float32, float16 or bfloat16 that holds anything."""
        n_bytes = math.prod(shape) * dtype.itemsize
        if device.type != "cpu" or not _LEAST_BYTES <= n_bytes <= self._max_bytes:
            return empty_tensor(shape, dtype, device)
        memory = self._kept(n_bytes)
        if memory is None:
            # A little more, so that a row that is a little longer finds room in it.
            memory = np.empty(n_bytes + n_bytes // 8, np.uint8)
        view = memory[:n_bytes].view(f"i{dtype.itemsize}")
        # torch holds on to this very array as long as there is a tensor of it.
        weakref.finalize(view, self._free.append, memory).atexit = False
        return torch.from_numpy(view).view(dtype).view(shape)

    def _kept(self, n_bytes: int) -> np.ndarray | None:
        """Memory that is large enough, and not much too large."""
        for _ in range(len(self._free)):
            try:
                memory = self._free.popleft()
            except IndexError:  # another thread took it
                return None
            if n_bytes <= memory.nbytes <= 2 * n_bytes:
                return memory
            self._free.append(memory)
        return None
