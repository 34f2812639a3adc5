"""One context in several forms, documents sequential and in parallel, asked the same questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from ctxpress.engine.attention import Row
from ctxpress.engine.forward import run_rows
from ctxpress.engine.loading import RotaryModel
from ctxpress.engine.parallel import (
    Mixing,
    PlacedRow,
    encode_behind,
    parallel_row,
    sequential_row,
)
from ctxpress.engine.prompts import PromptPieces

__all__ = ["AskedForm", "ContextForms", "answer_logits", "compare", "run_tokens"]


@dataclass(frozen=True, slots=True)
class AskedForm:
    """Whether greedy decoding gives the answer, and how far from sequential it is.

    ``kl``: KL(sequential ‖ this form) of the next-token distributions over the answer, nats a
    token; 0 for sequential itself.
    """

    right: bool
    kl: float


class ContextForms:
    """Prefix and documents of ``pieces`` in place, once sequential and once in parallel.

    ``forms``: names to T and S; None is sequential. :raises ContextLengthError: too long.
    """

    def __init__(
        self, model: RotaryModel, pieces: PromptPieces, forms: Mapping[str, Mixing | None]
    ) -> None:
        self._model = model
        self._forms = dict(forms)
        flat = [*pieces.prefix, *(token for each in pieces.documents for token in each)]
        row = sequential_row(model, []).row
        run_tokens(model, row, flat, 0, 1)
        self._sequential = PlacedRow(row, len(flat))
        head = encode_behind(model, None, (), pieces.prefix) if pieces.prefix else None
        blocks = [encode_behind(model, head, pieces.prefix, each) for each in pieces.documents]
        self._parallel = parallel_row(model, head, blocks, Mixing())

    def ask(self, question: Sequence[int], answer: Sequence[int]) -> dict[str, AskedForm]:
        """Whether each form gives ``answer`` to ``question``; see :func:`answer_logits`."""
        teacher = self._answered(self._sequential, question, answer)
        found = {}
        for name, mixing in self._forms.items():
            logits = teacher
            if mixing is not None:
                logits = self._answered(self._mixed(mixing), question, answer)
            found[name] = compare(teacher, logits, answer)
        return found

    def _mixed(self, mixing: Mixing) -> PlacedRow:
        row, plan = self._parallel.row, self._parallel.row.context
        if plan is not None:
            plan = replace(plan, temperature=mixing.temperature, scale=mixing.scale)
        return PlacedRow(Row(row.sequence, plan), self._parallel.next_position)

    def _answered(
        self, placed: PlacedRow, question: Sequence[int], answer: Sequence[int]
    ) -> torch.Tensor:
        return answer_logits(self._model, placed, question, answer)


def answer_logits(
    model: RotaryModel, placed: PlacedRow, question: Sequence[int], answer: Sequence[int]
) -> torch.Tensor:
    """The logits from which each token of ``answer`` is chosen, ``(n_answer, vocabulary)``.

    Every token is looked at with those before it in place, which comes to what greedy decoding
    gives and takes one pass. Nothing of it is kept.
    """
    sequence = placed.row.sequence
    n_before = sequence.n_tokens
    tokens = [*question, *answer[:-1]]
    logits = run_tokens(model, placed.row, tokens, placed.next_position, len(answer))
    sequence.truncate(n_before)
    return logits.float().cpu()


def compare(teacher: torch.Tensor, logits: torch.Tensor, answer: Sequence[int]) -> AskedForm:
    """Whether ``logits`` give ``answer``, and their divergence from the teacher's."""
    expected, got = torch.log_softmax(teacher, -1), torch.log_softmax(logits, -1)
    kl = float((expected.exp() * (expected - got)).sum(-1).mean())
    right = bool((logits.argmax(-1) == torch.tensor(list(answer))).all())
    return AskedForm(right, max(0.0, kl))


def run_tokens(
    model: RotaryModel, row: Row, tokens: Sequence[int], start: int, n_logits: int
) -> torch.Tensor:
    """Run ``tokens`` from position ``start`` on; the last logits, ``(n_logits, vocabulary)``."""
    places = torch.arange(start, start + len(tokens), device=model.device)
    ids = torch.tensor([list(tokens)], device=model.device)
    return run_rows(model.model, [row], ids, places[None], n_logits=n_logits)[0]
