"""The training loop: windows without padding, two cumulative targets, AdamW with linear decay."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from tokenizers import Tokenizer
from torch import Tensor, nn

from ctxpress.models.scorer import CLS_ID, EDGE_SHAPE, SEP_ID
from training.data import Passage, epoch_stream
from training.model import TokenClassifier, keep_scores

MASK_ID = 103


@dataclass(frozen=True, slots=True)
class FitOptions:
    """What a run is made of; together with the data and the seed it fixes the weights.

    `embedding_rate` scales the learning rate of the word embeddings. `teacher_weight` is the share
    of the teacher's probabilities in the targets. `blank_chance`: sub-tokens that the learner, not
    the teacher, reads as [MASK].
    """

    epochs: int = 5
    batch_tokens: int = 2048
    learning_rate: float = 2e-4
    head_learning_rate: float = 1e-3
    warmup_fraction: float = 0.06
    embedding_rate: float = 1.0
    teacher_weight: float = 0.0
    blank_chance: float = 0.0
    window_tokens: tuple[int, ...] = (64, 128, 256)
    window_chances: tuple[float, ...] = (0.15, 0.2, 0.65)
    seed: int = 20250801


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows of one length: (batch, n_tokens) each; framing tokens have weight 0."""

    token_ids: Tensor
    shape_ids: Tensor
    labels: Tensor
    weights: Tensor


def batches(
    tokenizer: Tokenizer, passages: Sequence[Passage], options: FitOptions, rng: random.Random
) -> Iterator[Batch]:
    """One epoch: the stream of passages cut into windows, each batch of one window length."""
    items = list(epoch_stream(tokenizer, passages, rng))
    columns = [
        np.concatenate([item.encoded.token_ids for item in items]),
        np.concatenate([item.encoded.shape_ids for item in items]),
        np.concatenate([item.labels for item in items]),
        np.concatenate([item.weights for item in items]),
    ]
    frames = [(CLS_ID, SEP_ID), (EDGE_SHAPE, EDGE_SHAPE), (0, 0), (0.0, 0.0)]
    spans = []
    position = 0
    while position < len(columns[0]) - 8:
        window = rng.choices(options.window_tokens, options.window_chances)[0]
        rows = options.batch_tokens // window
        body = window - 2
        rows = min(rows, max(1, (len(columns[0]) - position) // body))
        body = min(body, len(columns[0]) - position)
        spans.append((position, rows, body))
        position += rows * body
    rng.shuffle(spans)
    for start, rows, body in spans:
        framed = []
        for column, (left, right) in zip(columns, frames, strict=True):
            block = column[start : start + rows * body].reshape(rows, body)
            edges = np.full((rows, 1), left), np.full((rows, 1), right)
            framed.append(np.concatenate([edges[0], block, edges[1]], axis=1))
        token_ids, shape_ids, labels, weights = framed
        yield Batch(
            torch.from_numpy(token_ids.astype(np.int64)),
            torch.from_numpy(shape_ids.astype(np.int64)),
            torch.from_numpy(labels.astype(np.int64)),
            torch.from_numpy(weights.astype(np.float32)),
        )


def loss_of(logits: Tensor, batch: Batch, teacher: Tensor | None, teacher_weight: float) -> Tensor:
    """Weighted binary cross-entropy of both levels; `teacher` are another model's probabilities."""
    targets = torch.stack([batch.labels >= 1, batch.labels >= 2], dim=-1).float()
    if teacher is not None:
        targets = (1 - teacher_weight) * targets + teacher_weight * teacher
    losses = functional.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
    return (losses.mean(dim=-1) * batch.weights).sum() / batch.weights.sum().clamp(min=1e-6)


def fit(
    model: TokenClassifier,
    tokenizer: Tokenizer,
    passages: Sequence[Passage],
    options: FitOptions,
    report: Callable[[str], None],
    teacher: TokenClassifier | None = None,
    after_epoch: Callable[[int], None] | None = None,
) -> None:
    """Train in place. `teacher`, a fitted larger classifier, softens the targets."""
    torch.manual_seed(options.seed)
    optimizer = torch.optim.AdamW(
        _parameter_groups(model, options), weight_decay=0.01, betas=(0.9, 0.98), fused=True
    )
    for epoch in range(options.epochs):
        rng = random.Random(options.seed * 1000 + epoch)
        planned = list(batches(tokenizer, passages, options, rng))
        n_steps = len(planned)
        model.train()
        total, began_s = 0.0, time.monotonic()
        for step, batch in enumerate(planned):
            progress = (epoch + step / n_steps) / options.epochs
            _set_rates(optimizer, progress, options.warmup_fraction)
            with torch.autocast("cpu", torch.bfloat16):
                soft = None
                if teacher is not None:
                    with torch.no_grad():
                        soft = torch.sigmoid(teacher(batch.token_ids, batch.shape_ids).float())
                logits = model(_blanked(batch.token_ids, options.blank_chance), batch.shape_ids)
            loss = loss_of(logits, batch, soft, options.teacher_weight)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += float(loss.detach())
            if (step + 1) % 100 == 0 or step + 1 == n_steps:
                mean, elapsed_s = total / (step + 1), time.monotonic() - began_s
                report(f"epoch {epoch} step {step + 1}/{n_steps} loss {mean:.4f} {elapsed_s:.0f} s")
        if after_epoch is not None:
            model.eval()
            after_epoch(epoch)
    model.eval()


def _parameter_groups(model: TokenClassifier, options: FitOptions) -> list[dict[str, object]]:
    peaks = {
        "words": options.learning_rate * options.embedding_rate,
        "head": options.head_learning_rate,
        "shapes": options.head_learning_rate,
    }
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault(peaks.get(name.split(".")[0], options.learning_rate), []).append(
            parameter
        )
    return [{"params": members, "lr": peak, "peak": peak} for peak, members in groups.items()]


def _blanked(token_ids: Tensor, chance: float) -> Tensor:
    if not chance:
        return token_ids
    return token_ids.masked_fill(torch.rand(token_ids.shape) < chance, MASK_ID)


def _set_rates(optimizer: torch.optim.Optimizer, progress: float, warmup: float) -> None:
    factor = progress / warmup if progress < warmup else (1 - progress) / (1 - warmup)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * max(factor, 0.0)


@torch.no_grad()
def score_text(model: TokenClassifier, token_ids: np.ndarray, shape_ids: np.ndarray) -> np.ndarray:
    """float32 reference scores of one window, framed like in training; (n_tokens,) in and out."""
    ids = np.concatenate([[CLS_ID], token_ids, [SEP_ID]]).astype(np.int64)
    shapes = np.concatenate([[EDGE_SHAPE], shape_ids, [EDGE_SHAPE]]).astype(np.int64)
    logits = model(torch.from_numpy(ids)[None], torch.from_numpy(shapes)[None])
    scores: np.ndarray = keep_scores(logits)[0, 1:-1].numpy()
    return scores
