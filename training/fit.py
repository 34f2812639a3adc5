"""The training loop: binary cross-entropy of four outputs, AdamW with linear decay."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from tokenizers import Tokenizer
from torch import Tensor, nn

from ctxpress.models.encoding import EDGE_SHAPE, SEP_ID, encode_head, encode_text
from ctxpress.models.windows import plan_windows
from training.batches import Batch, Teacher, example_batches, group_batches, stream_batches
from training.data import Passage
from training.groups import NegativeMiner, epoch_groups
from training.model import ANSWER, QUOTE, TokenClassifier
from training.questions import Item, cloze_examples, epoch_examples
from training.written import Written, written_examples

MASK_ID = 103
WINDOW_TOKENS, MARGIN_TOKENS = 256, 8
"""What the shipped model reads at a time, and the least context at a cut: more changed nothing."""


@dataclass(frozen=True, slots=True)
class FitOptions:
    """What a run is made of; together with the data and the seed it fixes the weights.

    `passage_share` is the part of the distilled passages that an epoch reads. `embedding_rate`
    scales the learning rate of the word embeddings. `teacher_weight` is the share of the teacher's
    probabilities in the targets of distilled passages. `blank_chance`: sub-tokens that the
    learner, not the teacher, reads as [MASK]. `question_weight` scales the loss of the two outputs
    about questions; `ranking_weight` is that of a softmax over the answers of a row beside it.
    `clozes`: whether questions are also made of sentences. `negatives`: learn questions in groups
    of all their passages and so many mined ones, see `training.groups`; `written_share` is the part
    of the written questions that an epoch reads. `student`: the teacher's probabilities
    are half of every target, and all of it where no label is known.
    """

    epochs: int = 5
    passage_share: float = 1.0
    batch_tokens: int = 2048
    learning_rate: float = 2e-4
    head_learning_rate: float = 1e-3
    warmup_fraction: float = 0.06
    embedding_rate: float = 1.0
    teacher_weight: float = 0.0
    blank_chance: float = 0.0
    question_weight: float = 1.0
    ranking_weight: float = 0.0
    clozes: bool = True
    negatives: tuple[int, int] | None = None
    written_share: float = 1.0
    student: bool = False
    seed: int = 20250801


def loss_of(logits: Tensor, batch: Batch, teacher: Tensor | None, options: FitOptions) -> Tensor:
    """Weighted binary cross-entropy, averaged over each output's known sub-tokens, then added up.

    `teacher`, (batch, n_tokens, N_OUTPUTS), are another model's probabilities; the first two count.
    """
    targets = batch.targets
    if teacher is not None:
        share = options.teacher_weight
        levels = (1 - share) * targets[..., :QUOTE] + share * teacher[..., :QUOTE]
        targets = torch.cat([levels, targets[..., QUOTE:]], dim=-1)
    losses = functional.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
    n_tokens = (batch.weights.amax(dim=-1) > 0).sum().clamp(min=1)
    scale = torch.ones(losses.shape[-1])
    scale[QUOTE] = options.question_weight
    scale[ANSWER] = 4 * options.question_weight  # answers are short: their loss would drown
    ranking = _ranking_loss(logits, batch, ANSWER)
    if batch.groups is not None:
        ranking = ranking + _ranking_loss(logits, batch, QUOTE)
    return (losses * batch.weights * scale).sum() / n_tokens / 2 + ranking * options.ranking_weight


def _taught(batch: Batch, soft: Tensor) -> Batch:
    """The batch with the teacher's probabilities in its targets, also where no label is known."""
    known = batch.weights > 0
    body = known.any(dim=-1, keepdim=True)
    return dataclasses.replace(
        batch,
        targets=torch.where(known, 0.5 * (batch.targets + soft), soft),
        weights=torch.where(known, batch.weights, 0.5 * body),
    )


def _ranking_loss(logits: Tensor, batch: Batch, output: int) -> Tensor:
    """Cross-entropy of a softmax over the sub-tokens of a group, all that are labelled being right.

    Of rows with a question. Which of several candidates it is, matters more than how sure each is;
    where the rows are the passages of one question, so does which passage. Groups without a label
    are left out; a batch without such groups has no loss.
    """
    asked = batch.weights[..., QUOTE] > 0
    known = (batch.weights[..., output] > 0) & asked
    right = (batch.targets[..., output] >= 0.5) & known
    groups = torch.arange(len(known)) if batch.groups is None else batch.groups
    values = logits[..., output].float()
    losses = []
    for number in groups.unique():
        rows = groups == number
        if right[rows].any():
            mine = values[rows]
            losses.append(mine[known[rows]].logsumexp(0) - mine[right[rows]].logsumexp(0))
    return torch.stack(losses).mean() if losses else values.new_zeros(())


