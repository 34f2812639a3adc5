"""The relevance scorers that come with ctxpress, by the names that stages take."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ctxpress.errors import ModelError
from ctxpress.hookspecs import RegisterScorer, hookimpl
from ctxpress.models import load_bundled_scorer
from ctxpress.models.bundle import read_manifest
from ctxpress.relevance.bm25 import BM25Scorer
from ctxpress.relevance.cascade import CascadeScorer, RelevanceMix
from ctxpress.relevance.joint import JointEvidence
from ctxpress.relevance.scorer import RelevanceScorer
from ctxpress.relevance.vectors import VectorScorer
from ctxpress.resources import Resources

__all__ = ["BM25Config", "BundledConfig", "VectorsConfig", "register_scorers"]


class BM25Config(BaseModel):
    """Options of the scorer `bm25`, see `BM25Scorer`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k1: Annotated[float, Field(ge=0, le=10)] = 1.2
    b: Annotated[float, Field(ge=0, le=1)] = 0.75
    passage_share: Annotated[float, Field(ge=0, le=10)] = 0.3


class BundledConfig(BaseModel):
    """Options of the scorer `bundled`, see `CascadeScorer`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    read_at_least: Annotated[int, Field(ge=1, le=10_000)] = 6
    read_at_most: Annotated[int, Field(ge=1, le=10_000)] = 64
    sure: Annotated[float, Field(gt=0, lt=1)] = 0.75


class VectorsConfig(BaseModel):
    """The scorer `vectors` has no options."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _create_bm25(config: BM25Config, resources: Resources) -> RelevanceScorer:
    return BM25Scorer(k1=config.k1, b=config.b, passage_share=config.passage_share)


def _create_bundled(config: BundledConfig, resources: Resources) -> RelevanceScorer:
    encoder = resources.get("models/bundled", load_bundled_scorer)
    try:
        mix = RelevanceMix(**read_manifest().relevance)
    except TypeError as error:
        raise ModelError(f"the bundled model's manifest.json, relevance: {error}") from error
    return CascadeScorer(
        JointEvidence(encoder),
        mix,
        read_at_least=config.read_at_least,
        read_at_most=config.read_at_most,
        sure=config.sure,
    )


def _create_vectors(config: VectorsConfig, resources: Resources) -> RelevanceScorer:
    return VectorScorer(resources.get("models/bundled", load_bundled_scorer))


@hookimpl
def register_scorers(register: RegisterScorer) -> None:
    """Register `bundled`, `bm25` and `vectors`."""
    register("bundled", _create_bundled, BundledConfig)
    register("bm25", _create_bm25, BM25Config)
    register("vectors", _create_vectors, VectorsConfig)
