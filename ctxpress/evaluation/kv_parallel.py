"""What encoding documents in parallel costs: exact answers, beside sequential encoding.

Each task is asked in several forms over the same tokens: documents one behind the other, in
parallel as they are (T = S = 1), with T and S, and with S = 1/T, the form that an engine without a
log-sum-exp of its own can run (arXiv 2502.05431). T and S were found without labels, on other
tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ctxpress.cache.kv import KVBlock
from ctxpress.engine.attention import Row
from ctxpress.engine.forward import run_rows
from ctxpress.engine.loading import RotaryModel
from ctxpress.engine.mixing_calibration import MixingCalibration, calibrate_mixing
from ctxpress.engine.parallel import (
    Mixing,
    PlacedRow,
    encode_behind,
    parallel_row,
    sequential_row,
)
from ctxpress.engine.prompts import PromptPieces
from ctxpress.evaluation.kv_tasks import ContextTask, TaskKind, generate_tasks

__all__ = ["FORMS", "ParallelRow", "calibrate_on_tasks", "forms_of", "measure_parallel"]

FORMS = ("sequential", "parallel", "APE(T, S)", "APE(T, 1/T)")
_CALIBRATION_SEED = 7_919  # other tasks than those that are measured


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelRow:
    """Of one kind of task with one number of documents: the share of exact answers by form.

    ``kl``: by form, KL(sequential ‖ form) of next-token distributions over the answers, in nats.
    """

    kind: str
    n_documents: int
    n_questions: int
    accuracy: Mapping[str, float]
    kl: Mapping[str, float]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "kind": self.kind,
            "n_documents": self.n_documents,
            "n_questions": self.n_questions,
            "accuracy": dict(self.accuracy),
            "kl": dict(self.kl),
        }


def forms_of(calibration: MixingCalibration) -> dict[str, Mixing | None]:
    """The forms to measure; None is sequential."""
    mixings = (None, Mixing(), calibration.mixing, calibration.inverse)
    return dict(zip(FORMS, mixings, strict=True))


def calibrate_on_tasks(
    model: RotaryModel,
    kinds: Sequence[TaskKind],
    *,
    n_documents: int = 8,
    n_tasks: int = 4,
    answer_tokens: int = 4,
) -> MixingCalibration:
    """T and S from tasks of these kinds, without their answers."""
    prompts = [
        PromptPieces(
            prefix=tuple(prefix),
            documents=tuple(map(tuple, documents)),
            suffix=tuple(model.token_ids(task.questions[0])),
        )
        for kind in kinds
        for task in generate_tasks(
            kind, n_documents=n_documents, n_tasks=n_tasks, seed=_CALIBRATION_SEED
        )
        for prefix, documents in [_pieces(model, task)]
    ]
    return calibrate_mixing(model, prompts, answer_tokens=answer_tokens)


def measure_parallel(
    model: RotaryModel,
    tasks: Sequence[ContextTask],
    forms: Mapping[str, Mixing | None],
    *,
    on_step: Callable[[], None] = lambda: None,
) -> ParallelRow:
    """Ask ``tasks``, all of one kind and size, in every form; ``on_step`` is called for each task.

    An answer counts if greedy decoding writes it and then ends the line. Tasks whose context is
    longer than the model's window are left out.

    :raises ValueError: there is no task that fits.
    """
    right: dict[str, list[float]] = {name: [] for name in forms}
    kl: dict[str, list[float]] = {name: [] for name in forms}
    for task in tasks:
        rows = _rows(model, task, forms)
        for question, answer in zip(task.questions, task.answers, strict=True) if rows else ():
            asked, wanted = model.token_ids(question), model.token_ids(f" {answer}\n")
            teacher: torch.Tensor | None = None
            for name, placed in rows.items():
                logits = _answered(model, placed, asked, wanted)
                right[name].append(float((logits.argmax(-1) == torch.tensor(wanted)).all()))
                found = torch.log_softmax(logits.float(), -1)
                teacher = found if teacher is None else teacher
                divergence = (teacher.exp() * (teacher - found)).sum(-1).mean()
                kl[name].append(max(0.0, float(divergence)))
        on_step()
    asked_of = len(next(iter(right.values())))
    if not asked_of:
        raise ValueError(f"no task fits into the {model.max_tokens} tokens of {model.name}")
    return ParallelRow(
        kind=tasks[0].kind,
        n_documents=len(tasks[0].documents),
        n_questions=asked_of,
        accuracy={name: float(np.mean(values)) for name, values in right.items()},
        kl={name: float(np.mean(values)) for name, values in kl.items()},
    )


def _pieces(model: RotaryModel, task: ContextTask) -> tuple[list[int], list[list[int]]]:
    prefix = [*model.start_ids, *model.token_ids(task.prefix)]
    return prefix, [model.token_ids(document) for document in task.documents]


def _rows(
    model: RotaryModel, task: ContextTask, forms: Mapping[str, Mixing | None]
) -> dict[str, PlacedRow]:
    """A row a form with the context in place, sequential first; none where it does not fit."""
    prefix, documents = _pieces(model, task)
    flat = [*prefix, *(token for document in documents for token in document)]
    longest = max(len(model.token_ids(question)) for question in task.questions)
    if len(flat) + longest + 16 > model.max_tokens:
        return {}
    sequential = sequential_row(model, [])
    _run(model, sequential.row, flat, 0, 1)
    rows = {}
    head = encode_behind(model, None, (), prefix)
    blocks: list[KVBlock] = [encode_behind(model, head, prefix, each) for each in documents]
    placed = parallel_row(model, head, blocks, Mixing())
    for name, mixing in sorted(forms.items(), key=lambda form: form[1] is not None):
        if mixing is None:
            rows[name] = PlacedRow(sequential.row, len(flat))
        elif placed.row.context is not None:
            plan = replace(placed.row.context, temperature=mixing.temperature, scale=mixing.scale)
            rows[name] = PlacedRow(Row(placed.row.sequence, plan), placed.next_position)
    return rows


def _answered(
    model: RotaryModel, placed: PlacedRow, asked: Sequence[int], wanted: Sequence[int]
) -> torch.Tensor:
    """The logits from which each token of the answer is chosen, ``(n_answer, vocabulary)``."""
    sequence = placed.row.sequence
    n_before = sequence.n_tokens
    tokens = [*asked, *wanted[:-1]]
    logits = _run(model, placed.row, tokens, placed.next_position, len(wanted))
    sequence.truncate(n_before)
    return logits


def _run(
    model: RotaryModel, row: Row, tokens: Sequence[int], start: int, n_logits: int
) -> torch.Tensor:
    places = torch.arange(start, start + len(tokens), device=model.device)
    ids = torch.tensor([list(tokens)], device=model.device)
    logits = run_rows(model.model, [row], ids, places[None], n_logits=n_logits)[0]
    return logits.cpu()
