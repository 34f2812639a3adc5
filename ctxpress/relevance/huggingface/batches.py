"""Runs a checkpoint's model over windows: padded, masked, batched by length, errors made ours."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ctxpress.errors import ModelError
from ctxpress.models.batching import WindowBatcher
from ctxpress.models.checkpoint import Checkpoint, padding_id
from ctxpress.relevance.huggingface.framing import RowArray

__all__ = ["BatchedModel", "FloatArray"]

FloatArray = npt.NDArray[np.float32]

_BATCH_WINDOWS = {"cpu": 2, "cuda": 32}
"""Full windows a batch. A CPU gains nothing from more, and between batches a request can end."""


class BatchedModel:
    """A model as a function from windows to float32 arrays. Thread-safe.

    Windows of all concurrent calls share batches of like lengths. `reduce(output, mask)` makes a
    torch tensor of shape (n_windows, …) of what the model returns; `mask`, (n_windows, n_tokens),
    is false where there is padding. It is tried once when this is built.

    :raises ModelError: the model cannot be run on windows of this kind.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        reduce: Callable[[Any, Any], Any],
        *,
        window_tokens: int,
        batch_size: int | None,
        trial: RowArray,
    ) -> None:
        self._name = checkpoint.name
        self._model = checkpoint.model
        self._device = checkpoint.device
        self._reduce = reduce
        self._pad = padding_id(checkpoint)
        # Both have a say: some models take no types, some tokenizers make up types.
        self._has_types = (
            "token_type_ids" in checkpoint.tokenizer.model_input_names
            and "token_type_ids" in inspect.signature(self._model.forward).parameters
        )
        windows = _BATCH_WINDOWS[checkpoint.device] if batch_size is None else batch_size
        self._batcher = WindowBatcher(self._compute, windows * window_tokens)
        self._compute([trial])

    def run(
        self, windows: Sequence[RowArray], checkpoint: Callable[[], None] | None = None
    ) -> list[FloatArray]:
        """What the model makes of each window; equal windows are computed once.

        `checkpoint` is called between batches and may raise to stop.

        :raises ModelError: the model failed on one of them.
        """
        if checkpoint is not None:
            checkpoint()
        places: dict[bytes, int] = {}
        unique: list[RowArray] = []
        spots = []
        for window in windows:
            place = places.setdefault(window.tobytes(), len(unique))
            if place == len(unique):
                unique.append(window)
            spots.append(place)
        found = self._batcher.score(unique, checkpoint)
        return [found[spot] for spot in spots]

    def _compute(self, windows: Sequence[RowArray]) -> list[FloatArray]:
        """One batch."""
        import torch

        if not windows:
            return []
        lengths = np.array([len(window) for window in windows])
        rows = np.zeros((len(windows), int(lengths.max()), 2), np.int64)
        rows[:, :, 0] = self._pad
        for row, window in zip(rows, windows, strict=True):
            row[: len(window)] = window
        mask = torch.from_numpy(np.arange(rows.shape[1]) < lengths[:, None]).to(self._device)
        inputs = {"input_ids": torch.from_numpy(rows[:, :, 0].copy()).to(self._device)}
        if self._has_types:
            inputs["token_type_ids"] = torch.from_numpy(rows[:, :, 1].copy()).to(self._device)
        try:
            with torch.inference_mode():
                output = self._model(**inputs, attention_mask=mask.long())
                found = self._reduce(output, mask).cpu().numpy()
        except Exception as error:  # torch's, out of memory included, and any the model's code has
            message = str(error).strip().splitlines() or [type(error).__name__]
            raise ModelError(f"{self._name}: failed on a window: {message[0]}") from error
        if not np.isfinite(found).all():
            raise ModelError(f"{self._name}: made something else than finite numbers of a window")
        return list(np.asarray(found, np.float32))
