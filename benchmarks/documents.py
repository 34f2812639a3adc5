"""What stages for documents cost: ``python -m benchmarks.documents [--write FILE]``.

Twenty passages of about a hundred words, as retrieval gives them, go through the SDK with a
question: one that a passage answers plainly, where the scorer need not read them all, and one that
none does, where it must. Every run has passages that were never seen: nothing is remembered. The
pipelines take turns, so that a busy moment of the machine hits all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from ctxpress.evaluation.sections import replace_section
from ctxpress.results import Document
from ctxpress.sdk import Pipeline

PIPELINES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "restructure": [{"use": "restructure", "keep_ratio": 0.2}],
    "restructure, read_share 1": [
        {"use": "restructure", "keep_ratio": 0.2, "scorer": {"use": "bundled", "read_share": 1.0}}
    ],
    "restructure, read_at_most 8": [
        {"use": "restructure", "keep_ratio": 0.2, "scorer": {"use": "bundled", "read_at_most": 8}}
    ],
    "restructure, scorer bm25": [{"use": "restructure", "keep_ratio": 0.2, "scorer": "bm25"}],
    "restructure, reorder": [{"use": "restructure", "keep_ratio": 0.5}, {"use": "reorder"}],
    "reorder": [{"use": "reorder"}],
    "select": [{"use": "select", "keep_ratio": 0.2}],
    "dedupe": [{"use": "dedupe"}],
}
QUESTIONS = {
    "answered": "Which family owned the mill of {name} when it burned down?",
    "not answered": "How many students does the music school of the capital have today?",
}
N_PASSAGES = 20
_NAMES = (
    "Ardel Brenwick Colmoor Dunsley Eastrow Farnhollow Gadsby Harrowmere Inchford Jarrowby "
    "Kelmscar Lodwick Marwell Netherby Oakrift Penhallow Quarnby Rushmere Saltby Tarnwick"
).split()
_FAMILIES = "Ashdown Barlow Carrick Delaney Everett Fairfax Goodwin Hartley".split()
_PASSAGE = (
    "The mill of {name} stands where the road from the hills crosses the river, about {miles} "
    "miles above the old harbour. It was built of grey stone in {built}, when the valley still "
    "sent its wool to the coast by barge, and it had {wheels} wheels. In {burned} it burned down "
    "in a single night; the {family} family, which owned it then, had moved to the city some years "
    "before. The ruin was bought by the parish and rebuilt as a school with {rooms} rooms. Since "
    "{opened} it has been a museum, which shows looms, letters and the tools of the millwrights to "
    "visitors."
)


def passages(run: int) -> list[Document]:
    """Passages that differ in every fact, and from run to run."""
    rng = random.Random(run)
    return [
        Document(
            id=str(number),
            title=f"{name} Mill",
            text=_PASSAGE.format(
                name=name,
                miles=rng.randint(2, 60),
                built=rng.randint(1650, 1790),
                wheels=rng.choice(["two", "three", "four", "five"]),
                burned=rng.randint(1800, 1890),
                family=rng.choice(_FAMILIES),
                rooms=rng.randint(4, 40),
                opened=rng.randint(1920, 1999),
            ),
        )
        for number, name in enumerate(_NAMES[:N_PASSAGES])
    ]


async def measure(runs: int) -> dict[tuple[str, str], list[float]]:
    """Milliseconds of every run a pipeline and kind of question; two more are not counted."""
    taken_ms: dict[tuple[str, str], list[float]] = {}
    async with AsyncExitStack() as stack:
        opened = {
            name: await stack.enter_async_context(Pipeline.from_stages(*stages))
            for name, stages in PIPELINES.items()
        }
        for run in range(runs + 2):
            for number, (kind, question) in enumerate(QUESTIONS.items()):
                given = passages(10_000 * number + run)
                asked = question.format(name=_NAMES[run % N_PASSAGES])
                for name, pipeline in opened.items():
                    begun_s = time.perf_counter()
                    await pipeline.compress_documents(asked, given)
                    taken = 1000 * (time.perf_counter() - begun_s)
                    taken_ms.setdefault((name, kind), []).append(taken)
    return {key: values[2:] for key, values in taken_ms.items()}


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--write", type=Path, help="Markdown file whose section is replaced")
    options = parser.parse_args()
    measured = await measure(options.runs)
    rows = []
    for name in PIPELINES:
        for kind in QUESTIONS:
            low, middle, high = statistics.quantiles(measured[name, kind], n=20)[0::9]
            rows.append(f"| {name} | {kind} | {middle:.0f} | {low:.0f} to {high:.0f} |")
    words = len(passages(0)[0].text.split())
    lines = [
        f"`python -m benchmarks.documents`: {N_PASSAGES} passages of {words} words, milliseconds "
        f"from end to end after warm-up, {options.runs} runs; {platform.machine()}, "
        f"{os.cpu_count()} cores.",
        "",
        "| stages | question | median ms | 5 to 95 % |",
        "|---|---|---|---|",
        *rows,
    ]
    text = "\n".join(lines)
    print(text)
    if options.write:
        replace_section(options.write, "documents-speed", "Speed", text)


if __name__ == "__main__":
    asyncio.run(main())
