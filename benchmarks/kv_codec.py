"""Speed and size of KV codecs beside others: `python -m benchmarks.kv_codec`.

    python -m benchmarks.kv_codec --model FOLDER --texts FILE [--calibration FILE]
        [--peer PYTHON | --make-peer] [--codecs a,b] [--threads 1,2] [--runs 5] [--mosaics 24]
        [--clock cpu] [--device cuda] [--write docs/kv.md]

Two tables in one run: on the model's own KV, and on a block of Llama-3.1-8B's shape made of it (see
`benchmarks.kv_blocks`). `--peer` is a Python that has torch, numba and (without its dependencies)
lmcache; `--make-peer` makes one in a temporary folder, which downloads them. Medians of `--runs`
after one run that does not count; `--clock cpu` counts the seconds that the process computed, for
machines that are not idle, and is meant for one thread.
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
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.kv_baselines import Baseline, baselines, level_2_symbols
from benchmarks.kv_blocks import LLAMA_8B, mosaic, real_blocks
from benchmarks.kv_calibrations import mosaic_calibration
from ctxpress.cache.calibration import Calibration
from ctxpress.cache.codec import BUILTIN_CODECS, Codec, create_codec
from ctxpress.cache.codecs.sectioned import SectionedCodec
from ctxpress.cache.container import parse_header, read_section
from ctxpress.cache.kv import KVBlock
from ctxpress.engine import load_model, rounded
from ctxpress.errors import CtxpressError
from ctxpress.evaluation.kv_texts import read_texts
from ctxpress.evaluation.sections import replace_section

CHUNK_TOKENS = 256
# Of kvtc the default level and a fixed one: its levels differ in size far more than in speed.
CODECS = tuple(name for name in BUILTIN_CODECS if name == "kvtc-12x" or "kvtc-" not in name)
PEER_PACKAGES = ("torch==2.13.0", "numba")
PEER_NAME = "LMCache's CPU coder (entropy coding only)"
PAYLOAD = ("symbols", "scales", "exact_rows", "payload", "values", "numbers")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Row:
    """A line: medians over all chunks together; `problem` says why there are no figures."""

    name: str
    threads: int
    n_values: int = 0
    total_bytes: int = 0
    overhead_bytes: int = 0
    encode_s: float = 0.0
    decode_s: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class How:
    """How often, by which clock and where decoded."""

    runs: int
    clock: str
    device: str


@dataclass(frozen=True)
class Data:
    """What a table is about."""

    title: str
    blocks: Sequence[KVBlock]
    calibration: Calibration | None

    @property
    def n_values(self) -> int:
        return sum(block.n_values for block in self.blocks)


def timed(work: Callable[[], object], how: How) -> float:
    """Median seconds, after one run that does not count."""
    clock = CLOCKS[how.clock]
    seconds = []
    for _ in range(how.runs + 1):
        begun = clock()
        work()
        if how.device == "cuda":
            torch.cuda.synchronize()
        seconds.append(clock() - begun)
    return statistics.median(seconds[1:])


def measure_codec(name: str, data: Data, threads: int, how: How) -> Row:
    """One of our codecs, container and checks included."""
    try:
        codec = create_codec(name, data.calibration, threads=threads, device=how.device)
        blocks = [
            replace(block, keys=block.keys.to(how.device), values=block.values.to(how.device))
            for block in data.blocks
        ]
        coded = [codec.encode(block) for block in blocks]
        encode_s = timed(lambda: [codec.encode(block) for block in blocks], how)
        decode_s = timed(lambda: [codec.decode(one) for one in coded], how)
    except (CtxpressError, ImportError) as error:
        return Row(name, threads, problem=str(error))
    return Row(
        name,
        threads,
        data.n_values,
        sum(map(len, coded)),
        sum(overhead_bytes(codec, one) for one in coded),
        encode_s,
        decode_s,
    )


def overhead_bytes(codec: Codec, data: bytes) -> int:
    """All of a container but symbols, scales and rows kept exactly."""
    header = parse_header(data)
    sections = [read_section(header, index, data) for index in range(len(header.sections))]
    shared = sections[0] if header.has_shared_section else memoryview(b"")
    assert isinstance(codec, SectionedCodec)  # noqa: S101 - all of ours are
    payload = 0
    for index, section in enumerate(sections):
        for part, size in codec.describe_section(header, index, section, shared).items():
            payload += size if part.startswith(PAYLOAD) else 0
    return len(data) - payload


def measure_baseline(baseline: Baseline, data: Data, how: How) -> Row:
    """One of the plain ways, on one thread."""
    if baseline.missing:
        return Row(baseline.name, 1, problem=baseline.missing)
    coded = [baseline.encode(block) for block in data.blocks]
    for one, block in zip(coded, data.blocks, strict=True):
        check(baseline, baseline.decode(one, block), block)
    pairs = list(zip(coded, data.blocks, strict=True))
    return Row(
        baseline.name,
        1,
        data.n_values,
        sum(one.total_bytes for one in coded),
        sum(one.overhead_bytes for one in coded),
        timed(lambda: [baseline.encode(block) for block in data.blocks], how),
        timed(lambda: [baseline.decode(one, block) for one, block in pairs], how),
    )


def check(baseline: Baseline, found: tuple[torch.Tensor, torch.Tensor], block: KVBlock) -> None:
    """Stop where a baseline gives back something else than it was given."""
    for tensor, wanted in zip(found, (block.keys, block.values), strict=True):
        if (tensor.float() - wanted.float()).norm() > 0.3 * wanted.float().norm():
            raise SystemExit(f"{baseline.name} decodes to something else")


def measure_peer(peer: str, data: Data, how: How, folder: Path) -> Row:
    """LMCache's coder in a process of its own: symbols to bytes and back, nothing else."""
    totals = {"encode_s": 0.0, "decode_s": 0.0, "total": 0, "tables": 0}
    for block in data.blocks:
        symbols, scales, levels = level_2_symbols(block)
        np.save(folder / "symbols.npy", symbols)
        np.save(folder / "levels.npy", levels)
        script = str(Path(__file__).resolve().parent / "kv_codec_peer.py")
        command = [peer, "-I", script, str(folder / "symbols.npy"), str(folder / "levels.npy")]
        done = subprocess.run(
            [*command, str(how.runs), how.clock],
            capture_output=True,
            text=True,
            env={**os.environ, "NUMBA_CACHE_DIR": str(folder)},
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            return Row(PEER_NAME, 1, problem=reason)
        answer = json.loads(done.stdout.strip().splitlines()[-1])
        if answer["wrong_symbols"]:
            print(f"{PEER_NAME}: {answer['wrong_symbols']} symbols wrong", file=sys.stderr)
        overhead = answer["table_bytes"] + answer["length_bytes"]
        totals["encode_s"] += answer["encode_s"]
        totals["decode_s"] += answer["decode_s"]
        totals["total"] += answer["stream_bytes"] + overhead + 2 * scales.size
        totals["tables"] += overhead
    return Row(
        PEER_NAME, 1, data.n_values, int(totals["total"]), int(totals["tables"]),
        totals["encode_s"], totals["decode_s"],
    )  # fmt: skip


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Sizes and speeds; the last columns say how much quicker than the peer."""
    peer = next((row for row in rows if row.name == PEER_NAME and not row.problem), None)
    header = ["", "threads", "bits/value", "of these overhead", "vs fp16"]
    header += ["encode, M values/s", "decode, M values/s", "decode, GB/s of fp16"]
    header += ["x LMCache, encode", "x LMCache, decode"]
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        if row.problem:
            yield f"| {row.name} | {row.threads} | not measured: {row.problem} |" + " |" * 7
            continue
        bits = 8 * row.total_bytes / row.n_values
        encode, decode = row.n_values / row.encode_s / 1e6, row.n_values / row.decode_s / 1e6
        cells = [row.name, str(row.threads), f"{bits:.3f}"]
        cells += [f"{8 * row.overhead_bytes / row.n_values:.3f}", f"{16 / bits:.2f}x"]
        cells += [f"{encode:,.0f}", f"{decode:,.0f}", f"{2 * decode / 1e3:.2f}"]
        if peer is None:
            cells += ["", ""]
        else:
            cells.append(f"{encode * 1e6 / (peer.n_values / peer.encode_s):.1f}x")
            cells.append(f"{decode * 1e6 / (peer.n_values / peer.decode_s):.1f}x")
        yield "| " + " | ".join(cells) + " |"


def measure_all(data: Data, options: argparse.Namespace, peer: str | None) -> list[Row]:
    """All rows of one table."""
    rows = []
    how = How(options.runs, options.clock, options.device)
    for threads in options.threads:
        torch.set_num_threads(threads)
        for name in options.codecs:
            rows.append(measure_codec(name, data, threads, how))
            print(f"{data.title}: {rows[-1]}", file=sys.stderr)
    torch.set_num_threads(1)
    for baseline in baselines():
        rows.append(measure_baseline(baseline, data, how))
        print(f"{data.title}: {rows[-1]}", file=sys.stderr)
    if peer is not None:
        with tempfile.TemporaryDirectory(prefix="ctxpress-bench-") as folder:
            rows.append(measure_peer(peer, data, how, Path(folder)))
        print(f"{data.title}: {rows[-1]}", file=sys.stderr)
    return rows


def make_peer(folder: Path) -> str:
    """An environment with LMCache's files and what its coder needs; returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, "--no-deps", "lmcache==0.5.6"], check=True)
    subprocess.run([*install, *PEER_PACKAGES], check=True)
    return python


def gather(options: argparse.Namespace) -> list[Data]:
    """The model's own KV, and the large shape made of it, in float16."""
    model = load_model(options.model, device="cpu", dtype="float32")
    text = "".join(text.rstrip("\n") + "\n" for text in read_texts(Path(options.texts)))
    # Three chunks of four are for the calibration of the large shape, and are not measured.
    n_blocks = options.chunks * (4 if options.mosaics else 1)
    found = real_blocks(model, model.token_ids(text), n_blocks, CHUNK_TOKENS)
    blocks = [rounded(block, "float16") for block in found]
    blocks, spare = blocks[: options.chunks], blocks[options.chunks :]
    held = Calibration.load(Path(options.calibration)) if options.calibration else None
    shape = f"{model.n_layers} layers, {model.n_kv_heads} KV heads, {model.head_dim} dimensions"
    real = Data(f"Real KV of the model ({shape})", blocks, held)
    large = mosaic(blocks, LLAMA_8B, seed=0)
    other = None
    if options.mosaics:
        print("calibrating the large shape", file=sys.stderr)
        other = mosaic_calibration(spare, LLAMA_8B, options.mosaics)
    return [real, Data("The shape of Llama-3.1-8B, made of that KV", [large], other)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kv_codec")
    parser.add_argument("--model", required=True, help="folder of a model")
    parser.add_argument("--texts", required=True, help="text that its KV is computed from")
    parser.add_argument("--calibration", help="of that model, for the codecs that need one")
    parser.add_argument("--peer", help="a Python that has lmcache, torch and numba")
    parser.add_argument("--make-peer", action="store_true", help="make one, in a temporary folder")
    parser.add_argument("--codecs", type=lambda text: text.split(","), default=[*CODECS])
    parser.add_argument(
        "--threads", type=lambda text: [int(n) for n in text.split(",")], default=[1]
    )
    parser.add_argument("--chunks", type=int, default=32, help="of real KV, 256 tokens each")
    parser.add_argument(
        "--mosaics",
        type=int,
        default=24,
        help="blocks that the large shape's codecs are calibrated on; 0 leaves these out",
    )
    parser.add_argument("--runs", type=int, default=5, help="of each measurement; medians count")
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--write", help="Markdown file whose section is replaced")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        f"`python -m benchmarks.kv_codec`: Python {platform.python_version()}, torch "
        f"{torch.__version__}, {os.cpu_count()} cores, medians of {options.runs} runs, chunks of "
        f"{CHUNK_TOKENS} tokens, float16, un-rotated keys, decoded on {options.device}; "
        f"{options.clock} time. Ours: whole containers, quantisation and checks included; others "
        "code level 2 of CacheGen's published tables; overhead is everything but symbols, scales "
        "and rows kept exactly."
    ]
    with tempfile.TemporaryDirectory(prefix="ctxpress-bench-") as folder:
        peer = make_peer(Path(folder) / "peer") if options.make_peer else options.peer
        for data in gather(options):
            rows = measure_all(data, options, peer)
            lines += ["", f"**{data.title}**", "", *table(rows)]
    print("\n".join(lines))
    if options.write:
        name = "kv-speed" if options.device == "cpu" else f"kv-speed-{options.device}"
        replace_section(Path(options.write), name, "Speed", "\n".join(lines))


if __name__ == "__main__":
    main()
