"""The stage `restructure`: of the documents, the sentences that help with the question."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Protocol

from ctxpress.arrangement import Passage, arrange, full_rows, passages_of
from ctxpress.document import ContextDocument, Range, Source
from ctxpress.errors import DeadlineError, StageError
from ctxpress.plugins.restructure.config import RestructureConfig
from ctxpress.plugins.restructure.fitting import Choice, Fitting
from ctxpress.plugins.restructure.headings import heading, headings
from ctxpress.plugins.restructure.limits import Limits
from ctxpress.plugins.restructure.linking import group_quotes
from ctxpress.plugins.restructure.llm import Quoted
from ctxpress.plugins.restructure.pieces import (
    Piece,
    Pieces,
    pieces_of_quotes,
    pieces_of_scores,
)
from ctxpress.plugins.scoring import score_passages
from ctxpress.relevance import Relevance, RelevanceScorer
from ctxpress.relevance.scorer import Titled
from ctxpress.stage import Skip, StageContext, StageSkip, StageTraits

__all__ = ["Extractor", "RestructureStage"]

_ALGORITHM = "restructure/2"
_LEFT_FOR_FALLBACK = 0.25
"""Part of the time budget that the extractive backend keeps for itself."""
_PATIENCE = 3
"""Corrections of a budget before each takes twice what the one before took."""
_NO_ROOM = "no sentence of it fits into the budget; raise keep_ratio"
_LITTLE = "of little use for the question, and the budget is spent on others; raise keep_ratio"


class Extractor(Protocol):
    """Has a language model pick quotes; `LLMExtractor` is one."""

    @property
    def identity(self) -> str:
        """Model, template, prompt."""

    async def extract(
        self, question: str, passages: Sequence[Titled], *, deadline_s: float
    ) -> list[Quoted]:
        """Quotes in order of importance; raises StageError."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Evidence:
    """What may stay, and how the passages that stay are grouped, given what stays of each."""

    pieces: Pieces
    groups_of: Callable[[Choice], Mapping[int, int]]


