"""What encoding documents in parallel costs: exact answers, beside sequential encoding.

Each task is asked in several forms over the same tokens: documents one behind the other, in
parallel as they are (T = S = 1), with T and S, and with S = 1/T, the form that an engine without a
log-sum-exp of its own can run (arXiv 2502.05431). T and S were found without labels, on other
tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ctxpress.engine.forms import AskedForm, ContextForms
from ctxpress.engine.loading import RotaryModel
from ctxpress.engine.mixing_calibration import MixingCalibration, calibrate_mixing
from ctxpress.engine.parallel import Mixing
from ctxpress.evaluation.kv_asking import asked_rows, fits, task_pieces
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
        task_pieces(model, task, suffix=model.token_ids(task.questions[0]))
        for kind in kinds
        for task in generate_tasks(
            kind, n_documents=n_documents, n_tasks=n_tasks, seed=_CALIBRATION_SEED
        )
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
    asked: list[dict[str, AskedForm]] = []
    for task in tasks:
        asked += _asked(model, task, forms)
        on_step()
    if not asked:
        raise ValueError(f"no task fits into the {model.max_tokens} tokens of {model.name}")
    return ParallelRow(
        kind=tasks[0].kind,
        n_documents=len(tasks[0].documents),
        n_questions=len(asked),
        accuracy={name: float(np.mean([one[name].right for one in asked])) for name in forms},
        kl={name: float(np.mean([one[name].kl for one in asked])) for name in forms},
    )


def _asked(
    model: RotaryModel, task: ContextTask, forms: Mapping[str, Mixing | None]
) -> list[dict[str, AskedForm]]:
    """What every question of a task came to; empty where the task does not fit."""
    rows = asked_rows(model, task)
    pieces = task_pieces(model, task)
    if not fits(model, pieces, rows):
        return []
    context = ContextForms(model, pieces, forms)
    return [context.ask(question, answer) for question, answer in rows]
