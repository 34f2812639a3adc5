"""Tasks in a model's tokens: pieces tokenised alone, and the questions with their answers."""

from __future__ import annotations

from collections.abc import Sequence

from ctxpress.engine.loading import RotaryModel
from ctxpress.engine.prompts import PromptPieces
from ctxpress.evaluation.kv_tasks import ContextTask

__all__ = ["asked_rows", "fits", "task_pieces"]

Rows = Sequence[tuple[Sequence[int], Sequence[int]]]


def task_pieces(
    model: RotaryModel,
    task: ContextTask,
    *,
    documents: Sequence[str] | None = None,
    suffix: Sequence[int] = (),
) -> PromptPieces:
    """Prefix and documents of a task, or other ``documents`` in their place, and ``suffix``."""
    texts = task.documents if documents is None else documents
    return PromptPieces(
        prefix=(*model.start_ids, *model.token_ids(task.prefix)),
        documents=tuple(tuple(model.token_ids(text)) for text in texts),
        suffix=tuple(suffix),
    )


def asked_rows(model: RotaryModel, task: ContextTask) -> Rows:
    """Every question, and its answer with the end of its line."""
    return [
        (model.token_ids(question), model.token_ids(f" {answer}\n"))
        for question, answer in zip(task.questions, task.answers, strict=True)
    ]


def fits(model: RotaryModel, pieces: PromptPieces, rows: Rows) -> bool:
    """Whether each question can be answered behind all documents, one behind the other."""
    longest = max(len(question) + len(answer) for question, answer in rows)
    return pieces.n_tokens + longest <= model.max_tokens
