"""Which whole documents repeat others, or something that was sent before."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ctxpress.arrangement import Passage
from ctxpress.document import ContextDocument, Source
from ctxpress.plugins.dedupe.overlap import FactRuns, ShingleIndex
from ctxpress.plugins.dedupe.words import Lexicon, Reading

__all__ = ["Repeats", "find_repeated_documents"]

_MAX_TWINS = 16  # with one text, and yet kept, since their titles say that they differ
_CHECK_EVERY = 256
_NUMBERS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Repeats:
    """Passages, by number, that repeat others.

    `dropped` says of each whether it was sent before (else another of the request stands for it).
    `whole` are passages that have the words of another, but not its title's numbers: sentences of
    theirs are no repetitions either. `steps` counts the work done.
    """

    dropped: dict[int, bool]
    whole: frozenset[int]
    steps: int


def find_repeated_documents(
    document: ContextDocument,
    passages: Sequence[Passage],
    lexicon: Lexicon,
    *,
    threshold: float,
    min_words: int,
    earlier: Sequence[str],
    checkpoint: Callable[[], None] = lambda: None,
) -> Repeats:
    """Find the passages that another stands for.

    One stands for another if it has the same words, or is nearly the same and no fact differs, or
    contains it (if it has `min_words` words). Of equals the first stays, or the one with the higher
    score where all of a message have one; of a part and its whole, the whole. What stands in a
    later message is never a reason: an earlier one must not depend on it (law 3).
    """
    search = _Search(document, passages, lexicon, threshold, earlier, checkpoint)
    return search.run(min_words)


class _Search:
    """One search. Texts are numbered by rank: what was sent before, then passages, best first."""

    def __init__(
        self,
        document: ContextDocument,
        passages: Sequence[Passage],
        lexicon: Lexicon,
        threshold: float,
        earlier: Sequence[str],
        checkpoint: Callable[[], None],
    ) -> None:
        self._checkpoint = checkpoint
        self._sent = len(earlier)
        messages = [document.blocks[p.blocks[0]].message for p in passages]
        order = _by_rank(passages, messages)
        self._ranked = [passages[n] for n in order]
        self._ranked_messages = [messages[n] for n in order]
        self._texts = [*earlier, *(passage.text for passage in self._ranked)]
        self._lexicon = lexicon
        self._readings: list[Reading] = []
        for text in self._texts:
            checkpoint()
            self._readings.append(lexicon.read(text))
        self._index = ShingleIndex([one.words for one in self._readings], threshold)
        self._runs: dict[int, FactRuns] = {}
        self._stands_for: dict[int, int] = {}
        self._whole: set[int] = set()

    def run(self, min_words: int) -> Repeats:
        own = range(self._sent, len(self._texts))
        movable = [n for n in own if not self._passage(n).pinned and len(self._readings[n].words)]
        self._find_equal(movable)
        self._find_alike([n for n in movable if n not in self._stands_for])
        left = [
            number
            for number in movable
            if number not in self._stands_for and self._readings[number].size >= min_words
        ]
        self._find_contained(sorted(left, key=lambda n: -len(self._readings[n].words)))
        return Repeats(
            dropped={self._passage(n).number: self._last(n) < self._sent for n in self._stands_for},
            whole=frozenset(self._passage(n).number for n in self._whole),
            steps=self._index.steps,
        )

    def _find_equal(self, movable: Sequence[int]) -> None:
        candidates = set(movable)
        twins: dict[bytes, list[int]] = {}
        for number in range(self._sent, len(self._texts)):
            held = twins.setdefault(self._readings[number].key, [])
            if number in candidates:
                for other in held:
                    if self._may_replace(other, number):
                        self._stands_for[number] = other
                        break
            if number not in self._stands_for and len(held) < _MAX_TWINS:
                held.append(number)

    def _find_alike(self, movable: Sequence[int]) -> None:
        for count, number in enumerate(movable):
            if count % _CHECK_EVERY == 0:
                self._checkpoint()
            mine = self._readings[number]
            for rival in self._index.rivals(number, below=number):
                other = self._last(rival)
                theirs = self._readings[other]
                if (
                    self._sent <= other
                    and mine.facts.tobytes() == theirs.facts.tobytes()
                    and self._index.same(number, other)
                    and not self._lexicon.oppose(mine, theirs)
                    and self._may_replace(other, number)
                ):
                    self._stands_for[number] = other
                    break

    def _find_contained(self, longest_first: Sequence[int]) -> None:
        for count, number in enumerate(longest_first):
            if count % _CHECK_EVERY == 0:
                self._checkpoint()
            for rival in self._index.rivals(number, below=self._end_of_message(number)):
                other = self._last(rival)
                if (
                    self._is_wider(other, number)
                    and self._index.contained(number, other)
                    and self._facts_of(other).hold(self._readings[number].facts)
                    and not self._lexicon.oppose(self._readings[number], self._readings[other])
                    and self._may_replace(other, number)
                ):
                    self._stands_for[number] = other
                    break

    def _is_wider(self, other: int, number: int) -> bool:
        if other < self._sent:
            return True
        return len(self._readings[other].words) > len(self._readings[number].words)

    def _may_replace(self, other: int, number: int) -> bool:
        """Whether nothing beside the words speaks against it: protected parts, titles."""
        mine = self._passage(number)
        text = self._texts[other]
        if not all(mine.text[start:end] in text for start, end in mine.fixed):
            return False
        if other < self._sent:
            return True
        if _titles_differ(mine.source, self._passage(other).source):
            self._whole |= {number, other}
            return False
        return True

    def _facts_of(self, number: int) -> FactRuns:
        if number not in self._runs:
            self._runs[number] = FactRuns(self._readings[number].facts)
        return self._runs[number]

    def _last(self, number: int) -> int:
        """The text that stands for a text in the end; itself where none does."""
        while number in self._stands_for:
            number = self._stands_for[number]
        return number

    def _passage(self, number: int) -> Passage:
        return self._ranked[number - self._sent]

    def _end_of_message(self, number: int) -> int:
        """Where the texts of later messages begin."""
        message = self._ranked_messages[number - self._sent]
        return self._sent + bisect_right(self._ranked_messages, message)


def _by_rank(passages: Sequence[Passage], messages: Sequence[int]) -> list[int]:
    """Numbers of passages: message by message, those that must stay first, then the best."""
    unscored = {messages[p.number] for p in passages if p.source.score is None}

    def rank(passage: Passage) -> tuple[int, bool, float, int]:
        message = messages[passage.number]
        score = 0.0 if message in unscored else passage.source.score or 0.0
        return message, not passage.pinned, -score, passage.number

    return [passage.number for passage in sorted(passages, key=rank)]


def _titles_differ(one: Source, other: Source) -> bool:
    """Whether two titles tell two documents apart: by a year, a version, a part's number."""
    if one.title is None or other.title is None:
        return False
    return _NUMBERS.findall(one.title) != _NUMBERS.findall(other.title)
