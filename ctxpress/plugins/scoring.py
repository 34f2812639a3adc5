"""How stages for documents get relevance scores: their option, and one call that is checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ctxpress.arrangement import Passage
from ctxpress.errors import StageError
from ctxpress.models.language import UNDETERMINED, detect_language
from ctxpress.relevance.scorer import Relevance, RelevanceScorer, Titled
from ctxpress.resources import Resources
from ctxpress.stage import Skip, StageSkip

__all__ = ["DEFAULT_SCORER", "ScorerOption", "ScorerSpec", "create_scorer", "score_passages"]


class ScorerSpec(BaseModel):
    """A relevance scorer by the name it is registered under; every other key is its option."""

    model_config = ConfigDict(frozen=True, extra="allow")

    use: Annotated[str, Field(min_length=1)]


def _named(value: Any) -> Any:
    return {"use": value} if isinstance(value, str) else value


ScorerOption = Annotated[
    ScorerSpec, BeforeValidator(_named, json_schema_input_type=str | ScorerSpec)
]
"""The type of a stage's option `scorer`: a name, or `{use: name, …options}`."""

DEFAULT_SCORER = ScorerSpec(use="bundled")


def create_scorer(option: ScorerSpec, resources: Resources) -> RelevanceScorer:
    """The scorer that `option` names; call it when the stage is built.

    :raises ConfigError: there is no such scorer, or it has no such option.
    """
    return resources.create_scorer(option.use, option.model_extra or {})


def score_passages(
    scorer: RelevanceScorer,
    question: str,
    passages: Sequence[Passage],
    *,
    keep_ratio: float | None = None,
    checkpoint: Callable[[], None] | None = None,
) -> list[Relevance]:
    """One `Relevance` a passage, in order, all of them finite numbers.

    :raises StageSkip: the question is in a language that the scorer was not measured on.
    :raises StageError: the scorer broke its contract.
    """
    _require_language(scorer, question)
    texts = [Titled(passage.text, passage.source.title) for passage in passages]
    found = scorer.score(question, texts, keep_ratio=keep_ratio, checkpoint=checkpoint)
    if len(found) != len(texts):
        raise StageError(f"{scorer.identity}: {len(found)} scores for {len(texts)} documents")
    for number, one in enumerate(found, start=1):
        if not (np.isfinite(one.score) and np.isfinite(one.sentence_scores).all()):
            raise StageError(f"{scorer.identity}: document {number} has no finite score")
        if len(one.sentences) != len(one.sentence_scores):
            raise StageError(f"{scorer.identity}: document {number} has not one score a sentence")
    return found


def _require_language(scorer: RelevanceScorer, question: str) -> None:
    """Scores for a question that the scorer cannot read would drop what answers it."""
    if scorer.languages is None:
        return
    language = detect_language(question)
    if language not in scorer.languages | {UNDETERMINED}:
        raise StageSkip(
            Skip.LANGUAGE,
            f"the question is in {language}, and the scorer was measured only on "
            f"{', '.join(sorted(scorer.languages))}; choose another scorer, such as bm25",
        )
