"""Options of the stage `select`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ctxpress.plugins.scoring import DEFAULT_SCORER, ScorerOption

__all__ = ["SearchOptions", "SelectConfig"]


class SearchOptions(BaseModel):
    """How the search goes, in the paper's terms.

    `iterations`: nodes that are expanded, each with one batch of combinations; as many at most go
    to the greedy path before. `exploration` is C and `cost_weight` is lambda in
    U = mean reward + C * sqrt(ln N / n) - lambda * cost / budget, with rewards scaled to what was
    met so far, from 0 to 1. `max_candidates`: only so many documents, the best by themselves, are
    combined; the others leave.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    iterations: Annotated[int, Field(ge=1, le=10_000)] = 64
    exploration: Annotated[float, Field(ge=0, le=100)] = 1.41
    cost_weight: Annotated[float, Field(ge=0, le=100)] = 0.2
    max_candidates: Annotated[int, Field(ge=1, le=512)] = 64


class SelectConfig(SearchOptions):
    """What may stay, and what is best.

    `keep_ratio`: the fraction of the documents' tokens that may stay at most. `budget_tokens`: the
    tokens that they may have together instead, in the target model's tokenizer, markup included.
    `order`: the selected documents as they stood in the `request`, or as the `search` found them
    best. `reward`: `evidence` of sentences, from one call of `scorer`, or `joined`: `scorer` reads
    every combination as one text, as in the paper; it has to be calibrated.
    """

    keep_ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    budget_tokens: Annotated[int, Field(ge=1)] | None = None
    order: Literal["request", "search"] = "request"
    reward: Literal["evidence", "joined"] = "evidence"
    scorer: ScorerOption = DEFAULT_SCORER

    @model_validator(mode="after")
    def _one_budget(self) -> SelectConfig:
        if self.budget_tokens is not None and "keep_ratio" in self.model_fields_set:
            raise ValueError("give keep_ratio or budget_tokens, not both")
        return self
