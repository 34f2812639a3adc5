"""Tiny checkpoints, made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctxpress.plugins.token_classification.checkpoint import Checkpoint, load_checkpoint
from ctxpress.plugins.token_classification.llmlingua2 import ChunkEncoder, LLMLingua2Compressor
from tests.plugins.token_classification.tiny_checkpoints import make_bert, make_xlm_roberta


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Models this small lose time by more threads, above all where cores are shared."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bert(tmp_path_factory.mktemp("checkpoints") / "bert")


@pytest.fixture(scope="session")
def xlm_roberta_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_xlm_roberta(tmp_path_factory.mktemp("checkpoints") / "xlm-roberta")


@pytest.fixture(scope="session", params=["bert", "xlm-roberta"])
def folder(request: pytest.FixtureRequest, bert_folder: Path, xlm_roberta_folder: Path) -> Path:
    """A checkpoint of each family in turn."""
    return bert_folder if request.param == "bert" else xlm_roberta_folder


@pytest.fixture(scope="session")
def checkpoint(folder: Path) -> Checkpoint:
    return load_checkpoint(str(folder), device="cpu", exact=True)


@pytest.fixture(scope="session")
def compressor(folder: Path) -> LLMLingua2Compressor:
    """Mode llmlingua2 over a checkpoint of its own, tokens counted as bytes."""
    encoder = ChunkEncoder(load_checkpoint(str(folder), device="cpu", exact=True))
    return LLMLingua2Compressor(encoder, lambda text: len(text.encode("utf-8", "surrogatepass")))
