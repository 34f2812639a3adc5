"""Which sentences of which documents stay: by score, within a budget of tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ctxpress.arrangement import Passage
from ctxpress.document import Range
from ctxpress.relevance import Relevance

__all__ = ["Choice", "choose_sentences"]

_LEANS = re.compile(
    r"[\"'“‘(\[]*(?:he|she|it|they|his|her|its|their|this|that|these|those|such|both|there|then|"
    r"however|but|and|also|thus|so|the (?:latter|former|same|two))\b",
    re.IGNORECASE,
)
CONTEXT_SHARE = 0.3
"""A sentence that a chosen one leans on is taken as if it had this share of that one's score."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What stays: ranges of the text of each passage, by its number, and each one's best score."""

    keep: dict[int, tuple[Range, ...]]
    scores: dict[int, float]


@dataclass(slots=True)
class _Candidate:
    passage: int
    sentence: int
    score: float
    tokens: int


def choose_sentences(
    passages: Sequence[Passage],
    found: Sequence[Relevance],
    count: Callable[[str], int],
    *,
    budget_tokens: int,
    threshold: float,
    context: bool,
) -> Choice:
    """Whole sentences by falling score while they fit into `budget_tokens`.

    A sentence that does not fit is passed over for shorter ones. With `context`, what is left over
    goes first to sentences that a chosen one leans on (it begins with a pronoun), then to the next
    best. Protected ranges of a passage cost their tokens as soon as anything of it stays.
    """
    candidates = [
        _Candidate(passage.number, number, float(score), -1)
        for passage, relevance in zip(passages, found, strict=True)
        for number, score in enumerate(relevance.sentence_scores)
        if not _is_fixed(passage, relevance.sentences[number])
        and (not relevance.calibrated or score >= threshold)
    ]
    candidates.sort(key=lambda one: (-one.score, one.passage, one.sentence))
    chosen: dict[int, set[int]] = {}
    left = budget_tokens

    def take(one: _Candidate) -> bool:
        nonlocal left
        passage, sentences = passages[one.passage], found[one.passage].sentences
        if one.sentence in chosen.get(one.passage, ()):
            return False
        if one.tokens < 0:
            one.tokens = count(_text(passage, sentences[one.sentence]).strip())
        cost = one.tokens
        if one.passage not in chosen:
            cost += sum(count(_text(passage, piece)) for piece in passage.fixed)
        if cost > left:
            return False
        left -= cost
        chosen.setdefault(one.passage, set()).add(one.sentence)
        return True

    taken = [one for one in candidates if take(one)]
    if context:
        for one in taken:
            sentence = found[one.passage].sentences[one.sentence]
            if one.sentence and _LEANS.match(_text(passages[one.passage], sentence)):
                before = one.sentence - 1
                if not _is_fixed(passages[one.passage], found[one.passage].sentences[before]):
                    take(_Candidate(one.passage, before, CONTEXT_SHARE * one.score, -1))
    keep = {
        number: tuple(_joined(found[number].sentences, sorted(sentences)))
        for number, sentences in chosen.items()
    }
    scores = {
        number: max(float(found[number].sentence_scores[s]) for s in sentences)
        for number, sentences in chosen.items()
    }
    return Choice(keep, scores)


def _text(passage: Passage, piece: Range) -> str:
    return passage.text[piece.start : piece.end]


def _is_fixed(passage: Passage, sentence: Range) -> bool:
    """Whether all of a sentence is protected, so that nothing about it is to be decided."""
    return any(a <= sentence.start and sentence.end <= b for a, b in passage.fixed)


def _joined(sentences: Sequence[Range], numbers: Sequence[int]) -> list[Range]:
    """The ranges of the sentences, neighbours as one."""
    ranges: list[Range] = []
    for number in numbers:
        start, end = sentences[number]
        if ranges and ranges[-1].end == start:
            ranges[-1] = Range(ranges[-1].start, end)
        else:
            ranges.append(Range(start, end))
    return ranges
