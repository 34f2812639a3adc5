"""Times a stage of ours in a process of its own; the twin of `compression_peer`.

Standard input: a JSON object with `stage` (its options), `loads` (lists of texts), `rate`, `runs`.
Standard output: one line of JSON. Each text goes through a whole pipeline: language, laws, exact
budget. Where mode `llmlingua2` counts with cl100k_base, a token is a byte, as it is for the peer.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.peak_memory import peak_mib
from ctxpress.errors import CtxpressError, MissingDependencyError
from ctxpress.evaluation.compressors import PipelineCompressor
from ctxpress.sdk import Pipeline


class ByteEncoding:
    """Stands in for tiktoken's cl100k_base, whose file would have to be downloaded."""

    def encode_ordinary(self, text: str) -> list[int]:
        """One token a byte."""
        return list(text.encode("utf-8"))


def count_bytes() -> None:
    """Replace cl100k_base in this process; other encodings stay.

    :raises MissingDependencyError: tiktoken is not installed.
    """
    try:
        import tiktoken
    except ImportError as error:
        raise MissingDependencyError(
            "mode llmlingua2 needs tiktoken: pip install tiktoken"
        ) from error
    from ctxpress import tokens

    replaced = "cl100k_base"
    find, get = vars(tokens)["find_tiktoken_file"], tiktoken.get_encoding
    vars(tokens)["find_tiktoken_file"] = lambda name: Path() if name == replaced else find(name)
    vars(tiktoken)["get_encoding"] = lambda name: ByteEncoding() if name == replaced else get(name)


async def measure(given: dict[str, Any]) -> dict[str, Any]:
    """`seconds` (of each load, one a run), and what else `main` prints.

    :raises CtxpressError: the stage cannot be built or fails, or left a text as it was.
    """
    if given["stage"].get("mode") == "llmlingua2":
        count_bytes()
    compressor = PipelineCompressor(
        "own", lambda: Pipeline.from_stages(given["stage"], strict=True)
    )
    begun_s = time.perf_counter()
    await compressor.warm_up()
    load_seconds = time.perf_counter() - begun_s
    seconds: list[list[float]] = []
    for texts in given["loads"]:
        seconds.append([])
        for _ in range(given["runs"]):
            taken_s = 0.0
            for text in texts:
                done = await compressor.compress(text, None, given["rate"])
                if done.untouched is not None:
                    raise CtxpressError(f"a text was left as it was: {done.untouched}")
                taken_s += done.seconds
            seconds[-1].append(taken_s)
    return {
        "seconds": seconds,
        "load_seconds": load_seconds,
        "peak_mib": peak_mib(),
    }


def main() -> int:
    """Measure and print; exit status 2 and one line where that is not possible."""
    try:
        print(json.dumps(asyncio.run(measure(json.load(sys.stdin)))))
    except CtxpressError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
