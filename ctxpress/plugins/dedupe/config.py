"""Options of the stage `dedupe`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["DedupeConfig"]


class DedupeConfig(BaseModel):
    """Options.

    `threshold`: from which share of common runs of three words two texts count as the same (their
    Jaccard index), or one as contained in the other. `min_words`: shorter sentences stay, however
    often they stand. `sentences`: also drop single sentences, not only whole documents.
    `across_turns`: also drop what was sent earlier in the conversation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: Annotated[float, Field(ge=0.5, le=1)] = 0.9
    min_words: Annotated[int, Field(ge=1, le=100)] = 5
    sentences: bool = True
    across_turns: bool = True
