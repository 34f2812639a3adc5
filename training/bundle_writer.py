"""Writes the bundle that ships: graph, tokenizer, manifest and card, with the metrics measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from ctxpress.models.bundle import load_bundled_scorer
from ctxpress.models.encoding import encode_text
from training import evaluate
from training.data import Passage
from training.evaluate_questions import use_table
from training.export import export, quantise_rows
from training.fit import MARGIN_TOKENS, WINDOW_TOKENS, probabilities
from training.model import ANSWER, KEEP_MIX, ROOTS, USE_MIX, TokenClassifier
from training.questions import Item
from training.relevance import fit_relevance

NAME = "ctxpress-minilm-l{n_layers}-keep"
LANGUAGES = ("en",)
NO_RELEVANCE: Mapping[str, float] = MappingProxyType({})
_CARD = Path(__file__).with_name("card_template.md")


def write_bundle(
    folder: Path,
    model: TokenClassifier,
    tokenizer: Tokenizer,
    *,
    train: Sequence[Passage],
    held: Sequence[Passage],
    items: Sequence[Item],
    held_items: Sequence[Item],
    n_written: int,
    version: str,
    report: Callable[[str], None],
) -> None:
    """Export `model` into `folder`, measure the shipped form on `held`, and write the card."""
    write_files(folder, model, tokenizer, version)
    relevance = fit_relevance(load_bundled_scorer(folder=folder), held_items)
    write_files(folder, model, tokenizer, version, relevance)
    scorers: dict[str, Callable[[Passage], evaluate.Scores]] = {
        **evaluate.baselines(train),
        "float32": lambda passage: _score_in_torch(model, tokenizer, passage),
        "int8 (shipped)": _shipped(folder),
    }
    scores = {name: [scorer(passage) for passage in held] for name, scorer in scorers.items()}
    overall = {name: evaluate.measure(held, values) for name, values in scores.items()}
    text = _CARD.read_text("utf-8")
    for key, value in {
        "version": version,
        "size": f"{(folder / 'model.onnx').stat().st_size / 1e6:.1f}",
        "train": _size(train),
        "held": _size(held),
        "overall": evaluate.table(overall),
        "keep_mix": _mix(KEEP_MIX),
        "use_mix": _mix(USE_MIX),
        "questions": f"{len(items):,} questions",
        "written": f"{n_written:,}",
        "held_questions": f"{len(held_items):,}",
        "use": use_table(load_bundled_scorer(threads=1, folder=folder), held_items),
        "domains": _domains(held, scores["int8 (shipped)"]),
        "loss": _loss(overall),
        "rates": " and ".join(
            f"{rate:.0%} (`{level}`)" for level, rate in overall["float32"].teacher_rate.items()
        ),
    }.items():
        text = text.replace("{{" + key + "}}", value)
    (folder / "CARD.md").write_text(text, "utf-8")
    report(evaluate.table(overall) + "\n" + _loss(overall))


def write_files(
    folder: Path,
    model: TokenClassifier,
    tokenizer: Tokenizer,
    version: str,
    relevance: Mapping[str, float] = NO_RELEVANCE,
) -> None:
    """Graph, tokenizer and manifest: all that is needed to load the bundle."""
    folder.mkdir(parents=True, exist_ok=True)
    export(model, folder / "model.onnx")
    words, _ = quantise_rows(model.state_dict()["words.weight"].detach().float().numpy())
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    names = ("model.onnx", "tokenizer.json")
    manifest = {
        "name": NAME.format(n_layers=model.shape.n_layers),
        "version": version,
        "languages": list(LANGUAGES),
        "window_tokens": WINDOW_TOKENS,
        "margin_tokens": MARGIN_TOKENS,
        "words_offset": (folder / "model.onnx").read_bytes().index(words.tobytes()),
        "relevance": dict(relevance),
        "sha256": {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in names},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")


def _score_in_torch(
    model: TokenClassifier, tokenizer: Tokenizer, passage: Passage
) -> evaluate.Scores:
    levels = probabilities(model, tokenizer, passage.text)
    scores = np.column_stack([levels, levels[:, ANSWER] ** 0.5**ROOTS]) @ np.array(
        KEEP_MIX, np.float32
    )
    starts = encode_text(tokenizer, passage.text).starts
    return evaluate.word_scores(passage.words, starts, scores)


def _shipped(folder: Path) -> Callable[[Passage], evaluate.Scores]:
    scorer = load_bundled_scorer(threads=1, folder=folder)

    def score(passage: Passage) -> npt.NDArray[np.float64]:
        (scores,) = scorer.score([passage.text])
        return evaluate.word_scores(passage.words, scores.starts, scores.keep_scores)

    return score


def _mix(shares: Sequence[float]) -> str:
    names = ("`half`", "`core`", "`quote`", "`answer`", "`answer`^1/8")
    return " + ".join(f"{s:g} {name}" for s, name in zip(shares, names, strict=True) if s)


def _size(passages: Sequence[Passage]) -> str:
    return f"{len(passages):,} passages, {sum(len(p.words) for p in passages):,} words"


def _domains(held: Sequence[Passage], scores: Sequence[evaluate.Scores]) -> str:
    rows = {}
    for domain in sorted({passage.domain for passage in held}):
        chosen = [i for i, passage in enumerate(held) if passage.domain == domain]
        rows[domain] = evaluate.measure([held[i] for i in chosen], [scores[i] for i in chosen])
    return evaluate.table(rows)


def _loss(qualities: Mapping[str, evaluate.Quality]) -> str:
    """Points (hundredths) that int8 costs, a level: AUC, and F1 at the teacher's own rate."""
    full, small = qualities["float32"], qualities["int8 (shipped)"]
    parts = [
        f"{level}: AUC {100 * (full.auc[level] - small.auc[level]):+.2f}, "
        f"F1 {100 * (full.f1_at_teacher_rate[level] - small.f1_at_teacher_rate[level]):+.2f}"
        for level in evaluate.LEVELS
    ]
    return "; ".join(parts)
