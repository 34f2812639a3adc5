"""A random reranker and a random encoder of each family, in float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ctxpress.models.checkpoint import Checkpoint
from ctxpress.relevance.huggingface.kinds import load_cross_encoder, load_encoder
from tests.plugins.token_classification.tiny_checkpoints import make_bert, make_xlm_roberta

MAKERS: dict[str, Callable[..., Path]] = {"bert": make_bert, "xlm-roberta": make_xlm_roberta}


@pytest.fixture(scope="session", params=[("bert", 1), ("xlm-roberta", 1), ("bert", 2)], ids=str)
def reranker_folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """BERT and XLM-RoBERTa with one logit, and BERT with two."""
    family, num_labels = request.param
    folder = tmp_path_factory.mktemp("rerankers") / family
    return MAKERS[family](folder, head="ForSequenceClassification", num_labels=num_labels)


@pytest.fixture(scope="session")
def reranker(reranker_folder: Path) -> Checkpoint:
    return load_cross_encoder(str(reranker_folder), device="cpu", exact=True)


@pytest.fixture(scope="session")
def bert_reranker_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rerankers") / "one"
    return make_bert(folder, head="ForSequenceClassification", num_labels=1)


@pytest.fixture(scope="session", params=["bert", "xlm-roberta"])
def encoder_folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return MAKERS[request.param](tmp_path_factory.mktemp("encoders") / request.param, head="Model")


@pytest.fixture(scope="session")
def encoder(encoder_folder: Path) -> Checkpoint:
    return load_encoder(str(encoder_folder), device="cpu", exact=True)
