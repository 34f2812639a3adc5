"""Speed and quality of several checkpoints in one run: `python -m training.variants`.

Writes the JSON rows that `benchmarks.variants` draws: sub-tokens a second of the int8 graph, and
the share of questions whose answer survives in the whole pipeline, the question not shown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tokenizers import Tokenizer

from ctxpress.config import Config
from ctxpress.evaluation.compressors import PipelineCompressor
from ctxpress.evaluation.datasets import Item, read_items
from ctxpress.evaluation.runner import evaluate
from ctxpress.hookspecs import RegisterStage, hookimpl
from ctxpress.manager import PluginManager, create_plugin_manager
from ctxpress.models import OnnxTokenScorer, load_bundled_scorer, load_bundled_tokenizer
from ctxpress.plugins.token_classification import (
    TokenClassificationConfig,
    TokenClassificationStage,
)
from ctxpress.sdk import Pipeline
from ctxpress.tokens import create_counter
from training.bundle_writer import write_files
from training.token_classifier import load_checkpoint

RATIOS = (0.5, 1 / 3, 0.2)
_RUNS = 5


class _Plugin:
    """A stage `variant`: token classification with one checkpoint."""

    def __init__(self, scorer: OnnxTokenScorer) -> None:
        self._scorer = scorer

    @hookimpl
    def register_stages(self, register: RegisterStage) -> None:
        register(
            "variant",
            lambda config, resources: TokenClassificationStage(config, self._scorer),
            TokenClassificationConfig,
        )


async def survival(scorer: OnnxTokenScorer, items: list[Item], *, shown: bool) -> dict[str, float]:
    """Keep ratio to the share of questions whose answer survives."""
    manager: PluginManager = create_plugin_manager(plugins=[_Plugin(scorer)])
    stages = {"stages": [{"use": "variant"}], "min_tokens": 0, "deadline_ms": 600_000}
    config = Config.model_validate(
        {"version": 1, "store": "memory://", "pipelines": {"variant": stages}}
    )
    compressor = PipelineCompressor("variant", lambda: Pipeline("variant", config, manager=manager))
    counter = create_counter(None)
    view = "shown" if shown else "hidden"
    rows = {}
    for ratio in RATIOS:
        row = await evaluate("nq", items, compressor, counter, view=view, keep_ratio=ratio)
        rows[f"{ratio:.3g}"] = round(row.score, 4)
    return rows


def speeds(scorers: dict[str, OnnxTokenScorer], text: str) -> dict[str, float]:
    """Sub-tokens a second of each, medians of rounds in which all take their turn."""
    taken: dict[str, list[float]] = {name: [] for name in scorers}
    for _ in range(_RUNS):
        for name, scorer in scorers.items():
            begun_s = time.perf_counter()
            (scores,) = scorer.score([text])
            taken[name].append(len(scores.starts) / (time.perf_counter() - begun_s))
    return {name: statistics.median(values) for name, values in taken.items()}


def main(arguments: list[str]) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m training.variants")
    parser.add_argument("checkpoints", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--data", type=Path, required=True, help="folder with nq_dev.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--limit", type=int, help="questions at most")
    options = parser.parse_args(arguments)
    items = read_items(options.data, "nq", options.limit)
    tokenizer: Tokenizer = load_bundled_tokenizer()
    scorers: dict[str, OnnxTokenScorer] = {}
    layers: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        for given in options.checkpoints:
            name, _, file = given.partition("=")
            model = load_checkpoint(Path(file))
            place = Path(folder) / name
            write_files(place, model, tokenizer, "0")
            scorers[name], layers[name] = load_bundled_scorer(folder=place), model.shape.n_layers
    quick = speeds(scorers, "\n\n".join(item.text for item in items)[:40_000])
    rows = []
    for name, scorer in scorers.items():
        row = {
            "name": name,
            "layers": layers[name],
            "tokens_per_second": round(quick[name]),
            "survival": asyncio.run(survival(scorer, items, shown=False)),
        }
        rows.append(row)
        shown = asyncio.run(survival(scorer, items, shown=True))
        print(json.dumps({**row, "shown": shown}), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
