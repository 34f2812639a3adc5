"""The stage `restructure`: of the documents, the sentences that help with the question."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from ctxpress.arrangement import Passage, arrange, passages_of
from ctxpress.document import ContextDocument, Range
from ctxpress.errors import DeadlineError, StageError
from ctxpress.plugins.restructure.config import RestructureConfig
from ctxpress.plugins.restructure.extractive import choose_sentences
from ctxpress.plugins.restructure.linking import group_quotes
from ctxpress.plugins.restructure.llm import Quoted
from ctxpress.plugins.scoring import score_passages
from ctxpress.relevance import RelevanceScorer
from ctxpress.relevance.scorer import Titled
from ctxpress.stage import Skip, StageContext, StageSkip, StageTraits

__all__ = ["RestructureStage"]

_ALGORITHM = "restructure/1"
_LEFT_FOR_FALLBACK = 0.25
"""Part of the time budget that the extractive backend keeps for itself."""


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
class _Plan:
    """What stays: ranges and section a passage, by number, in the order they are to go."""

    keep: dict[int, tuple[Range, ...]]
    groups: dict[int, int]


class RestructureStage:
    """Keeps whole sentences of the documents, verbatim, best group of agreeing documents first.

    After Refiner (arXiv 2406.11357), with a scorer in place of its 7B model, or with such a model.
    """

    def __init__(
        self, config: RestructureConfig, scorer: RelevanceScorer, extractor: Extractor | None = None
    ) -> None:
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
        """See `Stage`."""
        question = document.question
        passages = passages_of(document)
        if not passages:
            raise StageSkip(Skip.NOTHING_TO_COMPRESS, "there are no documents in the newest turn")
        if not question or not question.strip():
            raise StageSkip(Skip.NO_QUESTION, "there is no question to judge the documents by")
        plan = await self._quoted(question, passages, context) if self._extractor else None
        if plan is None:
            plan = await context.run(lambda: self._extracted(question, passages, context))
        if not plan.keep and self._config.on_empty == "keep":
            raise StageSkip(
                Skip.NOTHING_RELEVANT,
                "nothing in the documents is of use for the question; set on_empty: drop",
            )
        return self._arranged(document, passages, plan)

    def _extracted(
        self, question: str, passages: Sequence[Passage], context: StageContext
    ) -> _Plan:
        config = self._config
        found = score_passages(
            self._scorer,
            question,
            passages,
            keep_ratio=self._ratio(context),
            checkpoint=context.checkpoint,
        )
        choice = choose_sentences(
            passages,
            found,
            context.counter.count,
            budget_tokens=self._budget(passages, context),
            threshold=config.threshold,
            context=config.context,
        )
        best = sorted(choice.keep, key=lambda number: (-choice.scores[number], number))
        quotes = [_joined(passages[number].text, choice.keep[number]) for number in best]
        names = group_quotes(quotes, [passages[number].source.title for number in best])
        groups = dict(zip(best, names, strict=True))
        if config.order == "request":
            ordered = sorted(best)
        else:
            ordered = sorted(best, key=lambda number: groups[number])  # stable: best first
        return _Plan({number: choice.keep[number] for number in ordered}, groups)

    async def _quoted(
        self, question: str, passages: Sequence[Passage], context: StageContext
    ) -> _Plan | None:
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
        keep: dict[int, tuple[Range, ...]] = {}
        groups: dict[int, int] = {}
        for quote in quotes:
            keep[quote.passage] = _united(keep.get(quote.passage, ()), quote.ranges)
            groups.setdefault(quote.passage, quote.major)
        return _Plan(keep, groups)

    def _arranged(
        self, document: ContextDocument, passages: Sequence[Passage], plan: _Plan
    ) -> ContextDocument:
        heads: Mapping[int, str] = {}
        if self._config.format == "sections":
            heads = _heads(passages, plan)
        return arrange(document, passages, list(plan.keep), plan.keep, heads)

    def _budget(self, passages: Sequence[Passage], context: StageContext) -> int:
        count = context.counter.count
        total = sum(count(passage.text) for passage in passages)
        budget = int(self._ratio(context) * total)
        if context.target_tokens is not None:
            budget = min(budget, context.target_tokens)
        return budget

    def _ratio(self, context: StageContext) -> float:
        return self._config.keep_ratio if context.keep_ratio is None else context.keep_ratio


def _heads(passages: Sequence[Passage], plan: _Plan) -> dict[int, str]:
    """`1.1. ## Title` above each passage; groups are numbered as they come.

    They come row by row, whichever is best: rows keep their order.
    """
    rows = {row: place for place, row in enumerate(dict.fromkeys(p.row for p in passages))}
    majors: dict[int, int] = {}
    minors: dict[int, int] = {}
    heads = {}
    for number in sorted(plan.keep, key=lambda n: rows[passages[n].row]):
        major = majors.setdefault(plan.groups[number], len(majors) + 1)
        minors[major] = minors.get(major, 0) + 1
        title = passages[number].source.title or f"Document {passages[number].source.id}"
        heads[number] = f"{major}.{minors[major]}. ## {' '.join(title.split())}\n"
    return heads


def _joined(text: str, ranges: Sequence[Range]) -> str:
    return "".join(text[start:end] for start, end in ranges)


def _united(left: Sequence[Range], right: Sequence[Range]) -> tuple[Range, ...]:
    """Ascending ranges that cover what either covers."""
    united: list[Range] = []
    for start, end in sorted([*left, *right]):
        if united and start <= united[-1].end:
            united[-1] = Range(united[-1].start, max(end, united[-1].end))
        else:
            united.append(Range(start, end))
    return tuple(united)
