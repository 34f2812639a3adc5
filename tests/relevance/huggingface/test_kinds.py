"""Which checkpoints are taken, and what is said of those that are not."""

from __future__ import annotations

import builtins
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ctxpress.errors import MissingDependencyError, ModelError
from ctxpress.relevance.huggingface.kinds import load_cross_encoder, load_encoder, pooling_of
from tests.plugins.token_classification.tiny_checkpoints import make_bert

LOADERS = pytest.mark.parametrize("load", [load_cross_encoder, load_encoder])


@pytest.mark.parametrize("num_labels", [3, 7])
def test_a_classifier_of_many_labels_is_no_reranker(tmp_path: Path, num_labels: int) -> None:
    make_bert(tmp_path, head="ForSequenceClassification", num_labels=num_labels)
    with pytest.raises(ModelError, match=f"has {num_labels} labels; a reranker has one, or two"):
        load_cross_encoder(str(tmp_path), device="cpu")


def test_an_encoder_is_no_reranker(tmp_path: Path) -> None:
    make_bert(tmp_path, head="Model")
    with pytest.raises(ModelError, match="no sequence classifier, its weights lack classifier"):
        load_cross_encoder(str(tmp_path), device="cpu")


def test_an_encoder_may_come_without_a_pooler_and_with_a_head(tmp_path: Path) -> None:
    make_bert(tmp_path, head="ForTokenClassification")  # of the real classes, one without a pooler
    checkpoint = load_encoder(str(tmp_path), device="cpu")
    assert pooling_of(checkpoint) == "mean"


@LOADERS
def test_pickled_weights_are_refused(bert_reranker_folder: Path, tmp_path: Path, load: Any) -> None:
    copy = shutil.copytree(bert_reranker_folder, tmp_path / "copy")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin only, a pickle"):
        load(str(copy), device="cpu")


@LOADERS
def test_a_download_that_fails_is_one_line_that_says_what_works_offline(
    monkeypatch: pytest.MonkeyPatch, load: Any
) -> None:
    import huggingface_hub

    def download(name: str, *, local_files_only: bool, **_: Any) -> str:
        raise OSError("no route to host\nwith a long tail")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ModelError) as caught:
        load("somebody/reranker", device="cpu")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("OSError: no route to host", "model: to a folder", "hf download somebody/"):
        assert part in message


@pytest.mark.parametrize(
    ("load", "name"),
    [(load_cross_encoder, "scorer cross_encoder"), (load_encoder, "scorer embedding")],
)
def test_what_is_not_installed_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, load: Any, name: str
) -> None:
    real = builtins.__import__

    def without(module: str, *args: Any, **kwargs: Any) -> Any:
        if module == "torch":
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        return real(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    message = rf"{name} needs torch: pip install 'ctxpress\[torch\]'"
    with pytest.raises(MissingDependencyError, match=message):
        load("somebody/reranker")


@pytest.mark.parametrize(
    ("modes", "expected"),
    [
        ({"word_embedding_dimension": 32, "pooling_mode_cls_token": True,
          "pooling_mode_mean_tokens": False, "include_prompt": True}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
    ],
)  # fmt: skip
def test_a_checkpoint_says_how_it_pools(
    tmp_path: Path, modes: dict[str, object], expected: str
) -> None:
    make_bert(tmp_path, head="Model")
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text(json.dumps(modes))
    assert pooling_of(load_encoder(str(tmp_path), device="cpu")) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"pooling_mode_lasttoken": true}', "pools by lasttoken; there are mean and cls"),
        ('{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}', "by cls_token and"),
        ("{}", "pools by nothing"),
        ("[]", "cannot be read"),
        ("{", "cannot be read"),
        (" " * 70_000, "too large"),
    ],
)
def test_pooling_that_is_not_there_is_an_error(tmp_path: Path, content: str, message: str) -> None:
    make_bert(tmp_path, head="Model")
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text(content)
    checkpoint = load_encoder(str(tmp_path), device="cpu")
    with pytest.raises(ModelError, match=message):
        pooling_of(checkpoint)
