"""T and S without labels, and the gate: does this model answer alike with documents in parallel?

The teacher is the model itself with the documents one behind the other. Over a few prompts it
answers greedily; then the divergence KL(sequential ‖ parallel) of the next-token distributions
over these answers is measured for pairs of T and S, coarsely and then finely. Labels play no part
(the idea is that of later work on APE; T matters most, S less and is the less stable of the two,
so S is only moved off 1 where that gains more than a hundredth). Where even the best pair diverges
by more than a bound, documents are computed one behind the other instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import torch

from ctxpress.engine.attention import ContextPlan, Row
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

__all__ = ["DEFAULT_KL_BOUND", "MixingCalibration", "calibrate_mixing"]

DEFAULT_KL_BOUND = 0.1  # nats a token
_COARSE = tuple(round(0.5 + 0.1 * step, 2) for step in range(9))  # 0.5 to 1.3
_FINE = (-0.05, 0.0, 0.05)
_S_MUST_GAIN = 0.01  # of the divergence at S = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MixingCalibration:
    """The best T and S found for a model, and how far from sequential encoding it stays.

    Divergences are in nats a token, averaged over prompts: ``kl`` of ``mixing``, ``kl_plain`` at
    T = S = 1, and ``kl_inverse`` of ``inverse``, the best pair with S = 1/T.
    """

    mixing: Mixing
    kl: float
    kl_plain: float
    inverse: Mixing
    kl_inverse: float
    n_prompts: int
    bound: float

    @property
    def accepted(self) -> bool:
        """Whether documents may be encoded in parallel."""
        return self.kl <= self.bound

    @property
    def chosen(self) -> Mixing | None:
        """T and S to serve with; None where sequential encoding must be used."""
        return self.mixing if self.accepted else None

    @property
    def key_temperature(self) -> float | None:
        """T for an engine that can scale keys by 1/T and nothing else, which makes S = 1/T.

        1 where no T is better than that; None where sequential encoding must be used.
        """
        if self.kl_inverse < self.kl_plain and self.kl_inverse <= self.bound:
            return self.inverse.temperature
        return 1.0 if self.kl_plain <= self.bound else None

    def report(self) -> dict[str, object]:
        """As plain values, for files and answers."""
        return {**asdict(self), "accepted": self.accepted}


def calibrate_mixing(
    model: RotaryModel,
    prompts: Iterable[PromptPieces],
    *,
    bound: float = DEFAULT_KL_BOUND,
    answer_tokens: int = 16,
    progress: Callable[[], None] = lambda: None,
) -> MixingCalibration:
    """Find T and S for ``model``; a forward pass a prompt and pair, some sixty pairs.

    ``answer_tokens``: how much of the teacher's answer counts. ``progress`` is called after each
    pair.

    :raises ValueError: no prompt has documents.
    """
    probes = [_Probe.of(model, prompt, answer_tokens) for prompt in prompts if prompt.documents]
    if not probes:
        raise ValueError("calibration needs prompts with documents")
    measured: dict[Mixing, float] = {}

    def kl(mixing: Mixing) -> float:
        if mixing not in measured:
            measured[mixing] = sum(probe.kl(model, mixing) for probe in probes) / len(probes)
            progress()
        return measured[mixing]

    plain = kl(Mixing())
    # T alone first, then S beside it, then both a little either way.
    best_t = min((Mixing(temperature=t) for t in _COARSE), key=kl)
    best_t = min((Mixing(temperature=round(best_t.temperature + d, 3)) for d in _FINE), key=kl)
    with_s = min(
        (replace(best_t, scale=s) for s in _COARSE), key=lambda mixing: (kl(mixing), mixing.scale)
    )
    with_s = min(_around(with_s), key=kl)
    with_s = min(_around(with_s), key=kl)
    best = with_s if kl(with_s) < kl(best_t) * (1 - _S_MUST_GAIN) else best_t
    inverse = min((Mixing.by_temperature(t) for t in _COARSE), key=kl)
    inverse = min(
        (Mixing.by_temperature(round(inverse.temperature + step, 3)) for step in _FINE), key=kl
    )
    return MixingCalibration(
        mixing=best,
        kl=kl(best),
        kl_plain=plain,
        inverse=inverse,
        kl_inverse=kl(inverse),
        n_prompts=len(probes),
        bound=bound,
    )


def _around(mixing: Mixing) -> list[Mixing]:
    return [
        Mixing(
            temperature=round(mixing.temperature + dt, 3),
            scale=max(0.05, round(mixing.scale + ds, 3)),
        )
        for dt in _FINE
        for ds in _FINE
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Probe:
    """One prompt with the teacher's answer and distributions, documents encoded in parallel."""

    placed: PlacedRow
    plan: ContextPlan
    tokens: tuple[int, ...]
    teacher: torch.Tensor  # (n_answer, vocabulary), log probabilities

    @classmethod
    def of(cls, model: RotaryModel, pieces: PromptPieces, answer_tokens: int) -> _Probe:
        flat = [*pieces.prefix, *(t for document in pieces.documents for t in document)]
        row = sequential_row(model, [])
        start = row.next_position
        logits = _run(model, row.row, [*flat, *pieces.suffix], start, 1)
        place = start + len(flat) + len(pieces.suffix)
        teacher, answer = [logits[-1]], []
        for _ in range(answer_tokens - 1):
            answer.append(int(teacher[-1].argmax()))
            teacher.append(_run(model, row.row, answer[-1:], place, 1)[-1])
            place += 1
        prefix = encode_behind(model, None, (), pieces.prefix) if pieces.prefix else None
        documents = [encode_behind(model, prefix, pieces.prefix, d) for d in pieces.documents]
        placed = parallel_row(model, prefix, documents, Mixing())
        if placed.row.context is None:
            raise ValueError("a calibration prompt has no document tokens")
        return cls(
            placed,
            placed.row.context,
            (*pieces.suffix, *answer),
            torch.log_softmax(torch.stack(teacher).float(), -1),
        )

    def kl(self, model: RotaryModel, mixing: Mixing) -> float:
        """Nats a token of the teacher's answer."""
        plan = replace(self.plan, temperature=mixing.temperature, scale=mixing.scale)
        n_before = self.placed.row.sequence.n_tokens
        row = Row(self.placed.row.sequence, plan)
        n_answer = self.teacher.shape[0]
        logits = _run(model, row, self.tokens, self.placed.next_position, n_answer)
        row.sequence.truncate(n_before)
        student = torch.log_softmax(logits.float(), -1)
        divergence = (self.teacher.exp() * (self.teacher - student)).sum(-1).mean()
        found = float(divergence)
        return max(0.0, found) if math.isfinite(found) else math.inf


def _run(
    model: RotaryModel, row: Row, tokens: Sequence[int], start: int, n_logits: int
) -> torch.Tensor:
    places = torch.arange(start, start + len(tokens), device=model.device)
    ids = torch.tensor([list(tokens)], device=model.device)
    return run_rows(model.model, [row], ids, places[None], n_logits=n_logits)[0]
