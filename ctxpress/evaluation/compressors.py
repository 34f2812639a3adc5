"""What is compared: a pipeline, and three baselines that get the same budget of tokens.

Baselines keep whole words (what white space separates), each with the blank behind it, and as many
as fit `keep_ratio` times the tokens of the text, counted by the same counter as the pipeline's.
None of them reads the question.
"""

from __future__ import annotations

import random
import re
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ctxpress.document import ContextDocument, Kind, Range, Role
from ctxpress.formats.options import ParseOptions
from ctxpress.formats.segmentation import segment
from ctxpress.passages import document_of_texts
from ctxpress.sdk import Pipeline
from ctxpress.stage import TokenCounter

__all__ = ["Baseline", "Compressed", "Compressor", "PipelineCompressor", "baselines"]

_WORD = re.compile(r"\S+\s?")
_WARM_UP = "The committee met on Tuesday and agreed that the heating should be replaced. " * 3

Rank = Callable[[str, Sequence[Range]], Sequence[int]]
"""(text, words) -> indices of words, the most important first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed:
    """What is left of a text, the ranges that it is made of, and how long that took.

    `untouched` is the reason why a pipeline left the text as it was, where it did.
    """

    text: str
    kept: tuple[Range, ...]
    seconds: float
    untouched: str | None = None


class Compressor(Protocol):
    """One row of the comparison."""

    @property
    def name(self) -> str:
        """As it is called in tables."""

    @property
    def reads_questions(self) -> bool:
        """Whether it is worth running with the question shown, too."""

    async def compress(self, text: str, question: str | None, keep_ratio: float) -> Compressed:
        """Keep `keep_ratio` of the tokens of `text`."""


class PipelineCompressor:
    """A pipeline as the SDK runs it; opened anew for each text, so that nothing is remembered.

    A pipeline that has seen a text answers from memory, and takes a text that comes with a second
    question for a shared prefix that must not depend on questions. Both are right for a proxy and
    wrong for a measurement.
    """

    reads_questions = True

    def __init__(self, name: str, open_pipeline: Callable[[], Pipeline]) -> None:
        self.name = name
        self._open = open_pipeline

    async def warm_up(self) -> None:
        """Load models, which no measurement should pay for.

        :raises CtxpressError: the pipeline cannot be built or run.
        """
        await self.compress(_WARM_UP, "When did the committee meet?", 0.5)

    async def compress(self, text: str, question: str | None, keep_ratio: float) -> Compressed:
        """One text as one block of prose.

        :raises CtxpressError: a stage failed under `strict`.
        """
        document = _document(text, question)
        async with self._open() as pipeline:
            begun_s = time.perf_counter()
            result = await pipeline.run(document, keep_ratio=keep_ratio)
            seconds = time.perf_counter() - begun_s
        block = result.document.blocks[0]
        untouched = None
        if block.text == text:
            untouched = result.report.reason or "nothing was deleted"
        return Compressed(text=block.text, kept=block.kept, seconds=seconds, untouched=untouched)


class Baseline:
    """Keeps the words that `rank` puts first, in their order in the text."""

    reads_questions = False

    def __init__(self, name: str, counter: TokenCounter, rank: Rank) -> None:
        self.name = name
        self._counter = counter
        self._rank = rank

    async def compress(self, text: str, question: str | None, keep_ratio: float) -> Compressed:
        """The budget is rounded down, and at least one word is kept."""
        begun_s = time.perf_counter()
        words = [Range(*match.span()) for match in _WORD.finditer(text)]
        order = self._rank(text, words)
        budget = int(keep_ratio * self._counter.count(text) + 1e-6)
        low, high = min(1, len(words)), len(words) + 1  # `low` words fit, `high` do not
        while high - low > 1:
            middle = (low + high) // 2
            fits = self._counter.count(_join(text, words, order[:middle])) <= budget
            low, high = (middle, high) if fits else (low, middle)
        chosen = order[:low]
        return Compressed(
            text=_join(text, words, chosen),
            kept=tuple(words[index] for index in sorted(chosen)),
            seconds=time.perf_counter() - begun_s,
        )


def baselines(counter: TokenCounter, texts: Iterable[str]) -> list[Baseline]:
    """Random words, the head of the text, and the words that occur in the fewest of `texts`."""
    frequencies: Counter[str] = Counter()
    for text in texts:
        frequencies.update({_bare(word) for word in text.split()})

    def by_rarity(text: str, words: Sequence[Range]) -> list[int]:
        rarity = [frequencies.get(_bare(text[start:end]), 0) for start, end in words]
        return sorted(range(len(words)), key=lambda index: (rarity[index], index))

    return [
        Baseline("random words", counter, _at_random),
        Baseline("head", counter, lambda text, words: range(len(words))),
        Baseline("word rarity", counter, by_rarity),
    ]


def _document(text: str, question: str | None) -> ContextDocument:
    spans = segment(text, role=Role.USER, kind=Kind.PROSE, options=ParseOptions(), ask=False)
    return document_of_texts([(text, spans)], question=question, model=None)


def _at_random(text: str, words: Sequence[Range]) -> list[int]:
    """An order that depends on the text alone, so that runs can be repeated."""
    order = list(range(len(words)))
    random.Random(zlib.crc32(text.encode("utf-8", "replace"))).shuffle(order)
    return order


def _join(text: str, words: Sequence[Range], chosen: Iterable[int]) -> str:
    return "".join(text[slice(*words[index])] for index in sorted(chosen))


def _bare(word: str) -> str:
    return re.sub(r"^\W+|\W+$", "", word).lower()
