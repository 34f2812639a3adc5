"""Documents in parallel whose KV went through a codec, beside the same as it was computed.

As a worker has them from a store: prefix and documents each encoded by itself, through the codec,
put in place side by side with T and S, and asked about.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ctxpress.cache.codec import Codec
from ctxpress.cache.kv import KVBlock
from ctxpress.engine.blocks import rounded
from ctxpress.engine.forms import answer_logits, compare
from ctxpress.engine.loading import RotaryModel
from ctxpress.engine.parallel import Mixing, encode_behind, parallel_row
from ctxpress.engine.prompts import PromptPieces
from ctxpress.evaluation.kv_asking import asked_rows, fits, task_pieces
from ctxpress.evaluation.kv_tasks import ContextTask

__all__ = ["AS_COMPUTED", "LoadedRow", "measure_loaded"]

AS_COMPUTED = "as computed"
_STORED_DTYPE = "float16"


@dataclass(slots=True)
class LoadedRow:
    """Of one codec: what its containers took, and what was answered from them.

    ``right``, ``nats`` and ``kl``: one entry a question: whether the answer was exact, minus its
    log-likelihood a token, and KL(as computed ‖ loaded) a token.
    """

    codec: str
    n_bytes: int = 0
    n_tokens: int = 0
    right: list[bool] = field(default_factory=list)
    nats: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)

    @property
    def bytes_per_token(self) -> float:
        """Of documents and prefix, containers with their headers and identities."""
        return self.n_bytes / max(1, self.n_tokens)

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.right))

    @property
    def perplexity(self) -> float:
        """Of the right answers."""
        return math.exp(float(np.mean(self.nats)))

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "codec": self.codec,
            "bytes_per_token": self.bytes_per_token,
            "n_questions": len(self.right),
            "accuracy": self.accuracy,
            "perplexity": self.perplexity,
            "kl": float(np.mean(self.kl)),
        }


def measure_loaded(
    model: RotaryModel,
    tasks: Sequence[ContextTask],
    mixing: Mixing,
    codecs: Mapping[str, Codec],
    *,
    on_step: Callable[[], None] = lambda: None,
) -> list[LoadedRow]:
    """A row as computed, and one for each of ``codecs``; ``on_step`` is called for each task.

    KV is rounded to float16 before it is encoded. Tasks longer than the model's window are left
    out.

    :raises ValueError: no task fits.
    """
    rows = {name: LoadedRow(name) for name in (AS_COMPUTED, *codecs)}
    for task in tasks:
        pieces, asked = task_pieces(model, task), asked_rows(model, task)
        if fits(model, pieces, asked):
            _ask(model, pieces, asked, mixing, codecs, rows)
        on_step()
    if not rows[AS_COMPUTED].right:
        raise ValueError(f"no task fits into the {model.max_tokens} tokens of {model.name}")
    return list(rows.values())


def _ask(
    model: RotaryModel,
    pieces: PromptPieces,
    asked: Sequence[tuple[Sequence[int], Sequence[int]]],
    mixing: Mixing,
    codecs: Mapping[str, Codec],
    rows: Mapping[str, LoadedRow],
) -> None:
    head = encode_behind(model, None, (), pieces.prefix)
    documents = [encode_behind(model, head, pieces.prefix, each) for each in pieces.documents]
    teachers: list[Any] = []  # tensors; this room does without torch
    for name, row in rows.items():
        blocks = [head, *documents]
        if name != AS_COMPUTED:
            blocks = [_through(codecs[name], block, row) for block in blocks]
        placed = parallel_row(model, blocks[0], blocks[1:], mixing)
        for index, (question, answer) in enumerate(asked):
            logits = answer_logits(model, placed, question, answer)
            if name == AS_COMPUTED:
                teachers.append(logits)
            found = compare(teachers[index], logits, answer)
            row.right.append(found.right)
            row.kl.append(found.kl)
            taken = logits.log_softmax(-1)[list(range(len(answer))), list(answer)]
            row.nats.append(float(-taken.mean()))


def _through(codec: Codec, block: KVBlock, row: LoadedRow) -> KVBlock:
    stored = rounded(block, _STORED_DTYPE)
    data = codec.encode(stored)
    row.n_bytes += len(data)
    row.n_tokens += block.n_tokens
    return rounded(codec.decode(data, expected=stored.identity), block.dtype_name)
