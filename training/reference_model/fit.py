"""The training loop: Muon for matrices, AdamW for the rest, a trapezoidal learning rate."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional

from training.reference_model.muon import Muon
from training.reference_model.rows import ANSWER_WEIGHT, TEXT_WEIGHT, Batch, RowMaker


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train."""

    n_steps: int
    batch_tokens: int
    matrix_rate: float = 0.006
    """Learning rate of Muon."""
    other_rate: float = 3e-3
    """Learning rate of AdamW: embeddings and norms."""
    opening_steps: int = 103
    """So many steps, mostly of repeated spans, run at the opening rates."""
    opening_matrix_rate: float = 0.02
    opening_other_rate: float = 1e-2
    warmup_steps: int = 60
    decay_share: float = 0.3
    """The last part of all steps, in which both rates fall to zero."""
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    threads: int = 2
    compiled: bool = True
    """Whether the backbone goes through `torch.compile`: a third faster on CPUs."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of a step, or the mean of several; not a number where a step has no such tokens."""

    loss: float
    """Weighted, in nats a token."""
    answers_correct: float
    """Fraction of the tokens of answers that are the most probable one."""
    text_nats: float
    """Mean negative log probability of a token of natural text."""

    @staticmethod
    def mean(several: Sequence[Figures]) -> Figures:
        columns = np.array([astuple(figures) for figures in several])
        return Figures(*(float(np.nanmean(column)) for column in columns.T))


class Trainer:
    """Holds model and optimizers; `state` files are safetensors, so nothing is unpickled."""

    def __init__(self, model: Any, rows: RowMaker, recipe: Recipe) -> None:
        self.model = model
        self.step = 0
        self._backbone = model.model
        if recipe.compiled:
            self._backbone = torch.compile(model.model, dynamic=False)
        self._rows = rows
        self._recipe = recipe
        named = dict(model.named_parameters())
        matrices = [p for n, p in named.items() if p.ndim == 2 and "embed" not in n]
        others = [p for n, p in named.items() if p.ndim != 2 or "embed" in n]
        self._muon = Muon(matrices, momentum=0.95, weight_decay=recipe.weight_decay)
        self._adam = torch.optim.AdamW(others, lr=1.0, betas=(0.9, 0.95), weight_decay=0.0)

    def run(
        self,
        until: int,
        report: Callable[[int, Figures, float], None],
        save: Callable[[], None],
        save_every_s: float,
    ) -> None:
        """Train up to step `until`; `report(step, mean, tokens per second)` now and then."""
        torch.set_num_threads(self._recipe.threads)
        measured: list[Figures] = []
        n_tokens, started, saved = 0, time.monotonic(), time.monotonic()
        with ThreadPoolExecutor(1) as ahead:  # rows are made while the last step computes
            coming = ahead.submit(self._batch, self.step)
            while self.step < until:
                batch = coming.result()
                coming = ahead.submit(self._batch, self.step + 1)
                measured.append(self.train_step(batch))
                n_tokens += batch.ids.size
                if self.step % 20 == 0 or self.step == until:
                    elapsed = time.monotonic() - started
                    report(self.step, Figures.mean(measured), n_tokens / elapsed)
                    measured, n_tokens, started = [], 0, time.monotonic()
                if time.monotonic() - saved > save_every_s:
                    save()
                    saved = time.monotonic()

    def _batch(self, step: int) -> Batch:
        return self._rows.batch(step, self._recipe.n_steps, self._recipe.batch_tokens)

    def train_step(self, batch: Batch) -> Figures:
        """One step; returns what it measured before the update."""
        share = self._rate_share()
        loss, figures = weighted_loss(self.model, self._backbone, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._recipe.clip_norm)
        recipe = self._recipe
        opening = self.step < recipe.opening_steps
        matrix_rate = recipe.opening_matrix_rate if opening else recipe.matrix_rate
        other_rate = recipe.opening_other_rate if opening else recipe.other_rate
        self._muon.step(matrix_rate * share)
        for group in self._adam.param_groups:
            group["lr"] = other_rate * share
        self._adam.step()
        self.model.zero_grad(set_to_none=False)
        self.step += 1
        return figures

    def _rate_share(self) -> float:
        recipe = self._recipe
        rising = (self.step + 1) / recipe.warmup_steps
        falling = (recipe.n_steps - self.step) / max(1.0, recipe.decay_share * recipe.n_steps)
        return min(1.0, rising, falling)

    def save(self, path: Path) -> None:
        """Write weights, optimizer state and step, in one file that replaces the last one."""
        tensors = {f"model.{n}": p.detach() for n, p in self.model.named_parameters()}
        tensors |= {f"muon.{i}": tensor for i, tensor in enumerate(self._muon.state)}
        for index, state in self._adam.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{key}": value for key, value in state.items()}
        fresh = path.with_suffix(".tmp")
        save_file(tensors, str(fresh), metadata={"step": json.dumps(self.step)})
        fresh.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a file of `save`; raises ValueError where it belongs to another shape."""
        with safe_open(str(path), framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            self.step = int(json.loads(file.metadata()["step"]))
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                _copy(parameter, tensors, f"model.{name}")
            for index, momentum in enumerate(self._muon.state):
                _copy(momentum, tensors, f"muon.{index}")
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in tensors.items():
            kind, _, rest = key.partition(".")
            if kind == "adam":
                index, _, name = rest.partition(".")
                state.setdefault(int(index), {})[name] = tensor
        groups = self._adam.state_dict()["param_groups"]
        self._adam.load_state_dict({"state": state, "param_groups": groups})


def weighted_loss(model: Any, backbone: Any, batch: Batch) -> tuple[torch.Tensor, Figures]:
    """Mean cross-entropy over the tokens whose weight is not 0; only they reach the head.

    `backbone` is `model.model` or its compiled form.
    """
    ids = torch.from_numpy(batch.ids)
    weights = torch.from_numpy(batch.weights)[:, 1:].reshape(-1)
    chosen = weights.nonzero().squeeze(1)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = backbone(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        logits = model.lm_head(hidden.reshape(-1, hidden.shape[-1])[chosen])
    targets = ids[:, 1:].reshape(-1)[chosen]
    losses = functional.cross_entropy(logits.float(), targets, reduction="none")
    picked = weights[chosen]
    loss = (losses * picked).sum() / picked.sum()
    with torch.no_grad():
        answers = picked == ANSWER_WEIGHT
        texts = torch.isclose(picked, torch.tensor(TEXT_WEIGHT))
        right = logits[answers].argmax(1) == targets[answers]
        figures = Figures(
            float(loss), float(right.float().mean()), float(losses[texts].float().mean())
        )
    return loss, figures


def _copy(target: torch.Tensor, tensors: dict[str, torch.Tensor], key: str) -> None:
    if key not in tensors or tensors[key].shape != target.shape:
        raise ValueError(f"the checkpoint does not fit this model at {key!r}")
    target.copy_(tensors[key])
