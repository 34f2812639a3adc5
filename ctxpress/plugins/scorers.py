"""The relevance scorers that come with ctxpress, by the names that stages take."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ctxpress.hookspecs import RegisterScorer, hookimpl
from ctxpress.relevance.bm25 import BM25Scorer
from ctxpress.relevance.scorer import RelevanceScorer
from ctxpress.resources import Resources

__all__ = ["BM25Config", "register_scorers"]


class BM25Config(BaseModel):
    """Options of the scorer `bm25`, see `BM25Scorer`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k1: Annotated[float, Field(ge=0, le=10)] = 1.2
    b: Annotated[float, Field(ge=0, le=1)] = 0.75
    passage_share: Annotated[float, Field(ge=0, le=10)] = 0.3


def _create_bm25(config: BM25Config, resources: Resources) -> RelevanceScorer:
    return BM25Scorer(k1=config.k1, b=config.b, passage_share=config.passage_share)


@hookimpl
def register_scorers(register: RegisterScorer) -> None:
    """Register `bm25`."""
    register("bm25", _create_bm25, BM25Config)
