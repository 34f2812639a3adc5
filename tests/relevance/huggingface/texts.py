"""Texts that the random checkpoints have tokens for, and what every scorer promises of any."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from ctxpress.relevance.scorer import Relevance, Titled
from ctxpress.relevance.sentences import split_sentences

QUESTION = "How much was paid for heating?"
TEXTS = [
    Titled("The committee met on Tuesday. It was about heating, and 4,300 euros were paid."),
    Titled("Project costs: $4,300.50 in 2024. Next time it is less. Who knows?", "Budget 2024"),
    Titled("jump jumping jumped jumps play playing played player players."),
    Titled(
        "Ärger über Öl, façade, naïve; Виктор пишет письмо. 新闻内容很长。天气寒冷，委员会开会。"
    ),
]
LONG = " ".join(
    f"In project {n} the committee met {n} times over the budget; heating was {n * 7}."
    for n in range(40)
)

strings = st.text(st.characters(exclude_categories=()), max_size=60) | st.sampled_from(
    [
        "",
        " ",
        "\ud800",
        "[SEP] [CLS] </s>",
        "the heating.",
        "!\n\n?",
        "猫。犬。",
        "\x00",
        "aé" * 300,
    ]
)
titled = st.builds(Titled, strings, st.none() | strings)


def keeps_the_contract(texts: list[Titled], found: list[Relevance]) -> bool:
    """One finite result a text, with one score a sentence."""
    return len(found) == len(texts) and all(
        one.sentences == split_sentences(text.text)
        and one.sentence_scores.shape == (len(one.sentences),)
        and one.sentence_scores.dtype == np.float32
        and bool(np.isfinite(one.score) and np.isfinite(one.sentence_scores).all())
        and not one.calibrated
        for one, text in zip(found, texts, strict=True)
    )


def same(left: Relevance, right: Relevance) -> bool:
    """Equal but for the rounding of the fifth decimal."""
    return abs(left.score - right.score) <= 1.1e-5 and bool(
        np.all(np.abs(left.sentence_scores - right.sentence_scores) <= 1.1e-5)
    )
