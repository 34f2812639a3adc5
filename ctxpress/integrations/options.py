"""The options that all adapters take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    model_validator,
)

from ctxpress.errors import ConfigError
from ctxpress.nearest import did_you_mean
from ctxpress.results import CompressedDocuments
from ctxpress.sdk import DEFAULT_KEEP_RATIO, Pipeline, open_pipeline

__all__ = ["CompressionOptions"]


class CompressionOptions(BaseModel):
    """Which pipeline an adapter runs, and how much it keeps.

    ``pipeline`` is a preset, the name of a pipeline of the file ``config``, or a
    :class:`ctxpress.Pipeline` that the caller holds and closes. ``stages`` are those of a pipeline
    made for this adapter: ``[{"use": "token_classification", "keep_ratio": 0.5}]``. Without any of
    them the bundled model keeps half of the tokens.

    ``keep_ratio`` is the fraction of every document to keep, ``budget_tokens`` a budget for all
    documents together in tokens of ``model``; without them the stages' own options hold.

    ``title_key`` is where a document's metadata hold its title. ``on_report`` is called with the
    result of every call: its ``report``, and its ``documents``, one for each that was given, with
    the reasons of those that were dropped. It must not block; what it raises goes to the caller.

    :raises ConfigError: an option that there is not, a value of a wrong type or out of range, or
        options that contradict each other.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", strict=True)

    pipeline: str | Pipeline | None = Field(default=None, frozen=True)
    stages: Sequence[Mapping[str, Any]] | None = Field(default=None, frozen=True)
    config: str | Path | None = Field(default=None, frozen=True)
    keep_ratio: Annotated[float, Field(gt=0, le=1)] | None = Field(default=None, frozen=True)
    budget_tokens: Annotated[int, Field(ge=1)] | None = Field(default=None, frozen=True)
    model: str | None = Field(default=None, frozen=True)
    title_key: str = Field(default="title", frozen=True)
    on_report: Callable[[CompressedDocuments], object] | None = Field(
        default=None, frozen=True, exclude=True
    )

    def __init__(self, **options: Any) -> None:
        try:
            super().__init__(**options)
        except ValidationError as error:
            raise ConfigError(_first_problem(type(self), error)) from error

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.keep_ratio is not None and self.budget_tokens is not None:
            raise ValueError("give keep_ratio or budget_tokens, not both")
        if self.stages is not None and (self.pipeline is not None or self.config is not None):
            raise ValueError("give stages, or the name of a pipeline, not both")
        if self.config is not None and not isinstance(self.pipeline, str):
            raise ValueError("name the pipeline of the configuration file: pipeline='…'")
        return self

    @field_serializer("config")
    def _as_text(self, config: str | Path | None) -> str | None:
        return None if config is None else str(config)

    def check_serialisable(self) -> None:
        """Check that the options can be written to a file.

        :raises ConfigError: the pipeline is held by the caller.
        """
        if isinstance(self.pipeline, Pipeline):
            raise ConfigError(
                "a pipeline that is held cannot be serialised: "
                "give stages, or its name and the file config"
            )

    @property
    def asked_ratio(self) -> float | None:
        """The ratio to ask the pipeline for: ``None`` where its stages or a budget decide."""
        decided = (self.keep_ratio, self.budget_tokens, self.pipeline, self.stages)
        if all(value is None for value in decided):
            return DEFAULT_KEEP_RATIO
        return self.keep_ratio

    def open(self) -> Pipeline:
        """The pipeline that the options mean.

        :raises ConfigError: a name, a stage, an option of a stage or the file is wrong.
        :raises PluginError: a plugin that the file enables cannot be loaded.
        :raises MissingDependencyError: a stage or a store needs a package that is not installed.
        """
        if isinstance(self.pipeline, Pipeline):
            return self.pipeline
        return open_pipeline(self.pipeline, config=self.config, stages=self.stages)


def _first_problem(adapter: type[BaseModel], error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    option = str(problem["loc"][0]) if problem["loc"] else ""
    if problem["type"] == "extra_forbidden":
        hint = did_you_mean(option, adapter.model_fields)
        return f"{adapter.__name__} has no option {option!r}{hint}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{adapter.__name__}: {option + ': ' if option else ''}{message}"
