from __future__ import annotations

import builtins
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ctxpress.errors import MissingDependencyError, ModelError
from ctxpress.plugins.token_classification.checkpoint import load_checkpoint


@pytest.fixture
def copy(bert_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bert_folder, tmp_path / "copy")


def test_a_folder_loads(folder: Path) -> None:
    checkpoint = load_checkpoint(str(folder), device="cpu", exact=True)
    assert checkpoint.device == "cpu"
    assert checkpoint.dtype == "float32"
    assert not checkpoint.model.training
    assert checkpoint.tokenizer.is_fast


def test_the_identity_follows_the_files_and_not_the_folder(bert_folder: Path, copy: Path) -> None:
    first = load_checkpoint(str(bert_folder), device="cpu", exact=True).identity
    assert load_checkpoint(str(copy), device="cpu", exact=True).identity == first
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-6}))
    assert load_checkpoint(str(copy), device="cpu", exact=True).identity != first


def test_weights_are_wide_where_narrow_ones_are_slow(
    bert_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def width(features: dict[str, Any], **options: Any) -> str:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features, raising=False)
        return load_checkpoint(str(bert_folder), device="cpu", **options).dtype

    assert width({"avx2": True, "avx512_bf16": False, "amx_bf16": False}) == "float32"
    assert width({"avx512_bf16": True}) == "bfloat16"
    assert width({"amx_bf16": True}) == "bfloat16"
    assert width({"amx_bf16": True}, exact=True) == "float32"


def test_pickled_weights_are_refused(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin only, a pickle"):
        load_checkpoint(str(copy), device="cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", r"no \*.safetensors"),
        ("tokenizer.json", "no tokenizer"),
    ],
)
def test_a_missing_file_is_named(copy: Path, name: str, message: str) -> None:
    (copy / name).unlink()
    (copy / "vocab.txt").unlink()
    with pytest.raises(ModelError, match=message):
        load_checkpoint(str(copy), device="cpu")


def test_a_tokenizer_of_another_model_is_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    weights["bert.embeddings.word_embeddings.weight"] = weights[
        "bert.embeddings.word_embeddings.weight"
    ][:100].clone()
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    (copy / "config.json").write_text(json.dumps(config | {"vocab_size": 100}))
    with pytest.raises(ModelError, match="tokenizer has .* tokens, its model 100"):
        load_checkpoint(str(copy), device="cpu")


def test_damaged_weights_are_a_model_error(copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_checkpoint(str(copy), device="cpu")


def test_a_model_without_a_classifier_is_refused(copy: Path) -> None:
    from transformers import BertConfig, BertModel

    BertModel(BertConfig.from_pretrained(str(copy))).save_pretrained(str(copy))
    with pytest.raises(ModelError, match="no token classifier"):
        load_checkpoint(str(copy), device="cpu")


def test_code_of_a_repository_is_never_run(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["auto_map"] = {"AutoModelForTokenClassification": "evil.Model", "AutoConfig": "evil.C"}
    config["model_type"] = "evil"
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "evil.py").write_text("raise SystemExit('code ran')")
    with pytest.raises(ModelError):
        load_checkpoint(str(copy), device="cpu")


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        load_checkpoint(str(tmp_path / "nowhere"), device="cpu")


def test_a_folder_has_no_revisions(bert_folder: Path) -> None:
    with pytest.raises(ModelError, match="revision is for names"):
        load_checkpoint(str(bert_folder), revision="main", device="cpu")


def test_a_cached_name_loads_without_a_network(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: list[bool] = []

    def download(name: str, *, local_files_only: bool, **_: Any) -> str:
        asked.append(local_files_only)
        return str(bert_folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    checkpoint = load_checkpoint("microsoft/llmlingua-2", revision="abc", device="cpu")
    assert asked == [True]
    assert checkpoint.identity.startswith("microsoft/llmlingua-2@")


def test_a_download_that_fails_is_one_line_that_says_what_works_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def download(name: str, *, local_files_only: bool, **_: Any) -> str:
        raise OSError("no route to host\nwith a long tail")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ModelError) as caught:
        load_checkpoint("microsoft/llmlingua-2", device="cpu")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("OSError: no route to host", "model: to a folder", "hf download microsoft"):
        assert part in message


def test_a_gpu_that_is_not_there_is_an_error(
    bert_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="no CUDA GPU"):
        load_checkpoint(str(bert_folder), device="cuda")


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_what_is_not_installed_is_named_with_the_command(
    bert_folder: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r"pip install 'ctxpress\[torch\]'") as caught:
        load_checkpoint(str(bert_folder))
    assert missing in str(caught.value)
