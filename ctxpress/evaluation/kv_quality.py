"""What a codec costs: bits, perplexity, accuracy and next-token distributions of a real model.

KV goes through a codec as it does in a store: un-rotated, in the dtype it is kept in, in chunks of
256 tokens, each with its whole identity, each a container of its own. The model then goes on from
the decoded KV. Everything is relative to KV as the model computed it, on the same tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ctxpress.cache.chunk_key import tokens_digest
from ctxpress.cache.codec import Codec
from ctxpress.cache.kv import KVBlock
from ctxpress.engine import RotaryModel, prefill_rows, rounded, score_tokens, split
from ctxpress.evaluation.kv_tasks import ContextTask
from ctxpress.evaluation.kv_texts import TextWindow
from ctxpress.evaluation.metrics import Interval, bootstrap_interval

__all__ = [
    "AS_COMPUTED",
    "CHUNK_TOKENS",
    "DROPPED",
    "KVMeasure",
    "KVRoute",
    "measure_tasks",
    "measure_texts",
]

AS_COMPUTED = "as computed"
DROPPED = "no context"
CHUNK_TOKENS = 256


@dataclass(frozen=True, slots=True)
class KVRoute:
    """How KV goes through one codec: ``codec`` None leaves it as the model computed it.

    ``dropped``: nothing comes back; the control that says how much the KV is worth at all.
    """

    name: str
    codec: Codec | None
    kv_dtype: str
    chunk_tokens: int = CHUNK_TOKENS
    dropped: bool = False


@dataclass(slots=True, eq=False)
class KVMeasure:
    """What was counted for one route.

    ``loss_nats``: of each window, the mean negative log probability of its tokens;
    ``reference_nats`` of the same with KV as computed; ``kl_nats`` the mean divergence.
    ``same_choice``: how often the most probable token is the same. ``correct``: by kind of task,
    of each task, the share of its answers that greedy decoding gives; ``reference_correct``
    likewise.
    """

    name: str
    kv_dtype: str
    n_values: int = 0
    n_bytes: int = 0
    loss_nats: list[float] = field(default_factory=list)
    reference_nats: list[float] = field(default_factory=list)
    kl_nats: list[float] = field(default_factory=list)
    correct: dict[str, list[float]] = field(default_factory=dict)
    reference_correct: dict[str, list[float]] = field(default_factory=dict)

    @property
    def bits_per_value(self) -> float:
        """Of the whole containers; 0 where nothing was stored."""
        return 8 * self.n_bytes / self.n_values if self.n_values else 0.0

    @property
    def perplexity(self) -> float:
        return math.exp(float(np.mean(self.loss_nats)))

    @property
    def perplexity_change(self) -> float:
        """Relative to KV as computed: 0.01 is one per cent more."""
        return math.expm1(float(np.mean(self._differences)))

    @property
    def perplexity_interval(self) -> Interval:
        """Of :attr:`perplexity_change`, 95 %, by resampling windows."""
        low, high = bootstrap_interval(self._differences)
        return Interval(math.expm1(low), math.expm1(high))

    @property
    def kl(self) -> float:
        """Mean KL(as computed ‖ decoded) of next-token distributions, in nats."""
        return float(np.mean(self.kl_nats))

    def accuracy(self, kind: str) -> float:
        return float(np.mean(self.correct[kind]))

    def accuracy_change(self, kind: str | None = None) -> float:
        """Points of accuracy against KV as computed, of one kind or the mean of all."""
        kinds = list(self.correct) if kind is None else [kind]
        changes = [np.mean(self.correct[k]) - np.mean(self.reference_correct[k]) for k in kinds]
        return 100 * float(np.mean(changes))

    @property
    def _differences(self) -> list[float]:
        pairs = zip(self.loss_nats, self.reference_nats, strict=True)
        return [loss - reference for loss, reference in pairs]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        row: dict[str, object] = {"codec": self.name, "kv_dtype": self.kv_dtype}
        if self.n_values:
            row |= {"bits_per_value": self.bits_per_value, "bytes": self.n_bytes}
            row |= {"smaller_than_fp16": 16 / self.bits_per_value}
            row |= {"smaller_than_int8": 8 / self.bits_per_value}
        if self.loss_nats:
            row |= {"perplexity": self.perplexity, "perplexity_change": self.perplexity_change}
            row |= {"perplexity_change_interval": list(self.perplexity_interval), "kl": self.kl}
        if self.correct:
            row["accuracy"] = {kind: self.accuracy(kind) for kind in self.correct}
            row["accuracy_change_points"] = self.accuracy_change()
        return row


def measure_texts(
    model: RotaryModel,
    windows: Sequence[TextWindow],
    routes: Sequence[KVRoute],
    *,
    batch: int = 8,
    on_step: Callable[[], None] = lambda: None,
) -> list[KVMeasure]:
    """Perplexity and divergence on windows of text; ``on_step`` is called for each window.

    The first token of the second part is foretold from the context's own logits, which no codec
    touches, so it is not counted.
    """
    measures = [KVMeasure(route.name, route.kv_dtype) for route in routes]
    for first in range(0, len(windows), batch):
        some = windows[first : first + batch]
        contexts = [window.context for window in some]
        targets = [window.target for window in some]
        run = prefill_rows(model, contexts)
        blocks = [run.block(row) for row in range(len(some))]
        reference = score_tokens(model, targets, behind=[[block] for block in blocks])
        for route, measure in zip(routes, measures, strict=True):
            scores = reference
            if route.dropped:
                scores = score_tokens(model, targets, reference=reference)
            if route.codec is not None:
                chains = []
                for ids, block in zip(contexts, blocks, strict=True):
                    chain, size = _through(route.codec, route, block, ids)
                    chains.append(chain)
                    measure.n_bytes += size
                scores = score_tokens(model, targets, behind=chains, reference=reference)
                measure.n_values += sum(block.n_values for block in blocks)
            measure.loss_nats += (-scores.log_probs.mean(1)).tolist()
            measure.reference_nats += (-reference.log_probs.mean(1)).tolist()
            measure.kl_nats += scores.kl.mean(1).tolist()
        for _ in some:
            on_step()
    return measures


def measure_tasks(
    model: RotaryModel,
    tasks: Sequence[ContextTask],
    routes: Sequence[KVRoute],
    measures: Sequence[KVMeasure],
    *,
    on_step: Callable[[], None] = lambda: None,
) -> None:
    """Count exact answers of ``tasks`` into ``measures``; ``on_step`` is called for each task.

    An answer counts if greedy decoding writes it and then ends the line. Every token of it is
    looked at with those before it in place, which comes to the same and takes one pass.
    """
    for task in tasks:
        pieces = [model.start_ids, model.token_ids(task.prefix)]
        pieces += [model.token_ids(document) for document in task.documents]
        context = tuple(token for piece in pieces for token in piece)
        rows = [
            (model.token_ids(question), model.token_ids(f" {answer}\n"))
            for question, answer in zip(task.questions, task.answers, strict=True)
        ]
        block = prefill_rows(model, [context]).block()
        reference = _share_correct(model, rows, [block])
        for route, measure in zip(routes, measures, strict=True):
            share = _share_correct(model, rows, []) if route.dropped else reference
            if route.codec is not None:
                chain, size = _through(route.codec, route, block, context)
                if not measure.loss_nats:  # sizes are those of texts where there are any
                    measure.n_values += block.n_values
                    measure.n_bytes += size
                share = _share_correct(model, rows, chain)
            measure.correct.setdefault(task.kind, []).append(share)
            measure.reference_correct.setdefault(task.kind, []).append(reference)
        on_step()


def _share_correct(
    model: RotaryModel, rows: Sequence[tuple[list[int], list[int]]], chain: Sequence[KVBlock]
) -> float:
    scores = score_tokens(
        model, [[*question, *answer] for question, answer in rows], behind=[chain] * len(rows)
    )
    right = [
        bool(scores.greedy[number, len(question) - 1 : len(question) + len(answer) - 1].all())
        for number, (question, answer) in enumerate(rows)
    ]
    return sum(right) / len(right)


def _through(
    codec: Codec, route: KVRoute, block: KVBlock, ids: Sequence[int]
) -> tuple[list[KVBlock], int]:
    """The chunks of a block as they come back from the codec, and the bytes that they took."""
    chunks, n_bytes = [], 0
    for chunk in split(rounded(block, route.kv_dtype), route.chunk_tokens):
        begin = chunk.position_start - block.position_start
        before = tokens_digest(ids[:begin]) if begin else ""
        tokens = tokens_digest(ids[begin : begin + chunk.n_tokens], before=before)
        named = replace(chunk, identity=replace(chunk.identity, tokens=tokens))
        data = codec.encode(named)
        n_bytes += len(data)
        chunks.append(codec.decode(data, expected=named.identity))
    return chunks, n_bytes
