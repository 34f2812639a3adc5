"""Documents put where models read best: the strongest at both ends (stage `reorder`).

Jin et al. (2024, "Long-Context LLMs Meet RAG", arXiv 2410.05983): of documents by
falling score, the i-th of k goes to position (i + 1) / 2 where i is odd and (k + 1) - i / 2 where
it is even, counted from 1: d1 d3 d5 … d4 d2. The best document is first for every k. What LangChain
and LlamaIndex do is the same for odd k and the reverse for even k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ctxpress.arrangement import Passage, arrange, passages_of
from ctxpress.document import ContextDocument
from ctxpress.hookspecs import RegisterStage, hookimpl
from ctxpress.languages import mask_languages
from ctxpress.plugins.scoring import (
    DEFAULT_SCORER,
    ScorerOption,
    create_scorer,
    known_scores,
    score_passages,
)
from ctxpress.relevance.scorer import RelevanceScorer
from ctxpress.resources import Resources
from ctxpress.stage import Skip, StageContext, StageSkip, StageTraits

__all__ = ["ReorderConfig", "ReorderStage", "edges_first", "register_stages"]

_ALGORITHM = "reorder/3"
_LONGEST_NAME = 40
_PART_AT_THE_ENDS = 0.5
"""The part of the documents whose order matters: models make little of what is in the middle."""


class ReorderConfig(BaseModel):
    """`min_documents`: fewer of them keep their order: with few the gain is negligible.

    `scores`: `given` goes by the documents' own, `computed` by `scorer`, `auto` by their own where
    every one has a finite one, else by `scorer`: by what it said of the whole documents, where a
    stage before had it score them. `scorer` is only built where it may be asked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_documents: Annotated[int, Field(ge=2)] = 10
    scores: Literal["given", "computed", "auto"] = "auto"
    scorer: ScorerOption = DEFAULT_SCORER


def edges_first(k: int) -> list[int]:
    """Which of k documents, by rank from 0, stands at each position: 0 2 4 … 5 3 1."""
    placed = [0] * k
    for i in range(1, k + 1):
        position = (i + 1) // 2 if i % 2 else (k + 1) - i // 2
        placed[position - 1] = i - 1
    return placed


class ReorderStage:
    """Moves documents within their text or array; not a character of them changes. Thread-safe."""

    def __init__(self, config: ReorderConfig, scorer: RelevanceScorer | None) -> None:
        """`scorer` is `None` where the configuration never asks one."""
        self._config = config
        self._scorer = scorer
        self._traits = StageTraits(
            query_aware=scorer is not None,
            query_optional=config.scores == "auto",
            may_grow=True,  # by a token where other texts come to touch
            scope="turn",
            arranges=True,
        )

    @property
    def traits(self) -> StageTraits:
        """Extractive; depends on the question only where it may compute scores."""
        return self._traits

    @property
    def identity(self) -> str:
        """Version of the algorithm, and the scorer's identity."""
        return _ALGORITHM if self._scorer is None else f"{_ALGORITHM}+{self._scorer.identity}"

    async def apply(self, document: ContextDocument, context: StageContext) -> ContextDocument:
        """Put the documents of each row with enough of them in order.

        :raises StageSkip: when no row has enough documents, none has scores to go by, or scores
            would be computed and the scorer has no measured quality in the text's language.
        :raises StageError: the scorer broke its contract.
        :raises DeadlineError: when the time budget ends first.
        """
        return await context.run(lambda: self._reorder(document, context))

    def _reorder(self, document: ContextDocument, context: StageContext) -> ContextDocument:
        passages = passages_of(document)
        rows: dict[str, list[Passage]] = {}
        for passage in passages:
            rows.setdefault(passage.row, []).append(passage)
        long = {row: m for row, m in rows.items() if len(m) >= self._config.min_documents}
        if not long:
            most = max(map(len, rows.values()), default=0)
            raise StageSkip(
                Skip.TOO_FEW_DOCUMENTS,
                f"at most {most} documents stand together and min_documents is "
                f"{self._config.min_documents}; with few, order makes little difference",
            )
        skips: list[StageSkip] = []
        order: list[int] = []
        for row, members in rows.items():
            numbers = [member.number for member in members]
            if row in long:
                try:
                    numbers = self._arranged(members, document, context)
                except StageSkip as skip:
                    skips.append(skip)
            order += numbers
        if len(skips) == len(long):
            raise skips[0]
        if order == sorted(order):
            return document
        return arrange(document, passages, order)

    def _arranged(
        self, members: Sequence[Passage], document: ContextDocument, context: StageContext
    ) -> list[int]:
        """The numbers of one row's passages in their new order."""
        scores = self._scores(members, document, context)
        ranked = sorted(range(len(members)), key=lambda n: -scores[n])  # stable
        return [members[ranked[rank]].number for rank in edges_first(len(ranked))]

    def _scores(
        self, members: Sequence[Passage], document: ContextDocument, context: StageContext
    ) -> list[float]:
        if self._config.scores != "computed":
            given = [_finite(member.source.score) for member in members]
            found = [score for score in given if score is not None]
            if len(found) == len(members):
                return found
            if self._scorer is None:
                raise StageSkip(Skip.NO_SCORES, _missing(members, given))
        question = document.question
        if self._scorer is None or not (question and question.strip()):
            raise StageSkip(
                Skip.NO_QUESTION,
                "the documents have no scores of their own, and without a question none can be "
                "computed; send scores or the question"
                if self._config.scores == "auto"
                else "scores are computed for a question, and there is none",
            )
        mask_languages(document, self._scorer.languages)  # skips where none of it was measured
        known = known_scores(self._scorer, question, document, members, context)
        if known is not None:
            return known
        relevances = score_passages(
            self._scorer, question, document, members, context, keep_ratio=_PART_AT_THE_ENDS
        )
        return [relevance.score for relevance in relevances]


def _finite(score: float | None) -> float | None:
    try:
        return float(score) if score is not None and math.isfinite(score) else None
    except OverflowError:  # an integer beyond all floats
        return None


def _missing(members: Sequence[Passage], scores: Sequence[float | None]) -> str:
    number = scores.index(None)
    name = members[number].source.id[:_LONGEST_NAME]
    return (
        f"document {number + 1} of {len(members)} ({name!r}) has no finite score, and scores: "
        "given goes by nothing else; send scores, or set scores: auto"
    )


def _create_stage(config: ReorderConfig, resources: Resources) -> ReorderStage:
    scorer = None if config.scores == "given" else create_scorer(config.scorer, resources)
    return ReorderStage(config, scorer)


@hookimpl
def register_stages(register: RegisterStage) -> None:
    """Register `reorder`."""
    register("reorder", _create_stage, ReorderConfig)
