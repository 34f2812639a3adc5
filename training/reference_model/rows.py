"""Rows of tokens to train on: tasks in context, repeated spans and natural text, fully packed.

A row is a function of `(seed, step, row)` alone, so training goes on after a break as if there
had been none.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from ctxpress.evaluation.kv_tasks import ContextTask, TaskKind, generate_tasks

ANSWER_WEIGHT, TEXT_WEIGHT, FRAME_WEIGHT = 1.0, 0.12, 0.1
"""Loss weight of a token of an answer, of natural text, and of a tenth of all other tokens."""

FRAME_SHARE = 0.1
_ASKED = 64  # most questions about one context
_TRIES = 5  # sizes drawn for a task; the one that fills its row best is taken


_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the curriculum."""

    until: float
    """Where it ends, as a fraction of all steps."""
    lengths: tuple[tuple[int, float], ...]
    """(tokens in a row, chance); all rows of a step have one length."""
    documents: tuple[int, int]
    """Least and most documents of a task."""
    kinds: tuple[tuple[str, float], ...]
    """(kind of row, chance): a `TaskKind`, `text` or `repeat`."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Token ids and loss weights of the same tokens as targets, both (n_rows, n_tokens)."""

    ids: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]


class RowMaker:
    """Makes batches; holds the texts as one long run of tokens, passages apart by BOS."""

    def __init__(
        self, tokenizer: Tokenizer, texts: Sequence[str], phases: Sequence[Phase], seed: int
    ) -> None:
        self._tokenizer = tokenizer
        self._phases = tuple(phases)
        self._seed = seed
        bos, newline = tokenizer.token_to_id("<s>"), tokenizer.token_to_id("Ċ")
        encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
        self._bos = int(bos)
        self._text = np.concatenate(
            [np.array([bos, *e.ids, newline], dtype=np.int64) for e in encoded]
        )

    def batch(self, step: int, n_steps: int, n_tokens: int) -> Batch:
        """The batch of a step: `n_tokens` tokens in rows of one length."""
        phase = next(p for p in self._phases if step < p.until * n_steps or p is self._phases[-1])
        rng = random.Random(f"{self._seed}/{step}")
        length = _draw(rng, phase.lengths)
        rows = [self._row(rng, phase, length) for _ in range(max(1, n_tokens // length))]
        return Batch(np.stack([ids for ids, _ in rows]), np.stack([w for _, w in rows]))

    @property
    def n_text_tokens(self) -> int:
        """Tokens of all texts, with the BOS before each."""
        return len(self._text)

    def text_share(self, n_steps: int, n_tokens: int) -> float:
        """Fraction of natural text among the tokens of all batches, from one batch in a hundred."""
        batches = [self.batch(step, n_steps, n_tokens) for step in range(0, n_steps, 100)]
        is_text = [(batch.weights == np.float32(TEXT_WEIGHT)).mean() for batch in batches]
        return float(np.mean(is_text))

    def _row(
        self, rng: random.Random, phase: Phase, length: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        kind = _draw(rng, phase.kinds)
        ids: list[int] = []
        weights: list[float] = []
        if kind == "repeat":
            ids, weights = self._repeated(rng, length)
        elif kind != "text":
            ids, weights = self._task(rng, _as_kind(kind), phase.documents, length)
        missing = length - len(ids)
        if missing > 0:
            start = rng.randrange(len(self._text) - missing)
            ids.extend(self._text[start : start + missing].tolist())
            weights.extend([TEXT_WEIGHT] * missing)
            if kind == "text":
                ids[0] = self._bos
        return (
            np.array(ids[:length], dtype=np.int64),
            np.array(weights[:length], dtype=np.float32),
        )

    def _task(
        self, rng: random.Random, kind: TaskKind, documents: tuple[int, int], length: int
    ) -> tuple[list[int], list[float]]:
        sizes = [self._sizes(rng, documents) for _ in range(_TRIES)]
        n_documents, document_tokens = min(
            sizes, key=lambda size: abs(length - _expected_tokens(kind, *size))
        )
        task = generate_tasks(
            kind,
            n_documents=n_documents,
            n_tasks=1,
            seed=rng.getrandbits(48),
            document_tokens=document_tokens,
            n_questions=_ASKED,
            split="train",
        )[0]
        return self._encode(rng, task)

    @staticmethod
    def _sizes(rng: random.Random, documents: tuple[int, int]) -> tuple[int, int]:
        """(documents, tokens of one): small numbers of documents are as likely as large ones."""
        least, most = max(2, documents[0]), documents[1]
        return round(math.exp(rng.uniform(math.log(least), math.log(most)))), rng.randint(12, 40)

    def _encode(self, rng: random.Random, task: ContextTask) -> tuple[list[int], list[float]]:
        pieces = [task.prefix + "".join(task.documents)]
        for question, answer in zip(task.questions, task.answers, strict=True):
            pieces += [question, f" {answer}\n"]
        ids, weights = [self._bos], [0.0]
        for index, encoded in enumerate(
            self._tokenizer.encode_batch(pieces, add_special_tokens=False)
        ):
            ids.extend(encoded.ids)
            if index and index % 2 == 0:
                weights.extend([ANSWER_WEIGHT] * len(encoded.ids))
            else:
                weights.extend(
                    FRAME_WEIGHT if rng.random() < FRAME_SHARE else 0.0 for _ in encoded.ids
                )
        return ids, weights

    def _repeated(self, rng: random.Random, length: int) -> tuple[list[int], list[float]]:
        # Segments of random tokens that return, in another order each time. Every token but a
        # segment's first follows from what it followed before: induction heads form on this first.
        size = self._tokenizer.get_vocab_size()
        segment = rng.randint(2, 6)
        n_segments = rng.randint(2, max(2, length // (3 * segment)))
        segments = [rng.sample(range(3, size), segment) for _ in range(n_segments)]
        ids, weights = [self._bos], [0.0]
        known = 0.0
        while len(ids) < length:
            for tokens in rng.sample(segments, n_segments):
                ids += tokens
                weights += [0.0, *[known] * (segment - 1)]
            known = ANSWER_WEIGHT
        return ids, weights


def _expected_tokens(kind: str, n_documents: int, document_tokens: int) -> int:
    asked = {"retrieval": 22 * min(3, max(1, (document_tokens - 4) // 8)), "labelling": 0}
    outside = 180 if kind == "labelling" else 0
    return 10 + outside + n_documents * (document_tokens + asked.get(kind, 25))


def _as_kind(kind: str) -> TaskKind:
    return kind  # type: ignore[return-value]  # generate_tasks checks it


def _draw(rng: random.Random, choices: Sequence[tuple[_Item, float]]) -> _Item:
    items, chances = zip(*choices, strict=True)
    drawn: _Item = rng.choices(items, chances)[0]
    return drawn
