"""Fits the coefficients of the token estimate, and measures how far it is off.

::

    python -m training.token_calibration --wordpiece tokenizer.json \
        --tiktoken o200k=o200k_base.tiktoken --tokenizers claude=claude.json \
        --fit prose=docs/ --weight prose=3 --fit code=src/ --fit chinese=zh/django.po \
        --check meetings=meetings.jsonl

Texts are files or folders; of ``.po`` files the translations are read, of ``.jsonl`` files the
fields ``text``. They are cut into chunks of a few hundred to a few thousand characters. Every
second chunk of a ``--fit`` text is held out; ``--check`` texts are only measured. The fit
minimises squared relative errors over non-negative coefficients; ``--weight`` makes a kind of text
count for more. Printed: the coefficients for ``ctxpress/token_estimate.py`` and, for each kind, the
mean absolute error of a chunk and the error of their sum, in per cent.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from ctxpress.token_features import FEATURES, TextFeatures

Count = Callable[[str], int]

_MAX_CHUNKS = 240  # of one kind of text
_MIN_CHUNK_CHARACTERS = 150
# A word deleted between two spaces leaves a wide one, which must not count for more than the word.
_MOST = {"wide_spaces": 0.4, "white_characters": 0.1}
_CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+|"
    r" ?[^\s\p{L}\p{N}]++[\r\n]*+|\s*[\r\n]|\s+(?!\S)|\s+"
)


def read_texts(path: Path) -> Iterator[str]:
    """The texts under ``path``, in a fixed order."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in files:
        if not file.is_file():
            continue
        try:
            content = file.read_text("utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        if file.suffix == ".po":
            found = re.findall(r'^msgstr(?:\[\d\])? "(.+)"$', content, re.MULTILINE)
            yield "\n".join(text.replace('\\"', '"').replace("\\n", "\n") for text in found)
        elif file.suffix == ".jsonl":
            yield from (json.loads(line)["text"] for line in content.splitlines())
        else:
            yield content


def cut(texts: Iterator[str], seed: int) -> list[str]:
    """At most ``_MAX_CHUNKS`` chunks of mixed lengths, cut at line ends or spaces."""
    generator = random.Random(seed)
    chunks: list[str] = []
    for text in texts:
        start = 0
        while start < len(text):
            size = int(10 ** generator.uniform(2.4, 3.6))
            end = min(start + size, len(text))
            while end < len(text) and end < start + size + 80 and not text[end].isspace():
                end += 1
            if end - start >= _MIN_CHUNK_CHARACTERS:
                chunks.append(text[start:end])
            start = end
    generator.shuffle(chunks)
    return chunks[:_MAX_CHUNKS]


def read_tiktoken(name: str, path: Path) -> Count:
    """Counts with a file of ranks; names that begin with ``o200k`` take that pattern."""
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe
    from tiktoken_ext import openai_public

    pattern = _CL100K
    ranks = load_tiktoken_bpe(str(path))
    if name.startswith("o200k"):
        # Its pattern is a part of the package; the ranks it would download are ours.
        original = openai_public.load_tiktoken_bpe
        openai_public.load_tiktoken_bpe = lambda *_, **__: ranks
        pattern = openai_public.o200k_base()["pat_str"]
        openai_public.load_tiktoken_bpe = original
    encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return lambda text: len(encoding.encode_ordinary(text))


def read_tokenizer(path: Path) -> Any:
    """A ``tokenizer.json`` that reads texts literally and whole."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def count_with(tokenizer: Any) -> Count:
    """Counts with a tokenizer."""
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))


def fit(
    features: NDArray[np.float64], tokens: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Coefficients in their bounds with the least squared relative error; a slight pull to 0."""
    root = np.sqrt(weights / weights.mean())
    pull = 1e-3 * np.eye(features.shape[1]) * np.sqrt(len(tokens))
    rows = np.vstack([features * (root / tokens)[:, None], pull])
    most = [_MOST.get(feature, np.inf) for feature in FEATURES]
    solved = lsq_linear(rows, np.concatenate([root, np.zeros(len(pull))]), (0, most))
    return np.asarray(solved.x)


def main() -> None:
    """Fit, then print coefficients and errors."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--wordpiece", type=Path, required=True)
    for option in ("--tiktoken", "--tokenizers", "--fit", "--check"):
        parser.add_argument(option, action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--weight", action="append", default=[], metavar="KIND=NUMBER")
    options = parser.parse_args()
    weights = {kind: float(str(number)) for kind, number in _named(options.weight)}

    counters = {n: read_tiktoken(n, p) for n, p in _named(options.tiktoken)}
    for name, path in _named(options.tokenizers):
        counters[name] = count_with(read_tokenizer(path))

    extract = TextFeatures(lambda: read_tokenizer(options.wordpiece))
    kinds = _gather(_named(options.fit)) | {
        f"* {k}": v for k, v in _gather(_named(options.check)).items()
    }
    features = {kind: np.array([extract.count(t) for t in texts]) for kind, texts in kinds.items()}
    errors: dict[str, list[str]] = {kind: [] for kind in kinds}
    for name, count in counters.items():
        tokens = {kind: np.array([float(count(t)) for t in ts]) for kind, ts in kinds.items()}
        fitted = [kind for kind in kinds if not kind.startswith("*")]
        coefficients = fit(
            np.concatenate([features[kind][::2] for kind in fitted]),
            np.concatenate([tokens[kind][::2] for kind in fitted]),
            np.concatenate([np.full(len(kinds[k][::2]), weights.get(k, 1.0)) for k in fitted]),
        )
        print(f'    "{name}": {{')
        for feature, value in zip(FEATURES, coefficients, strict=True):
            if value >= 0.0005:
                print(f'        "{feature}": {value:.3f},')
        print("    },")
        for kind in kinds:
            held_out = slice(1, None, 2) if kind in fitted else slice(None)
            truth = tokens[kind][held_out]
            guess = np.round(features[kind][held_out] @ coefficients)
            mean = 100 * np.mean(np.abs(guess - truth) / truth)
            whole = 100 * (guess.sum() / truth.sum() - 1)
            errors[kind].append(f"{mean:5.1f} {whole:+6.1f}")
    print("\nkind".ljust(24), *(name.rjust(12) for name in counters))
    for kind, row in errors.items():
        print(kind.ljust(23), *row, f"  n={len(kinds[kind])}")


def _named(pairs: Sequence[str]) -> list[tuple[str, Path]]:
    return [(name, Path(path)) for name, _, path in (pair.partition("=") for pair in pairs)]


def _gather(named: Sequence[tuple[str, Path]]) -> dict[str, list[str]]:
    paths: dict[str, list[Path]] = {}
    for name, path in named:
        paths.setdefault(name, []).append(path)
    return {
        name: cut((text for path in found for text in read_texts(path)), seed=len(name))
        for name, found in paths.items()
    }


if __name__ == "__main__":
    main()
