"""Mode `llmlingua2` beside the real `llmlingua` library, call by call: `make test-parity`.

Both sides load the same random checkpoints, under names that the library recognises, and count
tokens as UTF-8 bytes instead of downloading an encoding. Prints how many calls agreed; on a
difference shows the call and exits with 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ctxpress.errors import ParityError
from ctxpress.plugins.token_classification.checkpoint import load_checkpoint
from ctxpress.plugins.token_classification.llmlingua2 import (
    ChunkEncoder,
    LLMLingua2Compressor,
    LLMLingua2Options,
)
from tests.parity.cases import random_call
from tests.plugins.token_classification.tiny_checkpoints import make_bert, make_xlm_roberta

MAX_SHOWN = 5
_SPECIALS = (
    "<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|endofprompt|>",
)  # fmt: skip
Outcome = tuple[Any, ...]


class ByteEncoding:
    """Stands in for tiktoken's encoding: a token a byte, special tokens refused as it does."""

    def encode(self, text: str) -> list[int]:
        if any(special in text for special in _SPECIALS):
            raise ValueError("disallowed special token")
        return list(text.encode("utf-8", "surrogatepass"))


def open_library(folder: Path) -> Any:
    """The library's compressor on a checkpoint, its encoding replaced before it is asked for."""
    import tiktoken

    tiktoken.encoding_for_model = lambda name: ByteEncoding()
    from llmlingua import PromptCompressor

    return PromptCompressor(str(folder), device_map="cpu", use_llmlingua2=True)


def open_ours(folder: Path) -> LLMLingua2Compressor:
    """Ours on the same checkpoint."""
    checkpoint = load_checkpoint(str(folder), device="cpu", exact=True)
    encoder = ChunkEncoder(checkpoint)
    return LLMLingua2Compressor(encoder, lambda text: len(text.encode("utf-8", "surrogatepass")))


def ask_library(library: Any, contexts: list[str], options: dict[str, Any]) -> Outcome:
    """What the library returns or raises."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            result = library.compress_prompt(list(contexts), **options)
    except Exception as error:
        return ("raises", type(error).__name__)
    return (
        result["compressed_prompt_list"],
        result["compressed_prompt"],
        result["origin_tokens"],
        result["compressed_tokens"],
    )


def ask_ours(ours: LLMLingua2Compressor, contexts: list[str], options: dict[str, Any]) -> Outcome:
    """The same of ours; anything raised but a `ParityError` is a difference."""
    frozen = {
        name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
    }
    try:
        result = ours.compress(contexts, LLMLingua2Options(**frozen))
    except ParityError as error:
        return ("raises", error.mirrors.__name__)
    except Exception as error:
        return ("raises", f"untyped {type(error).__name__}: {error}")
    return (
        list(result.prompts),
        result.prompt,
        result.origin_tokens,
        result.compressed_tokens,
    )


def main() -> int:
    """Compare; 0 if all calls agreed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=520)
    parser.add_argument("--seed", type=int, default=20240319)
    arguments = parser.parse_args()
    began = time.monotonic()
    import torch

    torch.set_num_threads(1)  # so small a model gains nothing by more
    agreed = raised = shown = total = 0
    with tempfile.TemporaryDirectory() as temporary:
        folders = [
            make_bert(Path(temporary) / "bert-base-multilingual-cased-tiny"),
            make_xlm_roberta(Path(temporary) / "xlm-roberta-large-tiny"),
        ]
        for number, folder in enumerate(folders):
            library, ours = open_library(folder), open_ours(folder)
            rng = random.Random(arguments.seed + number)
            for _ in range((arguments.calls + number) // len(folders)):
                contexts, options = random_call(rng)
                total += 1
                theirs = ask_library(library, contexts, options)
                mine = ask_ours(ours, contexts, options)
                raised += theirs[0] == "raises"
                if theirs == mine:
                    agreed += 1
                elif shown < MAX_SHOWN:
                    shown += 1
                    print(f"\n{folder.name}: {contexts!r}\n  {options!r}")
                    print(f"  library: {theirs!r}\n  ours:    {mine!r}")
    versions = ", ".join(f"{name} {version(name)}" for name in
                         ("llmlingua", "transformers", "tokenizers", "torch", "numpy"))  # fmt: skip
    print(f"{agreed} of {total} calls agree, {raised} of them exceptions matched by type "
          f"({versions}; {time.monotonic() - began:.0f} s)")  # fmt: skip
    return int(agreed != total)


if __name__ == "__main__":
    sys.exit(main())
