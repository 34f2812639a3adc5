"""The stage `select`: documents in, those of the best combination out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from ctxpress.arrangement import Passage, arrange, passages_of
from ctxpress.document import ContextDocument
from ctxpress.errors import DeadlineError
from ctxpress.plugins.scoring import score_passages
from ctxpress.plugins.select.config import SelectConfig
from ctxpress.plugins.select.evidence import evidence_of
from ctxpress.plugins.select.rewards import EvidenceReward, JoinedReward
from ctxpress.plugins.select.search import Reward, search
from ctxpress.relevance.scorer import Relevance, RelevanceScorer, Titled
from ctxpress.stage import Skip, StageContext, StageSkip, StageTraits

__all__ = ["SelectStage"]

_ALGORITHM = "select/1"
_TIME_SHARE = 0.5
"""Part of the time left that the search may take; the stages behind it need some, too."""
_BATCH = 32
_MAX_CORRECTIONS = 8


class SelectStage:
    """Keeps the documents that are best together; not a character of them changes. Thread-safe."""

    def __init__(self, config: SelectConfig, scorer: RelevanceScorer) -> None:
        self._config = config
        self._scorer = scorer
        self._traits = StageTraits(
            query_aware=True,
            may_grow=config.order == "search",  # by a token where other texts come to touch
            scope="turn",
            keep_ratio=config.keep_ratio,
            languages=scorer.languages,
            arranges=True,
            drop_reason="not in the best combination for the question",
        )

    @property
    def traits(self) -> StageTraits:
        """Extractive, depends on the question, in the scorer's measured languages only."""
        return self._traits

    @property
    def identity(self) -> str:
        """Version of the algorithm, and the scorer's identity."""
        return f"{_ALGORITHM}+{self._scorer.identity}"

    async def apply(self, document: ContextDocument, context: StageContext) -> ContextDocument:
        """Drop the documents that are not in the best combination that fits the budget.

        Documents with something pinned stay, and take their part of the budget first. Where no
        other fits, and there are none, the one that scores highest stays.

        :raises StageSkip: when there is no question, or no choice between documents.
        :raises StageError: the scorer broke its contract.
        :raises DeadlineError: when the time budget ends before there is anything to choose by.
        """
        return await context.run(lambda: self._select(document, context))

    def _select(self, document: ContextDocument, context: StageContext) -> ContextDocument:
        passages = passages_of(document)
        question = _question_for(document, passages)
        costs = _costs(passages, context)
        budget = self._budget(document, sum(costs), context)
        relevances = score_passages(
            self._scorer,
            question,
            document,
            passages,
            context,
            keep_ratio=min(1.0, budget / max(1, sum(costs))),
        )
        clock = _Clock(context)
        choice = _Choice(passages, relevances, costs, self._config.max_candidates)
        reward = self._reward(question, choice, clock.checkpoint)
        for _ in range(_MAX_CORRECTIONS):
            order = self._best(choice, budget, reward, clock.checkpoint)
            context.checkpoint()
            after = document
            if order != list(range(len(passages))):
                after = arrange(document, passages, order)
            excess = _excess(after, context)
            if excess <= 0 or len(order) <= max(1, len(choice.pinned)):
                break
            budget = min(budget, sum(costs[number] for number in order)) - excess
        return after

    def _budget(self, document: ContextDocument, total: int, context: StageContext) -> int:
        """Tokens that the documents may have; a request's wish goes before the configuration."""
        ratio, target = context.keep_ratio, context.target_tokens
        if ratio is None and target is None:
            if self._config.budget_tokens is not None:
                return self._config.budget_tokens
            ratio = self._config.keep_ratio
        # The nudge undoes float error: all must be all.
        budget = total if ratio is None else int(ratio * total + 1e-6)
        if target is not None:
            around = sum(context.counter.count(block.text) for block in document.blocks) - total
            budget = min(budget, target - max(0, around))
        return max(0, budget)

    def _reward(self, question: str, choice: _Choice, checkpoint: Callable[[], None]) -> Reward:
        """Over numbers of candidates; the pinned documents are a part of every combination."""
        members = [*choice.candidates, *choice.pinned]
        always = range(len(choice.candidates), len(members))
        passages = [choice.passages[number] for number in members]
        if self._config.reward == "joined":
            texts = [Titled(one.text, one.source.title) for one in passages]
            return JoinedReward(self._scorer, question, texts, always=always, checkpoint=checkpoint)
        evidence = evidence_of(
            [choice.relevances[number] for number in members], [one.text for one in passages]
        )
        return EvidenceReward(evidence, [choice.costs[n] for n in members], always=always)

    def _best(
        self, choice: _Choice, budget: int, reward: Reward, checkpoint: Callable[[], None]
    ) -> list[int]:
        """Numbers of the passages to keep, in their order."""
        ordered = self._config.order == "search"
        found = search(
            [choice.costs[number] for number in choice.candidates],
            budget - sum(choice.costs[number] for number in choice.pinned),
            reward,
            self._config,
            ranking=choice.ranking,
            ordered=ordered,
            may_be_empty=bool(choice.pinned),
            checkpoint=checkpoint,
        )
        chosen = [choice.candidates[number] for number in found.chosen]
        if not chosen and not choice.pinned:
            chosen = [choice.candidates[choice.ranking[0]]]
        kept = [*choice.pinned, *chosen]
        return kept if ordered else sorted(kept)


