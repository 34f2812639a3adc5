"""The command: `python -m training.reference_model --data FOLDER --out FOLDER [--resume]`.

Trains, exports, measures and writes the card. Interrupted, it goes on with `--resume` from the
last checkpoint in `--work` and comes to the same weights.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from ctxpress.engine import load_model
from training.reference_model.card import Training, write_card
from training.reference_model.curriculum import CURRICULUM
from training.reference_model.evaluate import (
    DOCUMENT_COUNTS,
    AccuracyRow,
    accuracies,
    perplexity,
)
from training.reference_model.export import export_model
from training.reference_model.fit import Figures, Recipe, Trainer
from training.reference_model.model import Shape, create_model
from training.reference_model.rows import RowMaker
from training.reference_model.texts import Texts, load_texts
from training.reference_model.tokenizer import save_tokenizer, train_tokenizer

SEED = 1


def main(arguments: list[str] | None = None) -> None:
    """Train or go on training; then export and measure, unless `--until` stops before the end."""
    options = _parser().parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    texts = load_texts(options.data)
    tokenizer = _tokenizer(texts, options)
    rows = RowMaker(tokenizer, texts.train, CURRICULUM, SEED)
    model = create_model(Shape(), tokenizer.get_vocab_size(), SEED)
    recipe = Recipe(
        options.steps, options.batch_tokens, threads=options.threads, compiled=not options.eager
    )
    trainer = Trainer(model, rows, recipe)
    checkpoint = options.work / "checkpoint.safetensors"
    if options.resume and checkpoint.exists():
        trainer.load(checkpoint)
        _say(f"resumed at step {trainer.step}")
    last = options.steps if options.until is None else min(options.until, options.steps)
    trainer.run(last, _report, lambda: trainer.save(checkpoint), options.save_every_s)
    trainer.save(checkpoint)
    n_bytes = export_model(model, tokenizer, options.out)
    _say(f"exported {n_bytes:,} bytes to {options.out}")
    if last == options.steps:
        _measure(options, model, texts, rows, recipe)


def _tokenizer(texts: Texts, options: argparse.Namespace) -> Tokenizer:
    file = options.work / "tokenizer.json"
    if not (options.resume and file.exists()):
        save_tokenizer(train_tokenizer(texts.train, options.vocabulary), options.work)
    return Tokenizer.from_file(str(file))


def _measure(
    options: argparse.Namespace, model: Any, texts: Texts, rows: RowMaker, recipe: Recipe
) -> None:
    torch.set_num_threads(options.threads)
    shipped = load_model(str(options.out), device="cpu")
    held_out = perplexity(shipped, texts.held_out)
    _say(f"perplexity {held_out.per_token:.2f}, {held_out.bits_per_byte:.3f} bits a byte")
    found = accuracies(
        shipped, counts=DOCUMENT_COUNTS, n_questions=options.questions, on_row=_print_row
    )
    training = Training(
        recipe.n_steps,
        recipe.batch_tokens,
        rows.text_share(recipe.n_steps, recipe.batch_tokens),
        rows.n_text_tokens,
        len(texts.train),
        len(texts.held_out),
    )
    write_card(
        options.out,
        config=model.config,
        n_parameters=sum(p.numel() for p in model.parameters()),
        rows=found,
        perplexity=held_out,
        training=training,
    )


def _report(step: int, mean: Figures, rate: float) -> None:
    _say(
        f"step {step} loss {mean.loss:.3f} answers {mean.answers_correct:.3f}"
        f" text {mean.text_nats:.2f} nats, {rate:.0f} tokens/s"
    )


def _print_row(row: AccuracyRow) -> None:
    _say(f"{row.kind} {row.n_documents} {row.correct:.3f} of {row.n_questions}")


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.reference_model")
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with distill/ and refine/")
    add("--out", type=Path, default=Path("ctxpress/engine/reference_model"))
    add("--work", type=Path, default=Path("build/reference_model"), help="checkpoints")
    add("--resume", action="store_true", help="go on from the checkpoint in --work")
    add("--steps", type=int, default=1200)
    add("--until", type=int, help="stop after this step, export, measure nothing")
    add("--batch-tokens", type=int, default=8192)
    add("--vocabulary", type=int, default=3584)
    add("--questions", type=int, default=640, help="of each kind and number of documents")
    add("--threads", type=int, default=2)
    add("--save-every-s", type=float, default=180)
    add("--eager", action="store_true", help="without torch.compile")
    return parser


if __name__ == "__main__":
    main()
