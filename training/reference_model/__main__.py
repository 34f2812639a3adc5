"""The command: `python -m training.reference_model --data FOLDER --out FOLDER`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from tokenizers import Tokenizer

from training.reference_model.curriculum import CURRICULUM
from training.reference_model.fit import Recipe, Trainer
from training.reference_model.model import Shape, create_model
from training.reference_model.rows import RowMaker
from training.reference_model.texts import load_texts
from training.reference_model.tokenizer import save_tokenizer, train_tokenizer

SEED = 1


def main(arguments: list[str] | None = None) -> None:
    """Train, or go on training."""
    options = _parser().parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    texts = load_texts(options.data)
    tokenizer_file = options.work / "tokenizer.json"
    if not (options.resume and tokenizer_file.exists()):
        save_tokenizer(train_tokenizer(texts.train, options.vocabulary), options.work)
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    rows = RowMaker(tokenizer, texts.train, CURRICULUM, SEED)
    model = create_model(Shape(), tokenizer.get_vocab_size(), SEED)
    recipe = Recipe(
        options.steps,
        options.batch_tokens,
        matrix_rate=options.matrix_rate,
        other_rate=options.other_rate,
        threads=options.threads,
        compiled=not options.eager,
    )
    trainer = Trainer(model, rows, recipe)
    checkpoint = options.work / "checkpoint.safetensors"
    if options.resume and checkpoint.exists():
        trainer.load(checkpoint)

    def report(step: int, loss: float, rate: float) -> None:
        print(f"{time.strftime('%H:%M:%S')} step {step} loss {loss:.4f} {rate:.0f} tok/s", flush=True)

    trainer.run(options.until or options.steps, report, lambda: trainer.save(checkpoint), 180)
    trainer.save(checkpoint)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.reference_model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("build/reference_model"))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--until", type=int)
    parser.add_argument("--batch-tokens", type=int, default=8192)
    parser.add_argument("--vocabulary", type=int, default=3584)
    parser.add_argument("--matrix-rate", type=float, default=0.02)
    parser.add_argument("--other-rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--eager", action="store_true")
    return parser


if __name__ == "__main__":
    main()
