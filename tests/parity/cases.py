"""Random calls: texts with everything that has ever mattered, and options in odd combinations."""

from __future__ import annotations

import random
from typing import Any

WORDS = [
    "the", "budget", "committee", "Tuesday", "heating", "didn't", "aboutness", "rethinking",
    "project", "projects", "jumped", "important", "meeting", "answer", "is", "of", "a", "no",
]  # fmt: skip
ODD = [
    "v1.2.3", "$4,300.50", "2024-05-01", "２０２４", "½", "#b", "##", "#", ".2", "()", "<=>", "->",
    ",-./", "..", "...", "( x )", "https://example.org/a?b=c", "jane@example.org", "x<=3", "a_b",
    "😀", "👩‍🚀", "🇩🇪", "新闻内容很长。", "会議は火曜日", "سلام", "Виктор", "Ärger", "e\u0301",
    "\u200b", "\u00a0", "\x00", "\x07", "\ufffd", "[UNK]", "[MASK]", "[PAD]", "[CLS]", "[SEP]",
    "<unk>", "<s>", "</s>", "<pad>", "<mask>", "[NEW0]", "[NEW5]", "[NEW99]", "[NEW100]", "\u2581",
    "\u2581the", "##ing", "<|endoftext", "▁x",
]  # fmt: skip
RARE = ["<|endoftext|>", "<|fim_prefix|>", "\ud800", "x" * 120, "word" * 60]
BLANKS = [" ", " ", " ", " ", " ", "\n", "\n\n", "  ", "\t", "", ". ", ", ", "? "]
FORCE = [
    "\n", ".", "?", "!", ",", "no", "the", "The answer is", "thinking about", "budget", "#", "##b",
    "2", "->", "...", "新闻", "😀", "[NEW3]", " ", "", "\u2581", "meeting", "$", "didn't", "( x )",
]  # fmt: skip
RATES = [0.1, 0.33, 0.5, 0.5, 0.7, 0.9, 0.95, 0.99, 0.01, 0.001, 1.0, 1.5, 0.0, -0.5]
STRANGE_RATES = [float("nan"), float("inf"), -float("inf"), -2.0]


def random_text(rng: random.Random) -> str:
    """Mostly some dozen words, sometimes none, sometimes several chunks."""
    kind = rng.random()
    if kind < 0.04:
        return rng.choice(
            ["", " ", "\n\n", "\t ", ".", "😀", "😀😀 👩‍🚀", "2024", "12 34 56", "[NEW5]", "#"]
        )
    length = rng.choice([3, 8, 20, 40, 80] if kind < 0.85 else [300, 520, 900, 1400])
    odd = rng.choice([0.0, 0.1, 0.3, 0.8])
    parts: list[str] = []
    for _ in range(length):
        if rng.random() < odd:
            parts.append(rng.choice(ODD))
        else:
            word = rng.choice(WORDS)
            parts.append(word.capitalize() if rng.random() < 0.1 else word)
        parts.append(rng.choice(BLANKS) if rng.random() < 0.4 else " ")
    if rng.random() < 0.03:
        parts.insert(rng.randrange(len(parts)), rng.choice(RARE))
    return "".join(parts)


def random_options(rng: random.Random, n_contexts: int) -> dict[str, Any]:
    """Keyword arguments of the library's `compress_prompt`."""
    options: dict[str, Any] = {}

    def maybe(chance: float, name: str, values: list[Any]) -> None:
        if rng.random() < chance:
            options[name] = rng.choice(values)

    maybe(0.85, "rate", RATES)
    maybe(0.02, "rate", STRANGE_RATES)
    maybe(0.25, "target_token", [-1, 0, 1, 5, 20, 100, 400, 2000, 100_000])
    maybe(0.5, "use_context_level_filter", [True, False])
    maybe(0.2, "use_token_level_filter", [True, False])
    maybe(0.2, "target_context", [-1, 0, 1, 2, 3, 10])
    maybe(0.2, "context_level_rate", [0.1, 0.5, 0.75, 1.0, 1.2, 0.0])
    maybe(0.2, "context_level_target_token", [-1, 0, 10, 300, 5000])
    maybe(0.3, "force_reserve_digit", [True, False])
    maybe(0.5, "drop_consecutive", [True, False])
    maybe(0.4, "token_to_word", ["mean", "first", "first"])
    maybe(0.01, "token_to_word", ["last"])
    maybe(0.3, "chunk_end_tokens", [[], ["."], [".", "\n"], ["\n"], ["the", "?"], [",", "\n", "."]])
    if rng.random() < 0.3:
        options["force_context_ids"] = [
            rng.randrange(n_contexts + 1) for _ in range(rng.randrange(3))
        ]
    if rng.random() < 0.6:
        options["force_tokens"] = [rng.choice(FORCE) for _ in range(rng.randrange(1, 7))]
    if rng.random() < 0.01:
        options["force_tokens"] = [f"t{i}" for i in range(101)]
    return options


def random_call(rng: random.Random) -> tuple[list[str], dict[str, Any]]:
    """Contexts and options of one call."""
    n_contexts = rng.choice([1, 1, 2, 2, 3, 4]) if rng.random() > 0.01 else 0
    contexts = [random_text(rng) for _ in range(n_contexts)]
    return contexts, random_options(rng, n_contexts)
