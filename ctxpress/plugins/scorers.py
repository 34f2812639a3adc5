"""The relevance scorers that come with ctxpress, by the names that stages take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ctxpress.errors import ModelError
from ctxpress.hookspecs import RegisterScorer, hookimpl
from ctxpress.models import load_bundled_scorer
from ctxpress.models.bundle import read_manifest
from ctxpress.models.checkpoint import Checkpoint
from ctxpress.relevance.bm25 import BM25Scorer
from ctxpress.relevance.cascade import CascadeScorer, RelevanceMix
from ctxpress.relevance.joint import JointEvidence
from ctxpress.relevance.scorer import RelevanceScorer
from ctxpress.relevance.vectors import VectorScorer
from ctxpress.resources import Resources

__all__ = [
    "BM25Config",
    "BundledConfig",
    "CrossEncoderConfig",
    "EmbeddingConfig",
    "VectorsConfig",
    "register_scorers",
]

Text = Annotated[str, Field(min_length=1)]
Language = Annotated[str, Field(pattern=r"^[a-z]{2}$")]


class BM25Config(BaseModel):
    """Options of the scorer `bm25`, see `BM25Scorer`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k1: Annotated[float, Field(ge=0, le=10)] = 1.2
    b: Annotated[float, Field(ge=0, le=1)] = 0.75
    passage_share: Annotated[float, Field(ge=0, le=10)] = 0.3


class BundledConfig(BaseModel):
    """Options of the scorer `bundled`, see `CascadeScorer`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    read_at_least: Annotated[int, Field(ge=1, le=10_000)] = 8
    read_share: Annotated[float, Field(gt=0, le=1)] = 0.75
    read_at_most: Annotated[int, Field(ge=1, le=10_000)] = 64
    sure: Annotated[float, Field(gt=0, lt=1)] = 0.8


class VectorsConfig(BaseModel):
    """The scorer `vectors` has no options."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CheckpointOptions(BaseModel):
    """Which Hugging Face checkpoint, and how it reads.

    `model`: a name on the hub, or a folder. `revision`: its branch, tag or commit. `device`:
    `auto` is a CUDA GPU where there is one. `max_tokens`: the longest window, if the model takes
    so many. `batch_size`: windows of that length at a time; none: 2 on a CPU, 32 on a GPU.
    `languages`: ISO 639-1 codes of what the model is fit for; none means any. `sentences`: whether
    sentences are scored too, beside whole texts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Text
    revision: Text | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    max_tokens: Annotated[int, Field(ge=32, le=32_768)] = 512
    batch_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    languages: Annotated[tuple[Language, ...], Field(min_length=1)] | None = None
    sentences: bool = True

    def language_set(self) -> frozenset[str] | None:
        """`languages` as a scorer takes them."""
        return None if self.languages is None else frozenset(self.languages)

    def load(self, resources: Resources, loader: Callable[..., Checkpoint]) -> Checkpoint:
        """The checkpoint, loaded once, however many scorers read it differently."""
        return resources.get(
            ("relevance/checkpoint", loader.__name__, self.model, self.revision, self.device),
            lambda: loader(self.model, revision=self.revision, device=self.device),
        )


class CrossEncoderConfig(CheckpointOptions):
    """Options of the scorer `cross_encoder`, see `CrossEncoderScorer`."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EmbeddingConfig(CheckpointOptions):
    """Options of the scorer `embedding`, see `EmbeddingScorer`.

    `pooling`: `auto` is what the checkpoint says, mean where it says nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pooling: Literal["auto", "mean", "cls"] = "auto"
    query_prefix: str = ""
    text_prefix: str = ""


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
        read_share=config.read_share,
        read_at_most=config.read_at_most,
        sure=config.sure,
    )


def _create_vectors(config: VectorsConfig, resources: Resources) -> RelevanceScorer:
    return VectorScorer(resources.get("models/bundled", load_bundled_scorer))


def _create_cross_encoder(config: CrossEncoderConfig, resources: Resources) -> RelevanceScorer:
    from ctxpress.relevance.huggingface.cross_encoder import CrossEncoderScorer
    from ctxpress.relevance.huggingface.kinds import load_cross_encoder

    return CrossEncoderScorer(
        config.load(resources, load_cross_encoder),
        max_tokens=config.max_tokens,
        batch_size=config.batch_size,
        sentences=config.sentences,
        languages=config.language_set(),
    )


def _create_embedding(config: EmbeddingConfig, resources: Resources) -> RelevanceScorer:
    from ctxpress.relevance.huggingface.embedding import EmbeddingScorer
    from ctxpress.relevance.huggingface.kinds import load_encoder, pooling_of

    checkpoint = config.load(resources, load_encoder)
    return EmbeddingScorer(
        checkpoint,
        pooling=pooling_of(checkpoint) if config.pooling == "auto" else config.pooling,
        query_prefix=config.query_prefix,
        text_prefix=config.text_prefix,
        max_tokens=config.max_tokens,
        batch_size=config.batch_size,
        sentences=config.sentences,
        languages=config.language_set(),
    )


@hookimpl
def register_scorers(register: RegisterScorer) -> None:
    """Register `bundled`, `bm25`, `cross_encoder`, `embedding` and `vectors`."""
    register("bundled", _create_bundled, BundledConfig)
    register("bm25", _create_bm25, BM25Config)
    register("cross_encoder", _create_cross_encoder, CrossEncoderConfig)
    register("embedding", _create_embedding, EmbeddingConfig)
    register("vectors", _create_vectors, VectorsConfig)
