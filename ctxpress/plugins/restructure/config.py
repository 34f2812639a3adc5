"""Options of the stage `restructure`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, model_validator

from ctxpress.plugins.scoring import DEFAULT_SCORER, ScorerOption

__all__ = ["LlmConfig", "RestructureConfig"]

EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class LlmConfig(BaseModel):
    """An OpenAI-compatible endpoint whose model picks the quotes.

    `template: refiner` is for Refiner-7B and its like, `chat` for general models. The key is taken
    from the environment variable `api_key_env`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: HttpUrl
    model: str
    template: Literal["chat", "refiner"] = "chat"
    api_key_env: EnvironmentName | None = None
    max_tokens: int = Field(default=2048, ge=1)
    timeout_ms: float = Field(default=20_000, gt=0)


class RestructureConfig(BaseModel):
    """`keep_ratio` of the documents' tokens are kept at most, in whole sentences.

    With `backend: extractive`, `threshold` is the chance of being of use below which a sentence
    goes even where there is room; it needs a scorer whose scores are chances. Where no sentence
    reaches it, or none of those fits, `on_empty` says whether the documents are kept as they are or
    dropped; with `drop`, at least one sentence must reach `drop_below` for anything to stay.
    `format: sections` prints `1.1. ## Title` above each document's quotes, as Refiner does;
    `documents` prints nothing. `order: groups` puts documents that say the same next to each other,
    best group first. With `context`, a sentence that one which stays cannot be understood without
    counts for more than by itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: Literal["extractive", "llm"] = "extractive"
    keep_ratio: float = Field(default=0.3, gt=0, le=1)
    scorer: ScorerOption = DEFAULT_SCORER
    threshold: float = Field(default=0.005, ge=0, lt=1)
    drop_below: float = Field(default=0.3, ge=0, lt=1)
    on_empty: Literal["keep", "drop"] = "keep"
    format: Literal["documents", "sections"] = "documents"
    order: Literal["groups", "request"] = "groups"
    context: bool = True
    llm: LlmConfig | None = None

    @model_validator(mode="after")
    def _llm_where_it_is_used(self) -> Self:
        if (self.backend == "llm") != (self.llm is not None):
            raise ValueError("llm: needed by backend: llm, and only there")
        return self

    @model_validator(mode="after")
    def _sections_are_groups(self) -> Self:
        if self.format == "sections" and self.order != "groups":
            raise ValueError("order: request has no sections; set order: groups")
        return self