class _Choice:
    """The documents of one request, and which of them are to choose from.

    `candidates` are numbers of passages, ascending; `ranking` are indexes into `candidates`, by
    falling score, those that come first going before their equals.
    """

    def __init__(
        self,
        passages: Sequence[Passage],
        relevances: Sequence[Relevance],
        costs: Sequence[int],
        max_candidates: int,
    ) -> None:
        self.passages, self.relevances, self.costs = passages, relevances, costs
        self.pinned = [number for number, one in enumerate(passages) if one.pinned]
        free = [number for number, one in enumerate(passages) if not one.pinned]
        free.sort(key=lambda number: -relevances[number].score)
        self.candidates = sorted(free[:max_candidates])
        place = {number: index for index, number in enumerate(self.candidates)}
        self.ranking = [place[number] for number in free[:max_candidates]]


class _Clock:
    """Ends the search while there is time left to use what it found."""

    def __init__(self, context: StageContext) -> None:
        self._context = context
        now = time.monotonic()
        left_s = context.deadline_s - now
        self._until_s = now + left_s * _TIME_SHARE if math.isfinite(left_s) else math.inf

    def checkpoint(self) -> None:
        """
        :raises DeadlineError: the search's part of the time is over, or the request is.
        """
        self._context.checkpoint()
        if time.monotonic() >= self._until_s:
            raise DeadlineError("the search's part of the time budget is over")


def _question_for(document: ContextDocument, passages: Sequence[Passage]) -> str:
    """The question that documents are to be chosen for, if there is a choice.

    :raises StageSkip: there is none.
    """
    if len(passages) < 2:
        raise StageSkip(
            Skip.TOO_FEW_DOCUMENTS,
            "there is no choice: select needs two documents or more, here is "
            + ("one" if passages else "none"),
        )
    if all(passage.pinned for passage in passages):
        raise StageSkip(Skip.PROTECTED, "every document holds protected text that must go forward")
    if not document.question or not document.question.strip():
        raise StageSkip(
            Skip.NO_QUESTION,
            "documents are chosen for a question, and none was found; send it with the documents",
        )
    return document.question


def _costs(passages: Sequence[Passage], context: StageContext) -> list[int]:
    """Tokens of each document with its markup, at least 1."""
    costs = []
    for number, passage in enumerate(passages):
        if number % _BATCH == 0:
            context.checkpoint()
        costs.append(max(1, context.counter.count(passage.markup + passage.text)))
    return costs


def _excess(document: ContextDocument, context: StageContext) -> int:
    """Tokens beyond a request's hard budget; counts of parts do not add up exactly."""
    if context.target_tokens is None:
        return 0
    return sum(context.counter.count(b.text) for b in document.blocks) - context.target_tokens
