"""Training batches: windows of one long stream of passages, and padded rows of examples."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor

from ctxpress.models.encoding import CLS_ID, EDGE_SHAPE, SEP_ID, encode_head, encode_text
from training.data import Passage, epoch_stream
from training.model import ANSWER, CORE, HALF, N_OUTPUTS, QUOTE
from training.questions import Example, character_labels

MAX_ROW_TOKENS = 256
_SOFT_WEIGHT = 0.35
"""Weight of a teacher's opinion on a sub-token, beside 1 for a label."""
_WINDOWS = (64, 128, 256)
_WINDOW_CHANCES = (0.15, 0.2, 0.65)

Teacher = Callable[[str], npt.NDArray[np.float32]]
"""Text to the probabilities of `half` and `core`, (n_tokens, 2)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """(batch, n_tokens) sub-tokens and shapes; targets and weights (batch, n_tokens, N_OUTPUTS).

    `real` marks what is not padding; `None` where nothing is. A weight of 0 means not known.
    `soften` asks for the teacher's probabilities to be mixed into the first two targets. `groups`,
    (batch,), numbers the questions whose passages the rows are; `None` where each is its own.
    """

    token_ids: Tensor
    shape_ids: Tensor
    real: Tensor | None
    targets: Tensor
    weights: Tensor
    soften: bool
    groups: Tensor | None = None


def stream_batches(
    tokenizer: Tokenizer, passages: Sequence[Passage], batch_tokens: int, rng: random.Random
) -> Iterator[Batch]:
    """One epoch of passages: one stream in windows without padding, each batch of one length."""
    items = list(epoch_stream(tokenizer, passages, rng))
    if not items:
        return
    token_ids = np.concatenate([item.encoded.token_ids for item in items])
    shape_ids = np.concatenate([item.encoded.shape_ids for item in items])
    labels = np.concatenate([item.labels for item in items])
    weights = np.concatenate([item.weights for item in items])
    position = 0
    while position < len(token_ids) - 8:
        window = rng.choices(_WINDOWS, _WINDOW_CHANCES)[0]
        body = min(window - 2, len(token_ids) - position)
        rows = min(batch_tokens // window, max(1, (len(token_ids) - position) // body))
        cut = slice(position, position + rows * body)
        position += rows * body
        level = _framed(labels[cut], rows, (0, 0))
        unknown = torch.zeros(*level.shape, N_OUTPUTS - 2)
        weight = _framed(weights[cut], rows, (0, 0)).float()[..., None].expand(-1, -1, 2)
        yield Batch(
            _framed(token_ids[cut], rows, (CLS_ID, SEP_ID)).long(),
            _framed(shape_ids[cut], rows, (EDGE_SHAPE, EDGE_SHAPE)).long(),
            None,
            torch.cat([torch.stack([level >= 1, level >= 2], dim=-1).float(), unknown], dim=-1),
            torch.cat([weight, unknown], dim=-1),
            soften=True,
        )


def _framed(column: npt.NDArray[Any], rows: int, edges: tuple[int, int]) -> Tensor:
    """(rows, n_tokens): the column in `rows` equal parts, each between the two edges."""
    block = column.reshape(rows, -1)
    return torch.from_numpy(np.pad(block, ((0, 0), (1, 1)), constant_values=((0, 0), edges)))


@dataclass(frozen=True, slots=True)
class _Row:
    token_ids: npt.NDArray[np.int64]
    shape_ids: npt.NDArray[np.int64]
    targets: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]


def example_batches(
    tokenizer: Tokenizer,
    examples: Iterable[Example],
    teacher: Teacher,
    batch_tokens: int,
    rng: random.Random,
) -> Iterator[Batch]:
    """Rows of similar length together, padded to the longest of their batch."""
    rows = [_row(tokenizer, example, teacher, rng) for example in examples]
    rows.sort(key=lambda row: (len(row.token_ids) + rng.randint(0, 6), rng.random()))
    start = 0
    while start < len(rows):
        longest = len(rows[min(start + 8, len(rows) - 1)].token_ids)
        stop = start + max(1, batch_tokens // (longest + 6))
        yield _padded(rows[start:stop])
        start = stop


def group_batches(
    tokenizer: Tokenizer,
    groups: Iterable[Sequence[Example]],
    teacher: Teacher,
    batch_tokens: int,
    rng: random.Random,
) -> Iterator[Batch]:
    """Whole groups, those of similar length together; a group is never cut in two."""
    cut = [[_row(tokenizer, example, teacher, rng) for example in group] for group in groups]
    longest = [max(len(row.token_ids) for row in rows) for rows in cut]
    order = sorted(range(len(cut)), key=lambda i: (longest[i] + rng.randint(0, 6), rng.random()))
    pending: list[list[_Row]] = []
    for index in order:
        n_rows = sum(len(rows) for rows in pending) + len(cut[index])
        if pending and n_rows * longest[index] > batch_tokens:
            yield _grouped(pending)
            pending = []
        pending.append(cut[index])
    if pending:
        yield _grouped(pending)


def _grouped(groups: Sequence[Sequence[_Row]]) -> Batch:
    numbers = [number for number, rows in enumerate(groups) for _ in rows]
    batch = _padded([row for rows in groups for row in rows])
    return dataclasses.replace(batch, groups=torch.tensor(numbers))


def _row(tokenizer: Tokenizer, example: Example, teacher: Teacher, rng: random.Random) -> _Row:
    encoded = encode_text(tokenizer, example.text)
    quoted, answers, unsure = (mask[encoded.starts] for mask in character_labels(example))
    n_tokens = len(encoded.token_ids)
    targets = np.zeros((n_tokens, N_OUTPUTS), np.float32)
    weights = np.zeros((n_tokens, N_OUTPUTS), np.float32)
    if example.has_levels:
        levels = teacher(example.text[example.passage_start :])
        n_title = n_tokens - len(levels)
        targets[n_title:, [HALF, CORE]] = levels
        weights[n_title:, [HALF, CORE]] = _SOFT_WEIGHT
    targets[:, QUOTE], weights[:, QUOTE] = quoted, example.has_quotes
    targets[:, ANSWER], weights[:, ANSWER] = answers, example.has_answers & ~unsure

    head = encode_head(tokenizer, example.question)
    room = MAX_ROW_TOKENS - head.shape[1] - 1
    first = rng.randint(0, n_tokens - room) if n_tokens > room else 0
    body = slice(first, first + room)
    frame = ((head.shape[1], 1), (0, 0))
    return _Row(
        np.concatenate([head[0], encoded.token_ids[body], [SEP_ID]]).astype(np.int64),
        np.concatenate([head[1], encoded.shape_ids[body], [EDGE_SHAPE]]).astype(np.int64),
        np.pad(targets[body], frame),
        np.pad(weights[body], frame),
    )


def _padded(rows: Sequence[_Row]) -> Batch:
    longest = max(len(row.token_ids) for row in rows)
    token_ids = torch.zeros(len(rows), longest, dtype=torch.long)
    shape_ids = torch.zeros(len(rows), longest, dtype=torch.long)
    real = torch.zeros(len(rows), longest, dtype=torch.bool)
    targets = torch.zeros(len(rows), longest, N_OUTPUTS)
    weights = torch.zeros(len(rows), longest, N_OUTPUTS)
    for index, row in enumerate(rows):
        size = len(row.token_ids)
        token_ids[index, :size] = torch.from_numpy(row.token_ids)
        shape_ids[index, :size] = torch.from_numpy(row.shape_ids)
        real[index, :size] = True
        targets[index, :size] = torch.from_numpy(row.targets)
        weights[index, :size] = torch.from_numpy(row.weights)
    mask = None if real.all() else real
    return Batch(token_ids, shape_ids, mask, targets, weights, soften=False)
