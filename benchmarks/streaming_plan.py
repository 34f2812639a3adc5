"""How long a plan takes: ``python -m benchmarks.streaming_plan [--write FILE]``.

The controller plans anew at every step of a context, so a plan must cost far less than a chunk.
Timed are a plan, and the choice of the next transfer, which is a plan and the question what a link
that slows down would do to it. Beside the time: how much more loss the plan has than the best one
of all, on contexts that are small enough to try all of them.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from ctxpress.cache.streaming import (
    ChunkOptions,
    DecodeMeter,
    LevelOption,
    LinkMeter,
    PrefillMeter,
    PrefillModel,
    StreamingController,
)
from ctxpress.cache.streaming.planner import solve
from ctxpress.cache.streaming.schedule import FIXED, TEXT, Problem, finish_ms
from ctxpress.evaluation.sections import replace_section

SIZES = (16, 64, 512, 2000)
LEVELS = (("a", 1.5, 0.03), ("b", 2.1, 0.02), ("c", 2.6, 0.006), ("d", 3.5, 0.001))
SHARES = (0.05, 0.2, 0.4, 0.8, 1.5)  # of the time that recomputing everything takes
CHUNK_TOKENS = 256
PREFILL = PrefillModel(fixed_ms=2.0, ms_per_token=0.13, ms_per_token_pair=4.2e-6)


def context(n_chunks: int, share: float, draw: random.Random) -> StreamingController:
    """A context of Llama-3.1-8B's shape over 8 Gbit/s."""
    chunks = [
        ChunkOptions(
            n_tokens=CHUNK_TOKENS,
            levels=tuple(
                LevelOption(
                    level=name,
                    size_bytes=int(CHUNK_TOKENS * 131_072 * bits / 16 * draw.gauss(1.0, 0.03)),
                    quality_loss=loss,
                )
                for name, bits, loss in LEVELS
            ),
        )
        for _ in range(n_chunks)
    ]
    return StreamingController(
        chunks,
        slo_ms=share * sum(PREFILL.ms(CHUNK_TOKENS, n * CHUNK_TOKENS) for n in range(n_chunks)),
        now_ms=0.0,
        link=LinkMeter(prior_bytes_per_ms=1e6),
        decode=DecodeMeter(default_ms_per_token=0.016),
        prefill=PrefillMeter(PREFILL),
    )


def timed(call: Callable[[], object]) -> float:
    """Milliseconds of this thread."""
    begun_s = time.thread_time()
    call()
    return 1000 * (time.thread_time() - begun_s)


def row(n_chunks: int, runs: int, draw: random.Random) -> str:
    """The medians for the SLO that takes longest."""
    plans, choices = [], []
    for share in SHARES:
        controls = [context(n_chunks, share, draw) for _ in range(runs)]
        plans.append(statistics.median(timed(lambda c=c: c.plan(0.0)) for c in controls))  # type: ignore[misc]
        choices.append(
            statistics.median(timed(lambda c=c: c.begin_transfer(0.0)) for c in controls)  # type: ignore[misc]
        )
    return f"| {n_chunks:,} | {max(plans):.2f} ms | {max(choices):.2f} ms |"


def excess(n_problems: int, draw: random.Random) -> tuple[float, float, int]:
    """Mean and largest loss above the best plan's, relative to it; how many had one in time."""
    found = []
    for _ in range(n_problems):
        sizes = [[draw.gauss(size, 0.3) for size in (6.0, 8.4, 10.4, 14.0)] for _ in range(5)]
        problem = Problem(
            link_ms=0.0,
            decoder_ms=0.0,
            compute_ms=0.0,
            deadline_ms=draw.uniform(25.0, 70.0),
            prefills=[35.0 + n for n in range(5)],
            transfers=sizes,
            decodes=[[4.0] * 4] * 5,
            losses=[[loss for _, _, loss in LEVELS]] * 5,
            ready=[None] * 5,
        )
        own = solve(problem, max_exhaustive=0)
        best = min(
            (
                sum(problem.losses[n][choice] for n, choice in enumerate(choices) if choice >= 0)
                for choices in itertools.product((TEXT, 0, 1, 2, 3), repeat=5)
                if FIXED not in choices and finish_ms(problem, choices) <= problem.deadline_ms
            ),
            default=None,
        )
        if best is not None and own.feasible:
            found.append(own.loss / best - 1.0)
    return statistics.fmean(found), max(found), len(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--problems", type=int, default=60)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    draw = random.Random(1)
    rows = [row(size, given.runs if size < 500 else 3, draw) for size in SIZES]
    mean, most, count = excess(given.problems, draw)
    text = "\n".join(
        [
            f"`python -m benchmarks.streaming_plan`: Python {platform.python_version()}, "
            f"{os.cpu_count()} cores; four levels and text for each chunk, medians, the slowest "
            f"of {len(SHARES)} SLOs. On {count} contexts of five chunks of which all plans were "
            f"tried, the method for many chunks loses {100 * mean:.1f} % more than the best plan "
            f"in the mean and {100 * most:.0f} % more at most. Where there are no more than 256 "
            "plans, the controller tries them all.",
            "",
            "| chunks | a plan | the next transfer |",
            "|---|---|---|",
            *rows,
        ]
    )
    print(text)
    if given.write is not None:
        replace_section(given.write, "streaming-plan", "Streaming: time of a plan", text)


if __name__ == "__main__":
    main()