def fit(
    model: TokenClassifier,
    tokenizer: Tokenizer,
    passages: Sequence[Passage],
    items: Sequence[Item],
    written: Sequence[Written],
    options: FitOptions,
    report: Callable[[str], None],
    teacher: TokenClassifier | None = None,
) -> None:
    """Train in place on passages, and on questions where there are `items` (and `written` ones).

    `teacher`, a classifier fitted before, softens the targets of distilled passages and labels
    the passages of the questions; with `items` there must be one.
    """
    torch.manual_seed(options.seed)
    optimizer = torch.optim.AdamW(
        _parameter_groups(model, options), weight_decay=0.01, betas=(0.9, 0.98), fused=True
    )
    levels = _remembered(teacher, tokenizer) if teacher is not None else None
    for epoch in range(options.epochs):
        rng = random.Random(options.seed * 1000 + epoch)
        planned = _plan(tokenizer, passages, items, written, levels, options, rng)
        n_steps = len(planned)
        model.train()
        total, began_s = 0.0, time.monotonic()
        for step, batch in enumerate(planned):
            progress = (epoch + step / n_steps) / options.epochs
            _set_rates(optimizer, progress, options.warmup_fraction)
            with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16()):
                soft = None
                asked = options.student or (batch.soften and options.teacher_weight > 0)
                if teacher is not None and asked:
                    with torch.no_grad():
                        opinion = teacher(batch.token_ids, batch.shape_ids, batch.real)
                        soft = torch.sigmoid(opinion.float())
                        if options.student:
                            batch, soft = _taught(batch, soft), None
                blanked = _blanked(batch.token_ids, options.blank_chance)
                logits = model(blanked, batch.shape_ids, batch.real)
            loss = loss_of(logits, batch, soft, options)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += float(loss.detach())
            if (step + 1) % 50 == 0 or step + 1 == n_steps:
                mean, elapsed_s = total / (step + 1), time.monotonic() - began_s
                report(f"epoch {epoch} step {step + 1}/{n_steps} loss {mean:.4f} {elapsed_s:.0f} s")
    model.eval()


def has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 itself; if not, float32 is 25 times faster."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _plan(
    tokenizer: Tokenizer,
    passages: Sequence[Passage],
    items: Sequence[Item],
    written: Sequence[Written],
    levels: Teacher | None,
    options: FitOptions,
    rng: random.Random,
) -> list[Batch]:
    """The batches of an epoch, shuffled."""
    chosen = rng.sample(list(passages), round(options.passage_share * len(passages)))
    planned = list(stream_batches(tokenizer, chosen, options.batch_tokens, rng))
    if items:
        if levels is None:
            raise ValueError("questions need a teacher that labels their passages")
        if options.negatives is not None:
            titles = {t: name for i in items for t, name in zip(i.passages, i.titles, strict=True)}
            titles |= {passage.text: passage.title for passage in written}
            groups = epoch_groups(
                items,
                written,
                NegativeMiner(titles),
                options.negatives,
                options.written_share,
                rng,
            )
            planned += group_batches(tokenizer, groups, levels, options.batch_tokens, rng)
            rng.shuffle(planned)
            return planned
        texts = [text for item in items for text in item.passages]
        texts += [passage.text for passage in passages]
        shared = rng.sample(list(written), round(options.written_share * len(written)))
        examples = [*epoch_examples(items, rng), *written_examples(shared, rng)]
        if options.clozes:
            examples += cloze_examples(texts, len(items) // 3, rng)
        planned += example_batches(tokenizer, examples, levels, options.batch_tokens, rng)
    rng.shuffle(planned)
    return planned


def _remembered(teacher: TokenClassifier, tokenizer: Tokenizer) -> Teacher:
    """The teacher's probabilities of a text, computed once: passages come back in every epoch."""
    known: dict[str, np.ndarray] = {}

    def levels(text: str) -> np.ndarray:
        if text not in known:
            known[text] = probabilities(teacher, tokenizer, text)[:, :QUOTE].astype(np.float16)
        return known[text]

    return levels


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
def probabilities(
    model: TokenClassifier, tokenizer: Tokenizer, text: str, question: str | None = None
) -> np.ndarray:
    """float32 reference probabilities (n_tokens, N_OUTPUTS) of a text, framed as at run time."""
    encoded = encode_text(tokenizer, text)
    head = encode_head(tokenizer, question)
    body_tokens = WINDOW_TOKENS - head.shape[1] - 1
    whole = np.zeros((len(encoded.token_ids), model.head.out_features), np.float32)
    for window in plan_windows(len(whole), body_tokens, MARGIN_TOKENS):
        part = np.stack([encoded.token_ids, encoded.shape_ids])[:, window.start : window.stop]
        rows = torch.from_numpy(np.concatenate([head, part, [[SEP_ID], [EDGE_SHAPE]]], axis=1))
        outputs = torch.sigmoid(model(rows[:1].long(), rows[1:].long())[0]).numpy()
        first = head.shape[1] + window.own_start - window.start
        whole[window.own_start : window.own_stop] = outputs[
            first : first + window.own_stop - window.own_start
        ]
    return whole
