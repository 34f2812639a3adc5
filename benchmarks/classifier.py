"""Speed and memory of the bundled classifier: `python -m benchmarks.classifier --threads 2`.

Prints one Markdown row: sub-tokens a second over a long text (overlapping windows, tokenising
included; median of the runs), the same over many short texts, milliseconds of the first load, and
the resident memory of a process that has loaded it and scored a text of about 10,000 tokens.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from ctxpress.models import OnnxTokenScorer, load_bundled_scorer

_WORDS = (
    "The committee agreed on {n} that, as far as it could be seen, the heating of the north wing "
    "(built in 19{n:02}) should be replaced before winter. Okay, so, um, what about item {n}? I "
    "mean, you know, the supplier wants {n},300 euros; see https://example.org/offers/{n}.\n"
)


def synthetic_text(n_sentences: int) -> str:
    """A repeatable text of about 75 sub-tokens a round."""
    return "".join(_WORDS.format(n=index % 90 + 10) for index in range(n_sentences))


def tokens_per_second(scorer: OnnxTokenScorer, texts: Sequence[str], n_runs: int) -> float:
    """Median over the runs."""
    speeds = []
    for _ in range(n_runs):
        began_s = time.perf_counter()
        n_tokens = sum(len(scores.starts) for scores in scorer.score(texts))
        speeds.append(n_tokens / (time.perf_counter() - began_s))
    return statistics.median(speeds)


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
    options = parser.parse_args()
    began_s = time.perf_counter()
    scorer = load_bundled_scorer(threads=options.threads)
    load_ms = 1000 * (time.perf_counter() - began_s)
    long_text = synthetic_text(130)
    if options.memory:
        scorer.score([long_text])
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    scorer.score([long_text])
    long_speed = tokens_per_second(scorer, [long_text], options.runs)
    short_speed = tokens_per_second(scorer, [synthetic_text(1)] * 100, options.runs)
    print("| threads | tokens/s, one long text | tokens/s, short texts | load ms | resident MiB |")
    print("|---|---|---|---|---|")
    print(
        f"| {options.threads} | {long_speed:,.0f} | {short_speed:,.0f} | {load_ms:.0f} "
        f"| {resident_mib(options.threads):.0f} |"
    )


if __name__ == "__main__":
    main()
