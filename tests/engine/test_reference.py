"""The model that ships: what its folder promises, and that it can do what figures rest on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ctxpress.engine import RotaryModel, load_model, prefill_rows, reference, score_tokens
from ctxpress.engine.reference import reference_model_dir
from ctxpress.errors import ModelError
from ctxpress.evaluation.kv_tasks import KINDS, TaskKind, generate_tasks
from ctxpress.evaluation.kv_words import LABELS, NAMES, VALUES

# Torch trains and answers here, on machines that may be busy.
pytestmark = pytest.mark.timeout(300)

LIMIT_BYTES = 25_000_000


@pytest.fixture(scope="module")
def model() -> RotaryModel:
    return load_model(str(reference_model_dir()), device="cpu", dtype="float32")


def test_the_folder_is_small_and_complete() -> None:
    folder = reference_model_dir()
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert sum(files.values()) <= LIMIT_BYTES
    assert {"config.json", "generation_config.json", "model.safetensors", "CARD.md"} <= set(files)
    assert {"tokenizer.json", "tokenizer_config.json"} <= set(files)
    assert all(path.suffix in {".json", ".safetensors", ".md"} for path in folder.iterdir())


def test_a_missing_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(reference, "_FOLDER", tmp_path)
    with pytest.raises(ModelError, match="model.safetensors, tokenizer.json"):
        reference_model_dir()


def test_it_is_a_llama_with_grouped_heads(model: RotaryModel) -> None:
    config = model.model.config
    assert config.architectures == ["LlamaForCausalLM"]
    assert config.num_attention_heads >= 2 * config.num_key_value_heads
    assert config.tie_word_embeddings
    assert model.max_tokens == 2048
    assert 2_000_000 <= sum(p.numel() for p in model.model.parameters()) <= 10_000_000
    assert all(bool(p.isfinite().all()) for p in model.model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_tokenised_alone_give_the_tokens_of_the_whole(
    model: RotaryModel, kind: TaskKind
) -> None:
    for task in generate_tasks(kind, n_documents=8, n_tasks=10, seed=4):
        for question, answer in zip(task.questions, task.answers, strict=True):
            pieces = [task.prefix, *task.documents, question, f" {answer}\n"]
            alone = [token for piece in pieces for token in model.token_ids(piece)]
            assert model.tokenizer("".join(pieces))["input_ids"] == [*model.start_ids, *alone]


def test_words_of_the_tasks_and_digits_are_one_token_each(model: RotaryModel) -> None:
    words = [*NAMES, *LABELS, *(word for values in VALUES.values() for word in values)]
    assert all(len(model.token_ids(f" {word}")) == 1 for word in words)
    assert len(model.token_ids(" 4711")) == 4


def test_it_finds_one_fact_among_sixteen_documents(model: RotaryModel) -> None:
    right = []
    for task in generate_tasks("retrieval", n_documents=16, n_tasks=12, seed=5):
        context = [*model.start_ids, *model.token_ids(task.prefix + "".join(task.documents))]
        block = prefill_rows(model, [context]).block()
        rows = [
            (model.token_ids(question), model.token_ids(f" {answer}\n"))
            for question, answer in zip(task.questions, task.answers, strict=True)
        ]
        scores = score_tokens(model, [[*q, *a] for q, a in rows], behind=[[block]] * len(rows))
        for row, (question, answer) in enumerate(rows):
            begin = len(question) - 1
            right.append(bool(scores.greedy[row, begin : begin + len(answer)].all()))
    assert sum(right) / len(right) > 0.85


def test_transformers_generates_an_answer_and_stops_at_the_end_of_the_line() -> None:
    folder = reference_model_dir()
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    right = 0
    tasks = generate_tasks("retrieval", n_documents=4, n_tasks=8, seed=6, n_questions=1)
    for task in tasks:
        prompt = task.prefix + "".join(task.documents) + task.questions[0]
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        written = model.generate(ids, max_new_tokens=16)[0, ids.shape[1] :]
        assert len(written) < 16
        right += tokenizer.decode(written) == f" {task.answers[0]}\n"
    assert right >= 6
