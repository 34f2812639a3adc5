from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ctxpress.errors import ModelError
from ctxpress.models import load_bundled_scorer, load_bundled_tokenizer
from ctxpress.models.bundle import BUNDLE_FOLDER, read_manifest


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUNDLE_FOLDER, tmp_path / "bundle"))


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_changed_byte_is_an_error(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(ModelError, match=name):
        load_bundled_scorer(folder=bundle)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "manifest.json"])
def test_a_missing_file_is_an_error(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(ModelError, match=name):
        load_bundled_scorer(folder=bundle)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"name": 1}', '{"sha256": []}'])
def test_a_damaged_manifest_is_an_error(bundle: Path, content: str) -> None:
    (bundle / "manifest.json").write_text(content)
    with pytest.raises(ModelError, match=r"manifest\.json"):
        read_manifest(bundle)


@pytest.mark.parametrize(
    "relevance", [None, [], {"quote": "much"}, {"quote": None}, {"quote": float("nan")}, 3]
)
def test_weights_of_relevance_that_are_no_numbers_are_an_error(
    bundle: Path, relevance: object
) -> None:
    fields = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**fields, "relevance": relevance}))
    with pytest.raises(ModelError, match=r"manifest\.json: missing or damaged"):
        read_manifest(bundle)
    del fields["relevance"]
    (bundle / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(ModelError, match="relevance"):
        read_manifest(bundle)


def test_weights_of_relevance_are_numbers_by_name(bundle: Path) -> None:
    fields = json.loads((bundle / "manifest.json").read_text())
    fields["relevance"] = {"quote": 1, "bias": -0.5}
    (bundle / "manifest.json").write_text(json.dumps(fields))
    assert read_manifest(bundle).relevance == {"quote": 1.0, "bias": -0.5}


def test_a_graph_that_onnx_runtime_refuses_is_an_error(bundle: Path) -> None:
    import hashlib

    (bundle / "model.onnx").write_bytes(b"not a graph")
    fields = json.loads((bundle / "manifest.json").read_text())
    fields["sha256"]["model.onnx"] = hashlib.sha256(b"not a graph").hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(ModelError, match="refuses"):
        load_bundled_scorer(folder=bundle)


@pytest.mark.parametrize("offset", [-1, 20_000_000])
def test_a_word_embedding_that_is_not_in_the_file_is_an_error(bundle: Path, offset: int) -> None:
    fields = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**fields, "words_offset": offset}))
    with pytest.raises(ModelError, match="no word embedding at byte"):
        load_bundled_scorer(folder=bundle)


def test_words_that_mean_nearly_the_same_have_vectors_that_are_alike() -> None:
    scorer = load_bundled_scorer(threads=1)
    pieces = scorer.word_pieces(["doctor", "physician", "river", "\u2603\u2603"])
    assert [len(ids) for ids in pieces] == [1, 1, 1, 0]
    vectors = scorer.word_vectors(np.array([ids[0] for ids in pieces[:3]], np.int32))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert unit[0] @ unit[1] > 0.4 > 0.2 > unit[0] @ unit[2]


def test_negative_threads_are_refused() -> None:
    with pytest.raises(ValueError, match="threads"):
        load_bundled_scorer(threads=-1)


def test_files_are_small_and_card_names_sources() -> None:
    assert all(path.stat().st_size < 25_000_000 for path in BUNDLE_FOLDER.iterdir())
    card = (BUNDLE_FOLDER / "CARD.md").read_text("utf-8")
    assert "{{" not in card
    for source in ("QMSum", "NaturalQuestions", "GSM8K", "MiniLM", "Apache-2.0", "English only"):
        assert source in card


def test_the_tokenizer_reads_any_text_literally() -> None:
    tokenizer = load_bundled_tokenizer()
    assert len(tokenizer.encode("word " * 1000, add_special_tokens=False).ids) == 1000
    assert tokenizer.encode("[SEP]", add_special_tokens=False).tokens == ["[", "sep", "]"]


def test_import_loads_neither_runtime_nor_torch() -> None:
    code = (
        "import sys, ctxpress.models; "
        "sys.exit(bool({'onnxruntime', 'torch', 'tokenizers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
