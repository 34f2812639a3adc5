"""Exact match by kind of task and number of documents, and perplexity on held-out passages."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ctxpress.engine import RotaryModel, prefill_rows, score_tokens
from ctxpress.evaluation.kv_tasks import KINDS, ContextTask, TaskKind, generate_tasks
from ctxpress.evaluation.kv_words import DIGITS

DOCUMENT_COUNTS = (1, 2, 4, 8, 16, 32, 64)
EVALUATION_SEED = 1_000
TARGET = 0.95
_QUESTIONS = 640


@dataclass(frozen=True, slots=True)
class AccuracyRow:
    """Exact match of one kind at one number of documents."""

    kind: TaskKind
    n_documents: int
    n_tasks: int
    n_questions: int
    correct: float
    """Fraction of all questions."""
    numbers: float | None
    """Fraction of those whose answer is a number, None where there are none."""
    words: float | None
    context_tokens: int
    """Mean tokens of a context without its question."""

    @property
    def margin(self) -> float:
        """Half the 95 % interval (Agresti-Coull)."""
        n = self.n_questions + 4
        p = (self.correct * self.n_questions + 2) / n
        return 1.96 * math.sqrt(p * (1 - p) / n)


@dataclass(frozen=True, slots=True)
class Perplexity:
    """On passages, each alone behind the start token."""

    n_tokens: int
    per_token: float
    bits_per_byte: float


def accuracies(
    model: RotaryModel,
    *,
    counts: Sequence[int] = DOCUMENT_COUNTS,
    kinds: Sequence[TaskKind] = KINDS,
    n_questions: int = _QUESTIONS,
    seed: int = EVALUATION_SEED,
    on_row: Callable[[AccuracyRow], None] = lambda row: None,
) -> list[AccuracyRow]:
    """A row for each kind and count of documents, with full sequential attention."""
    rows = []
    for kind in kinds:
        for count in counts:
            if kind == "two_hop" and count < 2:
                continue
            tasks = generate_tasks(
                kind,
                n_documents=count,
                n_tasks=max(1, -(-n_questions // max(4, min(count, 8)))),
                seed=seed,
            )
            row = _row(model, kind, count, tasks)
            rows.append(row)
            on_row(row)
    return rows


def perplexity(model: RotaryModel, texts: Sequence[str]) -> Perplexity:
    """Of all tokens of `texts`; what exceeds the model's window is left out."""
    nats, n_tokens, n_bytes = 0.0, 0, 0
    for text in texts:
        ids = [*model.start_ids, *model.token_ids(text)][: model.max_tokens]
        scores = score_tokens(model, [ids])
        nats -= float(scores.log_probs.sum())
        n_tokens += len(ids) - 1
        n_bytes += len(model.tokenizer.decode(ids[1:]).encode())
    return Perplexity(n_tokens, math.exp(nats / n_tokens), nats / math.log(2) / n_bytes)


def largest_count(rows: Sequence[AccuracyRow], kind: TaskKind = "retrieval") -> int:
    """The most documents up to which every row of `kind` reaches `TARGET`; 0 if none does."""
    reached = 0
    for row in sorted((r for r in rows if r.kind == kind), key=lambda r: r.n_documents):
        if row.correct < TARGET:
            break
        reached = row.n_documents
    return reached


def accuracy_table(rows: Sequence[AccuracyRow]) -> str:
    """Markdown: a line a kind, a column a number of documents."""
    counts = sorted({row.n_documents for row in rows})
    lines = [
        "| task | " + " | ".join(f"{count}" for count in counts) + " |",
        "|---" * (len(counts) + 1) + "|",
    ]
    for kind in dict.fromkeys(row.kind for row in rows):
        cells: dict[str, list[str]] = defaultdict(list)
        found = {row.n_documents: row for row in rows if row.kind == kind}
        for count in counts:
            row = found.get(count)
            cells["all"].append("" if row is None else f"{row.correct:.3f}")
            cells["words"].append(_cell(row.words if row else None))
            cells["numbers"].append(_cell(row.numbers if row else None))
        lines.append(f"| {kind} | " + " | ".join(cells["all"]) + " |")
        if kind == "retrieval":
            lines.append("| … answers of one word | " + " | ".join(cells["words"]) + " |")
            lines.append("| … numbers of 2 to 4 digits | " + " | ".join(cells["numbers"]) + " |")
    sizes = {row.n_documents: row.context_tokens for row in rows if row.kind == "retrieval"}
    lines.append(
        "| tokens of context | " + " | ".join(str(sizes.get(c, "")) for c in counts) + " |"
    )
    return "\n".join(lines)


def _cell(share: float | None) -> str:
    return "" if share is None else f"{share:.3f}"


def _row(
    model: RotaryModel, kind: TaskKind, count: int, tasks: Sequence[ContextTask]
) -> AccuracyRow:
    numbers: list[bool] = []
    words: list[bool] = []
    sizes = []
    for task in tasks:
        hits, size = task_hits(model, task)
        sizes.append(size)
        for question, hit in zip(task.questions, hits, strict=True):
            is_number = any(f"the {attribute} of" in question for attribute in DIGITS)
            (numbers if is_number else words).append(hit)
    both = numbers + words
    return AccuracyRow(
        kind,
        count,
        len(tasks),
        len(both),
        sum(both) / len(both),
        sum(numbers) / len(numbers) if numbers else None,
        sum(words) / len(words) if words else None,
        round(sum(sizes) / len(sizes)),
    )


def task_hits(model: RotaryModel, task: ContextTask) -> tuple[list[bool], int]:
    """Whether greedy decoding answers each question and then ends the line; tokens of context.

    All tokens of an answer are looked at in one pass, each with the right ones before it: the
    first wrong one is where greedy decoding would have left the answer.
    """
    context = [*model.start_ids, *model.token_ids(task.prefix + "".join(task.documents))]
    block = prefill_rows(model, [context]).block()
    pairs = [
        (model.token_ids(question), model.token_ids(f" {answer}\n"))
        for question, answer in zip(task.questions, task.answers, strict=True)
    ]
    scores = score_tokens(
        model, [[*question, *answer] for question, answer in pairs], behind=[[block]] * len(pairs)
    )
    hits = [
        bool(scores.greedy[row, len(question) - 1 : len(question) + len(answer) - 1].all())
        for row, (question, answer) in enumerate(pairs)
    ]
    return hits, len(context)
