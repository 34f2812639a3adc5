"""vLLM's pages of KV, read and written whatever order a backend keeps inside a block.

Backends pack blocks as their kernels like them (CPU ones by instruction set), so only a backend's
own update call knows where an element goes. Writing uses that call. For reading, its order is
learned once: a block whose elements are numbered is written through the same call, and looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ctxpress.cache.kv import DTYPES
from ctxpress.errors import ConfigError

__all__ = ["PagedKV"]

_DIGIT = 128  # whole numbers below it are exact in every dtype of KV


class PagedKV:
    """The KV cache of one worker: layers in order, slots as vLLM counts them.

    ``layers``: vLLM's attention layers by name. ``caches``: their pages by the same names, each
    ``(n_blocks, n_kv_heads, block tokens, 2 * head_dim)``. ``block_size``: tokens of a block as the
    scheduler counts them, a multiple of the pages' own.

    :raises ConfigError: the pages have another form, or the backend cannot be written to.
    """

    def __init__(
        self, layers: Mapping[str, Any], caches: Mapping[str, torch.Tensor], block_size: int
    ) -> None:
        names = sorted(caches, key=_layer_number)
        if not names:
            raise ConfigError("vLLM registered no KV caches")
        self._layers = [layers[name] for name in names]
        self._caches = [caches[name] for name in names]
        first = self._caches[0]
        for name, cache in zip(names, self._caches, strict=True):
            if cache.dim() != 4 or cache.dtype not in DTYPES.values():
                raise ConfigError(
                    f"{name}: pages of {tuple(cache.shape)}, {cache.dtype}; the connector handles "
                    "(blocks, heads, tokens, 2 * head_dim) of " + ", ".join(DTYPES)
                )
            if cache.shape[1:] != first.shape[1:] or cache.dtype != first.dtype:
                raise ConfigError(f"{name}: its pages differ from those of {names[0]}")
            if not callable(getattr(layers[name].impl, "do_kv_cache_update", None)):
                backend = type(layers[name].impl).__name__
                raise ConfigError(f"{name}: the backend {backend} has no update of its own")
        self.n_kv_heads, self._page_tokens, width = (int(size) for size in first.shape[1:])
        self.head_dim = width // 2
        self._block_size = block_size
        if block_size % self._page_tokens:
            raise ConfigError(
                f"blocks of {block_size} tokens are no multiple of pages of {self._page_tokens}"
            )
        orders = [self._learned(index) for index in range(len(names))]
        # Usually one for all layers; kept once then.
        self._orders = [orders[0] if torch.equal(o, orders[0]) else o for o in orders]

    @property
    def n_layers(self) -> int:
        return len(self._layers)

    @property
    def dtype(self) -> torch.dtype:
        return self._caches[0].dtype

    @property
    def device(self) -> torch.device:
        return self._caches[0].device

    def slots(self, block_ids: Sequence[int], first: int, n_tokens: int) -> torch.Tensor:
        """Where tokens ``first``, … of a request go whose blocks are ``block_ids``."""
        places = torch.arange(first, first + n_tokens)
        blocks = torch.tensor(block_ids, dtype=torch.int64)[places // self._block_size]
        return (blocks * self._block_size + places % self._block_size).to(self.device)

    def write(
        self, layer: int, keys: torch.Tensor, values: torch.Tensor, slots: torch.Tensor
    ) -> None:
        """Put ``(n_kv_heads, n_tokens, head_dim)`` of one layer into ``slots``."""
        module = self._layers[layer]
        key, value = (
            tensor.to(self.device, self.dtype).transpose(0, 1).contiguous()
            for tensor in (keys, values)
        )
        module.impl.do_kv_cache_update(module, key, value, self._caches[layer], slots)

    def read(
        self, block_ids: Sequence[int], first: int, n_tokens: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Copies of keys and values, ``(n_layers, n_kv_heads, n_tokens, head_dim)``, on the device.

        Of tokens ``first``, … of the request whose blocks are ``block_ids``.
        """
        per_block = self._block_size // self._page_tokens
        begin, end = first // self._page_tokens, -(-(first + n_tokens) // self._page_tokens)
        pages = torch.tensor(
            [block_ids[p // per_block] * per_block + p % per_block for p in range(begin, end)],
            device=self.device,
        )
        offset = first - begin * self._page_tokens
        shape = (self.n_layers, self.n_kv_heads, n_tokens, self.head_dim)
        keys = torch.empty(shape, dtype=self.dtype, device=self.device)
        values = torch.empty_like(keys)
        for layer, (cache, order) in enumerate(zip(self._caches, self._orders, strict=True)):
            found = cache[pages].flatten(1)[:, order]
            found = found.view(
                len(pages), 2, self.n_kv_heads, self._page_tokens, self.head_dim
            ).permute(1, 2, 0, 3, 4)
            flat = found.reshape(2, self.n_kv_heads, -1, self.head_dim)
            both = flat[:, :, offset : offset + n_tokens]
            keys[layer].copy_(both[0])
            values[layer].copy_(both[1])
        return keys, values

    def _learned(self, layer: int) -> torch.Tensor:
        """Where in a flat page each element of (keys, values), heads, tokens, dimensions lies.

        Block 0 is vLLM's null block, which nothing reads; it is left as it was.

        :raises ConfigError: the backend writes numbers that cannot be found again.
        """
        cache, module = self._caches[layer], self._layers[layer]
        shape = (2, self.n_kv_heads, self._page_tokens, self.head_dim)
        numbers = torch.arange(cache[0].numel(), device=self.device).view(shape)
        slots = torch.arange(self._page_tokens, device=self.device)
        before = cache[0].clone()
        found = torch.zeros(numbers.numel(), dtype=torch.int64, device=self.device)
        scale = 1
        while scale < numbers.numel():
            digit = (numbers // scale % _DIGIT).to(cache.dtype)
            key, value = (part.transpose(0, 1).contiguous() for part in digit)
            module.impl.do_kv_cache_update(module, key, value, cache, slots)
            found += cache[0].flatten().to(torch.int64) * scale
            scale *= _DIGIT
        cache[0].copy_(before)
        order = torch.argsort(found)
        if not torch.equal(found[order], numbers.flatten()):
            raise ConfigError(
                f"{type(module.impl).__name__} does not keep what is written; is the KV cache "
                "quantised? The connector needs --kv-cache-dtype auto"
            )
        return order


def _layer_number(name: str) -> tuple[int, str]:
    found = re.search(r"\d+", name)
    return (int(found.group()) if found else 0, name)