class RestructureStage:
    """Keeps whole sentences of the documents, verbatim, best group of agreeing documents first.

    After Refiner (arXiv 2406.11357), with a scorer in place of its 7B model, or with such a model.
    Thread-safe.
    """

    def __init__(
        self, config: RestructureConfig, scorer: RelevanceScorer, extractor: Extractor | None = None
    ) -> None:
        """`extractor` is asked first where there is one; `scorer` is, where it fails."""
        self._config = config
        self._scorer = scorer
        self._extractor = extractor
        self._traits = StageTraits(
            extractive=config.format == "documents",
            query_aware=True,
            scope="turn",
            keep_ratio=config.keep_ratio,
            languages=scorer.languages,
            arranges=True,
            drop_reason="of no use for the question",
        )

    @property
    def traits(self) -> StageTraits:
        """Query-aware; extractive unless it prints sections."""
        return self._traits

    @property
    def identity(self) -> str:
        """Algorithm, scorer and model."""
        extractor = self._extractor.identity if self._extractor else ""
        return f"{_ALGORITHM}/{self._scorer.identity}/{extractor}"

    async def apply(self, document: ContextDocument, context: StageContext) -> ContextDocument:
        """Cut the documents to what helps, within the budget, and put them in order.

        :raises StageSkip: there are no documents or no question; nothing is of use, or nothing of
            it fits, and `on_empty` is `keep`.
        :raises StageError: the scorer broke its contract.
        :raises DeadlineError: the time budget ends first.
        """
        question = document.question
        passages = passages_of(document)
        if not passages:
            raise StageSkip(Skip.NOTHING_TO_COMPRESS, "there are no documents in the newest turn")
        if not question or not question.strip():
            raise StageSkip(
                Skip.NO_QUESTION,
                "there is no question to judge the documents by; send it with the documents",
            )
        quoted = await self._quoted(question, passages, context)
        return await context.run(
            lambda: self._restructured(question, document, passages, quoted, context)
        )

    def _restructured(
        self,
        question: str,
        document: ContextDocument,
        passages: Sequence[Passage],
        quoted: _Evidence | None,
        context: StageContext,
    ) -> ContextDocument:
        """What the model quoted, or else what the scorer finds, as far as the budget goes."""
        limits = Limits(passages, self._ratio(context), context)
        must_fit = limits.hard_excess(document) > 0
        stays = self._config.on_empty == "keep" and not must_fit
        found: list[Relevance] = []
        if quoted is None:
            found = self._scores(question, document, passages, context)
        evidence = quoted or self._scored(passages, found, self._threshold(found))
        if not evidence.pieces.wanted:
            if stays:
                raise StageSkip(
                    Skip.NOTHING_RELEVANT,
                    "nothing in the documents is of use for the question; to drop them then, set "
                    "on_empty: drop",
                )
            if self._config.on_empty == "keep":  # all of them, but no more than fits
                found = found or self._scores(question, document, passages, context)
                evidence = self._scored(passages, found, 0.0)
        after, kept = self._fitted(document, passages, evidence, limits, context)
        wanted = {piece.passage for piece in evidence.pieces.wanted}
        if wanted and not wanted & kept and stays:
            raise StageSkip(
                Skip.OVER_BUDGET,
                f"no sentence of use fits into {limits.free_tokens} tokens; raise keep_ratio, or "
                "set on_empty: drop",
            )
        crowded = [passages[number] for number in sorted(wanted - kept)]
        useful = wanted if quoted is not None else self._useful(found)
        reasons = _no_room(document, crowded, useful)
        return dataclasses.replace(after, drop_reasons=tuple(reasons))

    def _scores(
        self,
        question: str,
        document: ContextDocument,
        passages: Sequence[Passage],
        context: StageContext,
    ) -> list[Relevance]:
        config = self._config
        found = score_passages(
            self._scorer, question, document, passages, context, keep_ratio=self._ratio(context)
        )
        if "threshold" in config.model_fields_set and not all(one.calibrated for one in found):
            context.notes.append(
                f"threshold has no effect: what the scorer {config.scorer.use} gives are no chances"
            )
        return found

    def _threshold(self, found: Sequence[Relevance]) -> float:
        """The chance that a sentence needs; more than there is where none is good enough."""
        config = self._config
        chances = [one.score for one in found if one.calibrated]
        hopeless = len(chances) == len(found) and max(chances, default=0.0) < config.drop_below
        return math.inf if config.on_empty == "drop" and hopeless else config.threshold

    def _useful(self, found: Sequence[Relevance]) -> set[int]:
        """Numbers of passages of some use, and of those of which no chance is known."""
        least = self._config.drop_below
        return {n for n, one in enumerate(found) if not one.calibrated or one.score >= least}

    def _scored(
        self, passages: Sequence[Passage], found: Sequence[Relevance], threshold: float
    ) -> _Evidence:
        def groups_of(choice: Choice) -> dict[int, int]:
            best = sorted(choice.keep, key=lambda number: (-choice.scores[number], number))
            quotes = [_joined(passages[number].text, choice.keep[number]) for number in best]
            names = group_quotes(quotes, [passages[number].source.title for number in best])
            return dict(zip(best, names, strict=True))

        pieces = pieces_of_scores(
            passages, found, threshold=threshold, context=self._config.context
        )
        return _Evidence(pieces, groups_of)

    async def _quoted(
        self, question: str, passages: Sequence[Passage], context: StageContext
    ) -> _Evidence | None:
        """What the model quotes; `None`, with a note, where it fails: the scorer is asked then."""
        if self._extractor is None:
            return None
        limit_s = self._config.llm.timeout_ms / 1000 if self._config.llm else float("inf")
        now = time.monotonic()
        left_s = (context.deadline_s - now) * (1 - _LEFT_FOR_FALLBACK)
        texts = [Titled(passage.text, passage.source.title) for passage in passages]
        try:
            quotes = await self._extractor.extract(
                question, texts, deadline_s=now + min(limit_s, left_s)
            )
        except (StageError, DeadlineError) as error:
            context.notes.append(f"the model gave no quotes, the scorer chose: {error}")
            return None
        majors: dict[int, int] = {}
        for quote in quotes:
            majors.setdefault(quote.passage, quote.major)

        def groups_of(choice: Choice) -> dict[int, int]:
            """In the model's order; what stands where it quoted nothing comes last."""
            last = 1 + max(majors.values(), default=0)
            known = {number: majors[number] for number in majors if number in choice.keep}
            return known | {number: last for number in choice.keep if number not in known}

        return _Evidence(pieces_of_quotes(passages, quotes), groups_of)

    def _fitted(
        self,
        document: ContextDocument,
        passages: Sequence[Passage],
        evidence: _Evidence,
        limits: Limits,
        context: StageContext,
    ) -> tuple[ContextDocument, Set[int]]:
        """The document with what fits, counted as it will stand there, and what that is of."""
        sections, pieces = self._config.format == "sections", evidence.pieces
        fitting = Fitting(
            passages,
            pieces,
            context.counter.count,
            head_of=heading if sections else lambda passage: "",
            forced=_forced(document, passages, pieces),
            checkpoint=context.checkpoint,
        )
        budget, step = limits.free_tokens, 0
        while True:
            context.checkpoint()
            choice = fitting.choose(budget)
            groups = evidence.groups_of(choice)
            order = sorted(groups) if self._config.order == "request" else _by_group(groups)
            heads = headings(passages, order, groups) if sections else {}
            after = arrange(document, passages, order, choice.keep, heads)
            excess = limits.excess(after)
            if excess <= 0 or budget < 0:
                return after, choice.keep.keys()
            step += 1
            budget -= excess * 2 ** max(0, step - _PATIENCE)

    def _ratio(self, context: StageContext) -> float:
        return self._config.keep_ratio if context.keep_ratio is None else context.keep_ratio


def _by_group(groups: Mapping[int, int]) -> list[int]:
    """Passages by rising group; those of one group as they are given."""
    return sorted(groups, key=lambda number: groups[number])


def _forced(document: ContextDocument, passages: Sequence[Passage], pieces: Pieces) -> list[Piece]:
    """The best piece of every text or array that consists of documents, and must not be empty."""
    forced = []
    for row in full_rows(document, passages):
        best = [pieces.best[one.number] for one in row if one.number in pieces.best]
        forced += [max(best, key=lambda piece: piece.score)] if best else []
    return forced


def _no_room(
    document: ContextDocument, passages: Sequence[Passage], useful: Set[int]
) -> list[tuple[str, Source, str]]:
    return [
        (
            document.blocks[index].pointer,
            passage.source,
            _NO_ROOM if passage.number in useful else _LITTLE,
        )
        for passage in passages
        for index in passage.blocks
    ]


def _joined(text: str, ranges: Sequence[Range]) -> str:
    return "".join(text[start:end] for start, end in ranges)
