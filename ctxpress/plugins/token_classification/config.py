"""Options of the stage `token_classification`, in the paper's terms."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from ctxpress.plugins.token_classification.checkpoint_config import (
    LLMLingua2StageOptions,
    ModelOptions,
    check_belonging,
)

__all__ = ["TokenClassificationConfig"]

_NATIVE_ONLY = frozenset(
    {"keep_ratio", "target_tokens", "min_sentence_words", "question_weight", "dynamic_ratio"}
)


class TokenClassificationConfig(LLMLingua2StageOptions, ModelOptions):
    """Options, in the paper's terms. What belongs to one mode or backend only, its base explains.

    `keep_ratio`: fraction of the block's free tokens to keep. `target_tokens`: tokens a block may
    have instead, protected ones included. `force_tokens`: words or punctuation that are never
    deleted, whatever the budget; `"\\n"` keeps every line break. `force_reserve_digit`: never
    delete a word with a digit in it. `drop_consecutive`: of force tokens that end up side by side,
    keep one.

    `min_sentence_words`: a sentence of which fewer words would be left goes whole; 0 or 1: none
    does. `question_weight`: how much the turn's question counts against what is worth keeping for
    any reader; needs a model that reads questions. `dynamic_ratio`: how far the budgets of a turn's
    blocks may move from equal shares (0) towards one threshold over all of them (1).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep_ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    target_tokens: Annotated[int, Field(ge=1)] | None = None
    force_tokens: tuple[Annotated[str, Field(min_length=1)], ...] = Field((), max_length=100)
    force_reserve_digit: bool = False
    drop_consecutive: bool = False

    # Of mode `native` only.
    min_sentence_words: Annotated[int, Field(ge=0, le=20)] = 2
    question_weight: Annotated[float, Field(ge=0, le=1)] = 0.9
    dynamic_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0

    @model_validator(mode="after")
    def _one_budget(self) -> TokenClassificationConfig:
        if self.target_tokens is not None and "keep_ratio" in self.model_fields_set:
            raise ValueError("give keep_ratio or target_tokens, not both")
        return self

    @model_validator(mode="after")
    def _options_suit_mode_and_backend(self) -> TokenClassificationConfig:
        check_belonging(
            frozenset(self.model_fields_set),
            mode=self.mode,
            backend=self.backend,
            model=self.model,
            native=_NATIVE_ONLY,
        )
        return self
