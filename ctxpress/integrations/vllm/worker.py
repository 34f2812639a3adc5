"""The connector's half in vLLM's workers: tensors out of the pages, and into them."""

from __future__ import annotations

import threading
import time
from typing import Any

import torch

from ctxpress.integrations.vllm.loading import LoadedRequest, Loader
from ctxpress.integrations.vllm.saving import Saver
from ctxpress.integrations.vllm.transfers import Measured, Transfers

__all__ = ["StepClock", "WorkerSide"]

_IDLE_WAIT_S = 0.002
_FLUSH_S = 10.0


class WorkerSide:
    """Starts what a step asks for, and tells what came of it. Called from the model's thread."""

    def __init__(self) -> None:
        self._loader: Loader | None = None
        self._saver: Saver | None = None
        self._changed = threading.Condition()
        self._loading = 0
        self._done: list[LoadedRequest] = []
        self._failed_blocks: set[int] = set()
        self._measured = Measured()
        self._clock = StepClock()

    def equip(self, loader: Loader, saver: Saver, clock: StepClock) -> None:
        """The pages are there: work may begin."""
        self._loader, self._saver, self._clock = loader, saver, clock

    def begin_step(self) -> None:
        """The model is about to compute."""
        self._clock.start()

    def load(self, transfers: Transfers) -> None:
        """Begin the loads of a step."""
        for load in transfers.loads:
            if self._loader is None:
                raise RuntimeError("vLLM asked for a load before it registered its KV caches")
            with self._changed:
                self._loading += 1
            self._loader.begin(load)

    def end_step(self, transfers: Transfers) -> None:
        """The model has computed, or its kernels are queued: copy out what shall be saved."""
        self._clock.stop(transfers.prefill)
        for save in transfers.saves:
            if self._saver is not None:
                self._saver.begin(save)
        if transfers.idle:
            self._wait()

    def finished(self) -> set[str]:
        """Requests whose loads have ended since the last time, well or not."""
        with self._changed:
            done, self._done = self._done, []
        for one in done:
            self._failed_blocks |= one.failed_blocks
            self._measured.decodes.extend(one.decodes)
            if not one.failed_blocks and one.link_ms > 0:
                self._measured.links.append((one.n_bytes, one.link_ms))
        return {one.load.request_id for one in done}

    def failed_blocks(self) -> set[int]:
        """Blocks that hold nothing of use, of the requests that :meth:`finished` named."""
        failed, self._failed_blocks = self._failed_blocks, set()
        return failed

    def measured(self) -> Measured | None:
        """Timings since the last time."""
        self._measured.prefills.extend(self._clock.take())
        if not self._measured:
            return None
        measured, self._measured = self._measured, Measured()
        return measured

    def loaded(self, result: LoadedRequest) -> None:
        """A load has ended; from the background's thread."""
        with self._changed:
            self._loading -= 1
            self._done.append(result)
            self._changed.notify_all()

    def close(self) -> None:
        """Write what waits to be written, for a while; then end the threads."""
        if self._saver is not None:
            self._saver.flush(_FLUSH_S)
            self._saver.close()
        if self._loader is not None:
            self._loader.close()

    def _wait(self) -> None:
        """Where there is nothing but loads to wait for, leave them the core."""
        with self._changed:
            if self._loading and not self._done:
                self._changed.wait(_IDLE_WAIT_S)


class StepClock:
    """How long the steps of the model take, where they are one prefill."""

    def __init__(self, device: torch.device | None = None) -> None:
        self._cuda = device is not None and device.type == "cuda"
        self._begun_s = 0.0
        self._begun: Any = None
        self._open: list[tuple[tuple[int, int], Any, Any]] = []
        self._found: list[tuple[int, int, float]] = []

    def start(self) -> None:
        """The step begins."""
        self._begun_s = time.perf_counter()
        if self._cuda:
            self._begun = torch.cuda.Event(enable_timing=True)
            self._begun.record()

    def stop(self, prefill: tuple[int, int] | None) -> None:
        """The step ends, on the device perhaps later; see ``Transfers.prefill``."""
        if prefill is None:
            return
        if self._cuda:
            end = torch.cuda.Event(enable_timing=True)
            end.record()
            self._open.append((prefill, self._begun, end))
        else:
            self._found.append((*prefill, (time.perf_counter() - self._begun_s) * 1000))

    def take(self) -> list[tuple[int, int, float]]:
        """Tokens, those before them, milliseconds; what a GPU has not done yet comes later."""
        while self._open and self._open[0][2].query():
            prefill, begun, end = self._open.pop(0)
            self._found.append((*prefill, begun.elapsed_time(end)))
        found, self._found = self._found, []
        return found
