"""How stages for documents get relevance scores: their option, and one call that is checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ctxpress.arrangement import Passage
from ctxpress.document import ContextDocument, Source
from ctxpress.errors import StageError
from ctxpress.models.language import UNDETERMINED, detect_language
from ctxpress.relevance.scorer import Relevance, RelevanceScorer, Titled
from ctxpress.resources import Resources
from ctxpress.stage import Skip, StageContext, StageSkip

__all__ = [
    "DEFAULT_SCORER",
    "ScorerOption",
    "ScorerSpec",
    "create_scorer",
    "known_scores",
    "score_passages",
]


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
    document: ContextDocument,
    passages: Sequence[Passage],
    context: StageContext,
    *,
    keep_ratio: float | None = None,
) -> list[Relevance]:
    """One `Relevance` a passage of `document`, in order, all of them finite numbers.

    They are left for later stages of the request. What an earlier one left is taken, where it
    covers all passages, none was changed since, and the scorer looked closely enough.

    :raises StageSkip: the question is in a language that the scorer was not measured on.
    :raises StageError: the scorer broke its contract.
    """
    _require_language(scorer, question)
    places = _places(document, passages)
    texts = [Titled(passage.text, passage.source.title) for passage in passages]
    size = sum(len(text.text) for text in texts)
    kept_characters = size if keep_ratio is None else keep_ratio * size
    known = _known(scorer, question, context)
    if known is not None and known.kept_characters >= kept_characters:
        held = [known.scored.get(place) for place in places]
        same = [one[1] for one, text in zip(held, texts, strict=True) if one and one[0] == text]
        if len(same) == len(texts):
            return same
    found = scorer.score(question, texts, keep_ratio=keep_ratio, checkpoint=context.checkpoint)
    _check(scorer, found, len(texts))
    scored = dict(zip(places, zip(texts, found, strict=True), strict=True))
    context.shared[_key(scorer, question)] = _Known(scored, kept_characters)
    return found


def known_scores(
    scorer: RelevanceScorer,
    question: str,
    document: ContextDocument,
    passages: Sequence[Passage],
    context: StageContext,
) -> list[float] | None:
    """The passages' scores where an earlier stage of the request had `scorer` score all of them.

    They are of the passages as they were then: what was cut since takes nothing from them. `None`
    where one is missing: scores of different calls do not compare.
    """
    known = _known(scorer, question, context)
    if known is None:
        return None
    held = [known.scored.get(place) for place in _places(document, passages)]
    scores = [one[1].score for one in held if one is not None]
    return scores if len(scores) == len(held) else None


_Place = tuple[str, Source]
"""What stays of a passage through all stages: where its text begins, and its source."""


@dataclass(frozen=True, slots=True)
class _Known:
    """One call of a scorer: what it was given and found, and how much of it was to be kept."""

    scored: Mapping[_Place, tuple[Titled, Relevance]]
    kept_characters: float


def _known(scorer: RelevanceScorer, question: str, context: StageContext) -> _Known | None:
    known = context.shared.get(_key(scorer, question))
    return known if isinstance(known, _Known) else None


def _key(scorer: RelevanceScorer, question: str) -> tuple[str, str, str]:
    return ("ctxpress.plugins.scoring", scorer.identity, question)


def _places(document: ContextDocument, passages: Sequence[Passage]) -> list[_Place]:
    return [(document.blocks[one.blocks[0]].pointer, one.source) for one in passages]


def _check(scorer: RelevanceScorer, found: Sequence[Relevance], n_texts: int) -> None:
    if len(found) != n_texts:
        raise StageError(f"{scorer.identity}: {len(found)} scores for {n_texts} documents")
    for number, one in enumerate(found, start=1):
        if not (np.isfinite(one.score) and np.isfinite(one.sentence_scores).all()):
            raise StageError(f"{scorer.identity}: document {number} has no finite score")
        if len(one.sentences) != len(one.sentence_scores):
            raise StageError(f"{scorer.identity}: document {number} has not one score a sentence")


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
