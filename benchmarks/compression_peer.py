"""Times the `llmlingua` library; runs under the peer's Python, without ctxpress.

Standard input: a JSON object with `model` (a folder), `loads` (lists of texts), `rate`, `runs`.
Standard output: one line of JSON, see `main`. The library's tokenizer for counting, which it would
download, is replaced by one token a byte: it is no part of the model.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any


class ByteTokenizer:
    """Stands in for tiktoken's encoding of gpt-3.5-turbo."""

    def encode(self, text: str, **_: Any) -> list[int]:
        """One token a byte."""
        return list(text.encode("utf-8"))


def peak_mib() -> float:
    """As `benchmarks.peak_memory` measures it, which cannot be imported here."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line[:6] == "VmHWM:")
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Prints `seconds` (of each load, one a run), `load_seconds`, `peak_mib` and versions."""
    given = json.load(sys.stdin)
    import llmlingua
    import tiktoken
    import torch
    import transformers

    tiktoken.encoding_for_model = lambda name: ByteTokenizer()
    begun = time.perf_counter()
    compressor = llmlingua.PromptCompressor(
        model_name=given["model"], use_llmlingua2=True, device_map="cpu"
    )
    load_seconds = time.perf_counter() - begun
    compressor.compress_prompt("The committee met on Tuesday, and agreed.", rate=given["rate"])
    seconds: list[list[float]] = []
    for texts in given["loads"]:
        seconds.append([])
        for _ in range(given["runs"]):
            begun = time.perf_counter()
            for text in texts:
                compressor.compress_prompt(text, rate=given["rate"])
            seconds[-1].append(time.perf_counter() - begun)
    from importlib.metadata import version

    print(
        json.dumps(
            {
                "seconds": seconds,
                "load_seconds": load_seconds,
                "peak_mib": peak_mib(),
                "versions": f"llmlingua {version('llmlingua')}, torch {torch.__version__}, "
                f"transformers {transformers.__version__}",
            }
        )
    )


if __name__ == "__main__":
    main()
