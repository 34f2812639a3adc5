"""The natural texts: passages to train on, and held-out ones that nothing else overlaps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.data import load_passages, split

HELD_OUT = 0.05
_SHINGLE_WORDS = 8


@dataclass(frozen=True, slots=True)
class Texts:
    """Passages as plain text; `held_out` is for perplexity alone."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


def load_texts(folder: Path) -> Texts:
    """Read `distill/passages.jsonl` and `refine/items.jsonl` below `folder`.

    Held out are distilled passages, by a hash of their group (`training.data.split`). A passage
    to train on that shares eight words in a row with them is dropped. Raises FileNotFoundError
    where a file is missing.
    """
    passages, held = split(load_passages(folder / "distill" / "passages.jsonl"), HELD_OUT)
    held_out = [passage.text for passage in held]
    seen = {shingle for text in held_out for shingle in _shingles(text)}
    candidates = [passage.text for passage in passages]
    candidates += _question_passages(folder / "refine" / "items.jsonl")
    train = [text for text in dict.fromkeys(candidates) if seen.isdisjoint(_shingles(text))]
    return Texts(tuple(train), tuple(held_out))


def _question_passages(path: Path) -> list[str]:
    texts = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            for passage in json.loads(line)["passages"]:
                texts.append(f"{passage['title']}\n{passage['text']}")
    return texts


def _shingles(text: str) -> set[int]:
    words: Sequence[str] = text.split()
    return {
        hash(tuple(words[start : start + _SHINGLE_WORDS]))
        for start in range(max(0, len(words) - _SHINGLE_WORDS + 1))
    }
