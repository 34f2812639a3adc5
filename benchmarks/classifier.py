"""Speed and memory of the bundled classifier: `python -m benchmarks.classifier --threads 2`.

Prints Markdown rows: sub-tokens a second, tokenising included, over one long text (overlapping
windows) and over many short ones; milliseconds of the first load; and the peak resident memory of
a process that has loaded it and scored a text of about 10,000 tokens.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peak_memory import peak_mib
from ctxpress.evaluation.sections import replace_section
from ctxpress.models import OnnxTokenScorer, load_bundled_scorer

_WORDS = (
    "The committee agreed on {n} that, as far as it could be seen, the heating of the north wing "
    "(built in 19{n:02}) should be replaced before winter. Okay, so, um, what about item {n}? I "
    "mean, you know, the supplier wants {n},300 euros; see https://example.org/offers/{n}.\n"
)


def synthetic_text(n_sentences: int) -> str:
    """A repeatable text of about 75 sub-tokens a round."""
    return "".join(_WORDS.format(n=index % 90 + 10) for index in range(n_sentences))


def tokens_per_second(
    scorer: OnnxTokenScorer, texts: Sequence[str], n_runs: int
) -> tuple[float, float]:
    """(by the clock, by CPU time of all threads): medians over the runs.

    CPU time hardly depends on what else the machine is doing, so it is the one to compare.
    """
    by_clock, by_cpu = [], []
    for _ in range(n_runs):
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        n_tokens = sum(len(scores.starts) for scores in scorer.score(texts))
        by_clock.append(n_tokens / (time.perf_counter() - began_s))
        by_cpu.append(n_tokens / (time.process_time() - began_cpu_s))
    return statistics.median(by_clock), statistics.median(by_cpu)


def resident_mib(threads: int) -> float:
    """Peak resident memory of a fresh process that scores one text."""
    command = [sys.executable, "-m", "benchmarks.classifier", "--memory", "--threads", str(threads)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.classifier")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--memory", action="store_true", help="print this process's peak MiB only")
    parser.add_argument("--write", help="Markdown file whose section is replaced")
    options = parser.parse_args()
    began_s = time.perf_counter()
    scorer = load_bundled_scorer(threads=options.threads)
    load_ms = 1000 * (time.perf_counter() - began_s)
    long_text = synthetic_text(130)
    if options.memory:
        scorer.score([long_text])
        print(peak_mib())
        return
    scorer.score([long_text])
    long_clock, long_cpu = tokens_per_second(scorer, [long_text], options.runs)
    short_clock, short_cpu = tokens_per_second(scorer, [synthetic_text(1)] * 100, options.runs)
    resident = resident_mib(options.threads)
    lines = [
        f"`python -m benchmarks.classifier`: Python {platform.python_version()}, "
        f"{options.threads} threads, {options.runs} runs, medians. Sub-tokens include tokenising; "
        "a CPU second is one core's, so it hardly depends on what else the machine does. Loading "
        f"takes {load_ms:.0f} ms, the process peaks at {resident:.0f} MiB.",
        "",
        "| text | sub-tokens/s | sub-tokens a CPU second |",
        "|---|---|---|",
        f"| one long text (windows that overlap) | {long_clock:,.0f} | {long_cpu:,.0f} |",
        f"| a hundred short texts | {short_clock:,.0f} | {short_cpu:,.0f} |",
    ]
    print("\n".join(lines))
    if options.write:
        replace_section(
            Path(options.write), "classifier", "The bundled classifier", "\n".join(lines)
        )


if __name__ == "__main__":
    main()
