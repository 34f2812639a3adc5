"""What re-encoding edited documents costs (PIE, arXiv 2407.03157), beside computing them anew.

A sentence is put into the middle of a document, as an editor would; all else stays. The questions
are those of the task, which the inserted sentence does not answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ctxpress.engine.edited_forms import EDIT_FORMS, EditedForms
from ctxpress.engine.forms import AskedForm
from ctxpress.engine.loading import RotaryModel
from ctxpress.engine.parallel import Mixing
from ctxpress.evaluation.kv_asking import asked_rows, fits, task_pieces
from ctxpress.evaluation.kv_tasks import ContextTask

__all__ = ["EDIT_FORMS", "EditRow", "insert_sentence", "measure_edits"]

_INSERTED = (
    "The old bridge was painted on a quiet day. ",
    "A narrow road leads from the mill to the harbour. ",
    "The clock above the gate stopped years ago. ",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EditRow:
    """Of one kind of task: how many of the documents were edited, and what that came to.

    ``reused``: the share of the edited documents' tokens that was not computed. ``accuracy`` and
    ``kl`` by form; ``kl`` is KL(computed ‖ form) over the answers, nats a token.
    """

    kind: str
    n_documents: int
    n_questions: int
    reused: float
    accuracy: Mapping[str, float]
    kl: Mapping[str, float]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "kind": self.kind,
            "n_documents": self.n_documents,
            "n_questions": self.n_questions,
            "reused": self.reused,
            "accuracy": dict(self.accuracy),
            "kl": dict(self.kl),
        }


def insert_sentence(document: str, draw: random.Random) -> str:
    """``document`` with one more sentence, behind one that ends in its middle third.

    A document of a single sentence gets it in front, behind its first line.
    """
    ends = [place + 2 for place in range(len(document)) if document.startswith(". ", place)]
    third = len(document) // 3
    inner = [end for end in ends if third <= end <= 2 * third] or ends
    at = draw.choice(inner) if inner else document.find("\n") + 1
    return document[:at] + draw.choice(_INSERTED) + document[at:]


def measure_edits(
    model: RotaryModel,
    tasks: Sequence[ContextTask],
    mixing: Mixing,
    *,
    seed: int = 0,
    on_step: Callable[[], None] = lambda: None,
) -> EditRow:
    """Ask ``tasks``, all of one kind and size, after a sentence was put into every document.

    :raises ValueError: there is no task that fits into the model's window.
    """
    draw = random.Random(seed)
    asked: list[dict[str, AskedForm]] = []
    reused = changed = 0
    for task in tasks:
        edited = [insert_sentence(document, draw) for document in task.documents]
        before, after = task_pieces(model, task), task_pieces(model, task, documents=edited)
        rows = asked_rows(model, task)
        if fits(model, after, rows):
            forms = EditedForms(model, before, after, mixing)
            asked += [forms.ask(question, answer) for question, answer in rows]
            reused, changed = reused + forms.reused_tokens, changed + forms.changed_tokens
        on_step()
    if not asked:
        raise ValueError(f"no task fits into the {model.max_tokens} tokens of {model.name}")
    return EditRow(
        kind=tasks[0].kind,
        n_documents=len(tasks[0].documents),
        n_questions=len(asked),
        reused=reused / changed,
        accuracy={name: float(np.mean([one[name].right for one in asked])) for name in EDIT_FORMS},
        kl={name: float(np.mean([one[name].kl for one in asked])) for name in EDIT_FORMS},
    )
