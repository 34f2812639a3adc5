"""Speed and memory of compression beside the llmlingua library: `python -m benchmarks.compression`.

    python -m benchmarks.compression [--peer PYTHON | --make-peer] [--words 1500] [--runs 3]
                                     [--checkpoints NAME…] [--write docs/compression.md]

Every measurement runs in a process of its own (its peak resident memory is the row's), one after
another, on the same text. `--peer` is a Python that has llmlingua 0.2.2, torch and transformers;
`--make-peer` makes one in a temporary folder, which downloads them. Without either, only the
bundled model is measured. Checkpoints are made on the spot, see `benchmarks.checkpoints`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.prose import long_text, short_prompts
from ctxpress.evaluation.sections import replace_section
from ctxpress.tokens import create_counter

HERE = Path(__file__).resolve().parent
PEER_PACKAGES = ("llmlingua==0.2.2", "transformers==4.46.3", "torch", "safetensors", "pyyaml")
CHECKPOINTS = {
    "random-xlm-roberta-large": "XLM-R-large",
    "random-bert-base-multilingual-cased": "mBERT",
}
RATE = 0.5
TRAINING_WORDS = 20_000  # for the checkpoints' tokenizers
BUNDLED: Mapping[str, Any] = {"use": "token_classification"}


@dataclass(frozen=True)
class Measured:
    """One process: median seconds for the long text and for all short prompts, peak memory."""

    long_s: float
    short_s: float
    peak_mib: float
    versions: str = ""


@dataclass(frozen=True)
class Row:
    """A line of the table; `measured` is the reason why not, where there is no figure."""

    name: str
    checkpoint: str
    measured: Measured | str


@dataclass(frozen=True)
class Work:
    """The texts of one run of the benchmark, and what they count."""

    long: str
    short: Sequence[str]
    long_tokens: int
    short_tokens: int
    runs: int


def make_work(words: int, prompts: int, runs: int) -> Work:
    long, short = long_text(words), short_prompts(prompts)
    counter = create_counter(None)
    return Work(long, short, counter.count(long), sum(counter.count_many(short)), runs)


def time_one(command: Sequence[str], given: Mapping[str, Any], work: Work) -> Measured | str:
    """The long text and the short ones in a fresh process; or the last line of what went wrong."""
    loads = [[work.long], list(work.short)]
    asked = {**given, "loads": loads, "rate": RATE, "runs": work.runs}
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    long_s, short_s = map(statistics.median, answer["seconds"])
    return Measured(long_s, short_s, answer["peak_mib"], answer.get("versions", ""))


def measure(work: Work, peer: str | None, folder: Path, wanted: Sequence[str]) -> Iterator[Row]:
    """The bundled model; then, for each checkpoint, the peer and both modes of ours."""
    own = [sys.executable, "-m", "benchmarks.compression_own"]
    yield Row("ctxpress, native", "bundled", time_one(own, {"stage": BUNDLED}, work))
    if peer is None:
        return
    for name in wanted:
        make = [peer, "-I", str(HERE / "checkpoints.py"), str(folder), name]
        subprocess.run(make, input=long_text(TRAINING_WORDS, seed=7), text=True, check=True)
        model, label = str(folder / name), CHECKPOINTS[name]
        theirs = [peer, "-I", str(HERE / "compression_peer.py")]
        yield Row("llmlingua", label, time_one(theirs, {"model": model}, work))
        for mode in ("llmlingua2", "native"):
            stage = {**BUNDLED, "backend": "huggingface", "mode": mode, "model": model}
            yield Row(f"ctxpress, {mode}", label, time_one(own, {"stage": stage}, work))


def table(rows: Sequence[Row], work: Work) -> Iterator[str]:
    """Speeds, and their ratio to llmlingua on the same checkpoint; the bundled model's to each."""
    peers = {
        row.checkpoint: row.measured
        for row in rows
        if row.name == "llmlingua" and isinstance(row.measured, Measured)
    }
    header = ["", "model", "long text, tokens/s", "x llmlingua", "short prompts, tokens/s"]
    header += ["x llmlingua", "peak MiB"]
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        done = row.measured
        if isinstance(done, str):
            yield f"| {row.name} | {row.checkpoint} | not measured: {done} | | | | |"
            continue
        beside = (
            peers if row.checkpoint == "bundled" else {row.checkpoint: peers.get(row.checkpoint)}
        )
        times = {name: peer for name, peer in beside.items() if peer is not None}
        cells = [row.name, row.checkpoint, f"{work.long_tokens / done.long_s:,.0f}"]
        cells.append(
            ratios(
                {name: peer.long_s / done.long_s for name, peer in times.items()},
                named=row.checkpoint == "bundled",
            )
        )
        cells.append(f"{work.short_tokens / done.short_s:,.0f}")
        cells.append(
            ratios(
                {name: peer.short_s / done.short_s for name, peer in times.items()},
                named=row.checkpoint == "bundled",
            )
        )
        cells.append(f"{done.peak_mib:,.0f}")
        yield "| " + " | ".join(cells) + " |"


def ratios(by_checkpoint: Mapping[str, float], *, named: bool) -> str:
    """`3.1x` of one checkpoint, or each with its name."""
    if named:
        return ", ".join(f"{value:.0f}x ({name})" for name, value in by_checkpoint.items())
    return "".join(f"{value:.1f}x" for value in by_checkpoint.values())


def make_peer(folder: Path) -> str:
    """An environment with the library in `folder`; returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PEER_PACKAGES], check=True)
    return python


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compression")
    parser.add_argument("--peer", help="a Python that has llmlingua, torch and transformers")
    parser.add_argument("--make-peer", action="store_true", help="make one, in a temporary folder")
    parser.add_argument("--checkpoints", nargs="+", choices=CHECKPOINTS, default=[*CHECKPOINTS])
    parser.add_argument("--words", type=int, default=1500, help="of the long text")
    parser.add_argument("--prompts", type=int, default=8, help="short ones")
    parser.add_argument("--runs", type=int, default=3, help="of each measurement; medians count")
    parser.add_argument("--write", help="Markdown file whose section is replaced")
    options = parser.parse_args()
    work = make_work(options.words, options.prompts, options.runs)
    rows = []
    with tempfile.TemporaryDirectory(prefix="ctxpress-bench-") as name:
        folder = Path(name)
        peer = make_peer(folder / "peer") if options.make_peer else options.peer
        for row in measure(work, peer, folder, options.checkpoints):
            print(f"{row.name}, {row.checkpoint}: {row.measured}", file=sys.stderr)
            rows.append(row)
    versions = {row.measured.versions for row in rows if isinstance(row.measured, Measured)}
    lines = [
        f"`python -m benchmarks.compression`: Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, {options.runs} runs, medians; {RATE:.0%} kept. One text of "
        f"{work.long_tokens:,} tokens, and {len(work.short)} prompts of about "
        f"{work.short_tokens // len(work.short)} tokens, one at a time; tokens are counted before "
        "compression, for all rows by the same counter. Checkpoints have their published shape "
        "and random weights, which decide neither speed nor memory. Each row runs in a process of "
        f"its own. Peer: {', '.join(sorted(versions - {''})) or 'none'}.",
        "",
        *table(rows, work),
    ]
    print("\n".join(lines))
    if options.write:
        replace_section(Path(options.write), "speed", "Speed", "\n".join(lines))


if __name__ == "__main__":
    main()
