"""The card: `card_template.md` with what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from ctxpress.evaluation.kv_tasks import generate_tasks
from training.reference_model.evaluate import (
    AccuracyRow,
    Perplexity,
    accuracy_table,
    largest_count,
)

VERSION = "0.1.0"
_TEMPLATE = Path(__file__).with_name("card_template.md")


@dataclass(frozen=True, slots=True)
class Training:
    """What the card says of the training."""

    n_steps: int
    batch_tokens: int
    text_share: float
    """Fraction of all tokens that are natural text."""
    text_tokens: int
    """Tokens of the passages trained on."""
    n_train: int
    n_held_out: int


def write_card(
    folder: Path,
    *,
    config: Any,
    n_parameters: int,
    rows: Sequence[AccuracyRow],
    perplexity: Perplexity,
    training: Training,
) -> None:
    """Write `CARD.md` into the exported `folder`."""
    n_bytes = sum(path.stat().st_size for path in folder.iterdir() if path.suffix != ".md")
    kv_values = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    trained = training.n_steps * training.batch_tokens
    values = {
        "version": VERSION,
        "layers": config.num_hidden_layers,
        "hidden": config.hidden_size,
        "heads": config.num_attention_heads,
        "kv_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "intermediate": config.intermediate_size,
        "rope_theta": f"{config.rope_parameters['rope_theta']:,.0f}",
        "parameters": f"{n_parameters:,}",
        "kv_values": f"{kv_values:,}",
        "kv_bytes": f"{2 * kv_values:,}",
        "window": f"{config.max_position_embeddings:,}",
        "vocabulary": f"{config.vocab_size:,}",
        "bytes": f"{n_bytes:,}",
        "example": _example(),
        "questions": max(row.n_questions for row in rows),
        "tasks": max(row.n_tasks for row in rows),
        "margin": f"{100 * max(row.margin for row in rows):.1f}",
        "accuracies": accuracy_table(rows),
        "largest": largest_count(rows),
        "perplexity_tokens": f"{perplexity.n_tokens:,}",
        "perplexity": f"{perplexity.per_token:.2f}",
        "bits_per_byte": f"{perplexity.bits_per_byte:.3f}",
        "held_out": training.n_held_out,
        "trained_millions": round(trained / 1e6),
        "steps": f"{training.n_steps:,}",
        "batch_tokens": f"{training.batch_tokens:,}",
        "text_share": f"{100 * training.text_share:.0f}",
        "train_passages": f"{training.n_train:,}",
        "text_epochs": f"{trained * training.text_share / training.text_tokens:.1f}",
    }
    text = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(values)
    (folder / "CARD.md").write_text(text, encoding="utf-8")


def _example() -> str:
    (task,) = generate_tasks("retrieval", n_documents=2, n_tasks=1, seed=1)
    return f"{task.prefix}{''.join(task.documents)}{task.questions[0]} {task.answers[0]}"
