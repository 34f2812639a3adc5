"""KV that is still on its way: its layers become known one by one, in any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress

import torch

from ctxpress.cache.container import ContainerHeader
from ctxpress.cache.identity import KVIdentity
from ctxpress.cache.kv import KVBlock
from ctxpress.engine.placing import place_layer
from ctxpress.engine.rope import RotaryAngles
from ctxpress.errors import CodecError

__all__ = ["ArrivingKV", "KVLoadError", "LayerKV"]

LayerKV = tuple[torch.Tensor, torch.Tensor]


class KVLoadError(CodecError):
    """KV that was announced did not come, or was not what it should be. Text can be run instead."""


class ArrivingKV:
    """A block whose layers are given one after the other; says of itself what a ``KVBlock`` says.

    ``header``: of the container that arrives. Whoever loads it calls :meth:`put` for every run of
    layers, or :meth:`fail`, once for all; whoever uses it waits for single layers. ``kept``: the
    layers stay here until the block is gone. Else whoever uses it says with :meth:`release` that
    it has been placed as often as it will be, and what lies in its place is forgotten here.
    """

    def __init__(self, header: ContainerHeader, *, kept: bool = True) -> None:
        layout = header.layout
        self.header = header
        self.identity: KVIdentity = header.identity
        self.position_start = header.position_start
        self.keys_rotated = header.keys_rotated
        self.n_layers, self.n_kv_heads = layout.n_layers, layout.n_kv_heads
        self.n_tokens, self.head_dim = layout.n_tokens, layout.head_dim
        self.kept = kept
        self._released = False
        self._lock = threading.Lock()
        self._layers: list[Future[LayerKV]] = [Future() for _ in range(self.n_layers)]

    @property
    def first_layer(self) -> Future[LayerKV]:
        """Done when computing may begin, or when the load has failed."""
        return self._layers[0]

    @property
    def late_layer(self) -> Future[LayerKV] | None:
        """One that has not come and has not failed; None when there is none."""
        return next((layer for layer in self._layers if not layer.done()), None)

    def put(self, first: int, part: KVBlock) -> None:
        """Layers ``first`` and following are here. What waits for them runs in this thread."""
        for layer in range(part.n_layers):
            with suppress(InvalidStateError):  # it was failed meanwhile
                self._layers[first + layer].set_result((part.keys[layer], part.values[layer]))
        if not self.kept:
            self._forget(range(first, first + part.n_layers))

    def fail(self, error: BaseException) -> None:
        """What has not come yet will not come."""
        for layer in self._layers:
            with suppress(InvalidStateError):  # it has come
                layer.set_exception(error)

    def release(self) -> None:
        """It will not be placed again: of a block that is not kept, only what is awaited stays."""
        with self._lock:
            self._released = True
        if not self.kept:
            self._forget(range(self.n_layers))

    def _forget(self, layers: Iterable[int]) -> None:
        with self._lock:
            if not self._released:
                return
            for layer in layers:
                load = self._layers[layer]
                if load.done() and load.exception() is None:
                    self._layers[layer] = _failed(KVLoadError("the layer was placed already"))

    def whole(self) -> KVBlock:
        """The block, all layers of which are here; a copy.

        :raises ValueError: one is not, or not any more.
        """
        if not all(layer.done() and layer.exception() is None for layer in self._layers):
            raise ValueError("the block is not whole")
        pairs = [layer.result() for layer in self._layers]
        return KVBlock(
            keys=torch.stack([keys for keys, _ in pairs]),
            values=torch.stack([values for _, values in pairs]),
            position_start=self.position_start,
            keys_rotated=self.keys_rotated,
            identity=self.identity,
        )

    def placed(
        self,
        angles: RotaryAngles,
        dtype: torch.dtype,
        rooms: Sequence[LayerKV | None],
    ) -> list[Future[LayerKV]]:
        """The layers with keys at the positions of ``angles``, as ``SequenceKV`` takes them.

        Keys that came rotated stay as they are. ``rooms``: where each layer is to lie, or None
        for tensors of its own. The futures raise :class:`KVLoadError`.
        """

        rotated = self.keys_rotated  # not self: futures that hold on to it would hold each other

        def turn(layer: int) -> Callable[[LayerKV], LayerKV]:
            return lambda pair: place_layer(
                pair, angles, layer, dtype, rooms[layer], rotated=rotated
            )

        return [_after(load, turn(layer)) for layer, load in enumerate(self._layers)]


def _failed(error: KVLoadError) -> Future[LayerKV]:
    result: Future[LayerKV] = Future()
    result.set_exception(error)
    return result


def _after(load: Future[LayerKV], then: Callable[[LayerKV], LayerKV]) -> Future[LayerKV]:
    """``then`` of what ``load`` gives, computed in the thread that gives it."""
    result: Future[LayerKV] = Future()

    def run(done: Future[LayerKV]) -> None:
        try:
            result.set_result(then(done.result()))
        except Exception as error:
            failure = KVLoadError(f"KV did not come: {error}")
            failure.__cause__ = error
            result.set_exception(failure)

    load.add_done_callback(run)
    return result
