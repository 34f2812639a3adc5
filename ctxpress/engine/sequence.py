"""Keys and values of one sequence while it is computed, layer by layer.

Rows of a batch have lengths of their own, so each has buffers of its own; nothing is padded and a
row that ends leaves nothing behind. Keys are as attention meets them: rotated to their positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

import torch

from ctxpress.cache.codecs.tensor_bytes import empty_tensor
from ctxpress.engine.row_memory import RowMemory
from ctxpress.errors import CodecError

__all__ = ["SequenceKV"]

_GROWTH = 1.5
_LEAST_ROOM = 64


class SequenceKV:
    """Growing keys and values, ``(n_kv_heads, n_tokens, head_dim)`` in each layer.

    Not for use by two threads at a time. Layers may be given as futures, which are waited for
    where the layer is first read: so a layer is loaded while those before it compute.
    """

    def __init__(self, n_layers: int) -> None:
        self._layers = [_Layer() for _ in range(n_layers)]

    @property
    def n_layers(self) -> int:
        return len(self._layers)

    @property
    def n_tokens(self) -> int:
        """Tokens in the last layer, which is behind the others in the middle of a forward pass."""
        return self._layers[-1].n_tokens

    @property
    def size_bytes(self) -> int:
        """What the buffers take up, room for growth included."""
        return sum(layer.size_bytes for layer in self._layers)

    def extend(
        self, layer: int, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append tokens ``(n_kv_heads, n, head_dim)`` to a layer; all that it holds now.

        The result is a view that the next call may invalidate.
        """
        return self._layers[layer].extend(keys, values)

    def append(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Append tokens to all layers: ``(n_layers, n_kv_heads, n, head_dim)``."""
        for layer, one_keys, one_values in zip(self._layers, keys, values, strict=True):
            layer.append(one_keys, one_values)

    def reserve(
        self,
        n_tokens: int,
        *,
        n_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
        memory: RowMemory | None = None,
    ) -> None:
        """Make room for ``n_tokens`` in all, so that appending them moves nothing.

        For an empty sequence. What still comes can then be written to :meth:`room` by whoever
        brings it. ``memory``: where the buffers come from.
        """
        shape = (self.n_layers, 2, n_kv_heads, n_tokens + _LEAST_ROOM, head_dim)
        empty = empty_tensor if memory is None else memory.empty
        for layer, buffers in zip(self._layers, empty(shape, dtype, device), strict=True):
            layer.reserve(*buffers)

    def room(self, layer: int, n_tokens: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Where the next ``n_tokens`` of a layer will lie, if that is reserved: keys and values."""
        return self._layers[layer].room(n_tokens)

    def append_later(
        self, n_tokens: int, loads: Sequence[Future[tuple[torch.Tensor, torch.Tensor]]]
    ) -> None:
        """Append ``n_tokens`` whose layers are still on their way, a future for each layer.

        Reading a layer waits for it and raises what the future raises. What lies in the layer's
        :meth:`room` is not copied again.
        """
        for layer, load in zip(self._layers, loads, strict=True):
            layer.extend_later(n_tokens, load)

    def layer(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of a layer, ``(n_kv_heads, n_tokens, head_dim)``; views."""
        return self._layers[layer].view()

    def slice(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Copies of tokens ``[start, stop)``: ``(n_layers, n_kv_heads, tokens, head_dim)``."""
        pairs = [layer.view() for layer in self._layers]
        return (
            torch.stack([keys[:, start:stop] for keys, _ in pairs]),
            torch.stack([values[:, start:stop] for _, values in pairs]),
        )

    def truncate(self, n_tokens: int) -> None:
        """Forget all tokens from ``n_tokens`` on."""
        for layer in self._layers:
            layer.truncate(n_tokens)


class _Layer:
    """The buffers of one layer: ``(n_kv_heads, room, head_dim)``, of which ``n_tokens`` count."""

    __slots__ = ("_keys", "_pending", "_values", "n_tokens")

    def __init__(self) -> None:
        self._keys: torch.Tensor | None = None
        self._values: torch.Tensor | None = None
        self._pending: list[tuple[int, int, Future[tuple[torch.Tensor, torch.Tensor]]]] = []
        self.n_tokens = 0

    @property
    def size_bytes(self) -> int:
        if self._keys is None:
            return 0
        return 2 * int(self._keys.numel()) * int(self._keys.element_size())

    def reserve(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self._keys, self._values = keys, values

    def room(self, n_tokens: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        start, stop = self.n_tokens, self.n_tokens + n_tokens
        if self._keys is None or self._values is None or self._keys.shape[1] < stop:
            return None
        return self._keys[:, start:stop], self._values[:, start:stop]

    def append(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Behind tokens that are still on their way it waits with them, not for them."""
        if not self._pending:
            self.extend(keys, values)
            return
        here: Future[tuple[torch.Tensor, torch.Tensor]] = Future()
        here.set_result((keys, values))
        self.extend_later(keys.shape[1], here)

    def extend(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self._settle()
        start, stop = self.n_tokens, self.n_tokens + keys.shape[1]
        own_keys, own_values = self._room(stop, keys)
        with torch.inference_mode():  # a forward pass may have made the buffers in that mode
            own_keys[:, start:stop] = keys
            own_values[:, start:stop] = values
        self.n_tokens = stop
        return own_keys[:, :stop], own_values[:, :stop]

    def extend_later(self, n_tokens: int, load: Future[tuple[torch.Tensor, torch.Tensor]]) -> None:
        self._pending.append((self.n_tokens, n_tokens, load))
        self.n_tokens += n_tokens

    def view(self) -> tuple[torch.Tensor, torch.Tensor]:
        self._settle()
        if self._keys is None or self._values is None:
            raise ValueError("the sequence holds no tokens yet")
        return self._keys[:, : self.n_tokens], self._values[:, : self.n_tokens]

    def truncate(self, n_tokens: int) -> None:
        self._settle()
        self.n_tokens = min(self.n_tokens, n_tokens)

    def _settle(self) -> None:
        while self._pending:
            start, n_tokens, load = self._pending[0]
            keys, values = load.result()
            if keys.shape[1] != n_tokens or values.shape != keys.shape:
                raise CodecError(
                    f"loaded keys of {tuple(keys.shape)} where {n_tokens} tokens were announced"
                )
            own_keys, own_values = self._room(self.n_tokens, keys, used=start)
            for own, tensor in ((own_keys, keys), (own_values, values)):
                place = own[:, start : start + n_tokens]
                if place.data_ptr() != tensor.data_ptr():
                    with torch.inference_mode():
                        place.copy_(tensor)
            del self._pending[0]

    def _room(
        self, n_tokens: int, like: torch.Tensor, *, used: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Buffers with room for ``n_tokens``, the first ``used`` of them kept."""
        used = self.n_tokens if used is None else used
        if self._keys is None or self._values is None or self._keys.shape[1] < n_tokens:
            # The first tokens get little more than they need: many sequences never grow.
            wanted = n_tokens if self._keys is None else int(n_tokens * _GROWTH)
            shape = (like.shape[0], wanted + _LEAST_ROOM, like.shape[2])
            keys, values = like.new_empty(shape), like.new_empty(shape)
            if self._keys is not None and self._values is not None:
                keys[:, :used] = self._keys[:, :used]
                values[:, :used] = self._values[:, :used]
            self._keys, self._values = keys, values
        return self._keys, self._values
