"""What compressing a request costs: ``python -m benchmarks.request_path [--write FILE]``.

A chat request goes through the whole compressor (parsing, pipeline ``balanced``, laws, memory,
rendering), three times: for the first time; as the opening of another conversation (its block
comes from the memo); and grown by a turn (its block is remembered).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import orjson

from ctxpress.assembly import create_compressor
from ctxpress.cache.key import Namespace
from ctxpress.compressor import CompressedBody, RequestCompressor, RequestPolicy
from ctxpress.config import Config
from ctxpress.evaluation.sections import replace_section

_SENTENCE = (
    "In item {n} the committee, which as you may know met on Tuesday, came to the conclusion that "
    "the heating of wing {n} should be replaced before winter, since repairs cost {n},300 euros. "
)
SIZES = (20, 100, 500)  # sentences: about 800, 4,000 and 20,000 tokens


def messages(n_sentences: int, run: int, system: str) -> list[dict[str, Any]]:
    """A long report and a question; ``run`` makes the text one that was never seen."""
    report = "".join(_SENTENCE.format(n=run * 1000 + n) for n in range(n_sentences))
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": f"{report}\n\nWhat has to be done before winter, and why?"},
    ]


async def timed(
    compressor: RequestCompressor, given: list[dict[str, Any]]
) -> tuple[float, CompressedBody]:
    """Milliseconds and the result."""
    policy = RequestPolicy(namespace=Namespace.derive(b"benchmark", "tenant"), pipeline="balanced")
    raw = orjson.dumps({"model": "gpt-4o", "messages": given})
    begun_s = time.perf_counter()
    result = await compressor.compress_body("openai_chat", raw, policy)
    return 1000 * (time.perf_counter() - begun_s), result


async def measure(compressor: RequestCompressor, n_sentences: int, runs: int) -> str:
    """One row of the table."""
    first_ms, memo_ms, grown_ms = [], [], []
    for run in range(runs):
        opening = messages(n_sentences, run, "You are careful.")
        taken_ms, result = await timed(compressor, opening)
        first_ms.append(taken_ms)
        taken_ms, _ = await timed(compressor, messages(n_sentences, run, "You are brief."))
        memo_ms.append(taken_ms)
        grown = [*opening, {"role": "assistant", "content": "The heating."}]
        taken_ms, _ = await timed(compressor, [*grown, {"role": "user", "content": "Why?"}])
        grown_ms.append(taken_ms)
    report = result.report
    first, memo, grown_up = map(statistics.median, (first_ms, memo_ms, grown_ms))
    return (
        f"| {report.tokens_before:,} | {report.tokens_after:,} | {first:,.0f} ms | "
        f"{1000 * report.tokens_before / first:,.0f} | {memo:.1f} ms ({memo / first:.1%}) | "
        f"{grown_up:.1f} ms ({grown_up / first:.1%}) |"
    )


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--write", help="Markdown file whose section is replaced")
    options = parser.parse_args()
    compressor = create_compressor(Config(version=1, store="memory://"))
    await timed(compressor, messages(5, 999, "Warm up."))
    lines = [
        f"`python -m benchmarks.request_path`: Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, pipeline `balanced`, {options.runs} runs, medians; estimated "
        "tokens. The last two columns are the same text at the head of another conversation, and "
        "the same conversation one turn later.",
        "",
        "| tokens | sent | first time | tokens/s | seen before | a turn later |",
        "|---|---|---|---|---|---|",
    ]
    lines += [await measure(compressor, size, options.runs) for size in SIZES]
    await compressor.aclose()
    print("\n".join(lines))
    if options.write:
        replace_section(Path(options.write), "requests", "Requests", "\n".join(lines))


if __name__ == "__main__":
    asyncio.run(main())
