from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from ctxpress.engine import load_model, wrap_model
from ctxpress.evaluation.kv_tasks import KINDS, PREFIX, generate_tasks
from ctxpress.evaluation.kv_words import LABELS, NAMES, VALUES
from training.reference_model import __main__ as command
from training.reference_model.curriculum import CURRICULUM
from training.reference_model.evaluate import (
    AccuracyRow,
    accuracies,
    accuracy_table,
    largest_count,
    perplexity,
    task_hits,
)
from training.reference_model.export import export_model
from training.reference_model.fit import Recipe, Trainer
from training.reference_model.model import Shape, causal_attention, create_model
from training.reference_model.muon import orthogonalised
from training.reference_model.rows import ANSWER_WEIGHT, Phase, RowMaker
from training.reference_model.texts import load_texts
from training.reference_model.tokenizer import train_tokenizer

# Torch trains and answers here, on machines that may be busy.
pytestmark = pytest.mark.timeout(300)

SHAPE = Shape(hidden=32, layers=2, heads=4, kv_heads=2, head_dim=8, intermediate=48)
PHASES = (Phase(1.0, ((96, 1.0),), (2, 3), (("retrieval", 0.5), ("text", 0.2), ("repeat", 0.3))),)
SENTENCES = [
    f"The meeting of {name} began at {hour} and the report on the {fruit} was read by all."
    for hour, (name, fruit) in enumerate(
        zip(NAMES[:120], VALUES["fruit"] * 6, strict=True), start=100
    )
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(SENTENCES, 1300)


def trainer(tokenizer: Tokenizer, n_steps: int = 6) -> Trainer:
    rows = RowMaker(tokenizer, SENTENCES, PHASES, seed=1)
    model = create_model(SHAPE, tokenizer.get_vocab_size(), seed=1)
    recipe = Recipe(n_steps, batch_tokens=768, warmup_steps=2, threads=1, compiled=False)
    return Trainer(model, rows, recipe)


def run(trainer: Trainer, until: int) -> list[float]:
    losses: list[float] = []
    trainer.run(until, lambda step, mean, rate: losses.append(mean.loss), lambda: None, 1e9)
    return losses


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


# --- tokenizer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_tokenised_alone_give_the_tokens_of_the_whole(
    tokenizer: Tokenizer, kind: str
) -> None:
    for task in generate_tasks(kind, n_documents=6, n_tasks=20, seed=1):  # type: ignore[arg-type]
        for question, answer in zip(task.questions, task.answers, strict=True):
            pieces = [task.prefix, *task.documents, question, f" {answer}\n"]
            alone = [i for p in pieces for i in tokenizer.encode(p, add_special_tokens=False).ids]
            whole = tokenizer.encode("".join(pieces)).ids
            assert whole == [tokenizer.token_to_id("<s>"), *alone]


def test_names_values_labels_and_digits_are_one_token_each(tokenizer: Tokenizer) -> None:
    for word in [*NAMES, *LABELS, *(w for words in VALUES.values() for w in words)]:
        assert len(tokenizer.encode(f" {word}", add_special_tokens=False).ids) == 1
    assert len(tokenizer.encode(" 4711", add_special_tokens=False).ids) == 4


@pytest.mark.parametrize(
    "text", ["", " ", "a\n\n b\t c  d", "naïve café 日本 🙂", "x" * 500, "\r\n"]
)
def test_any_text_comes_back_from_its_tokens(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text


def test_a_vocabulary_too_small_for_the_words_is_refused() -> None:
    with pytest.raises(ValueError, match="700"):
        train_tokenizer(SENTENCES, 700)


# --- rows ---------------------------------------------------------------------------------------


def test_rows_are_full_and_answers_weigh_most(tokenizer: Tokenizer) -> None:
    maker = RowMaker(tokenizer, SENTENCES, CURRICULUM, seed=1)
    for step in (0, 30, 60, 99):
        batch = maker.batch(step, 100, 2048)
        assert batch.ids.shape == batch.weights.shape
        assert batch.ids.size == 2048
        for ids, row_weights in zip(batch.ids, batch.weights, strict=True):
            if tokenizer.decode(ids.tolist()).startswith(PREFIX):
                text = tokenizer.decode(ids[row_weights == ANSWER_WEIGHT].tolist())
                assert "Question" not in text
                assert "Document" not in text


def test_a_row_depends_on_seed_and_step_alone(tokenizer: Tokenizer) -> None:
    first = RowMaker(tokenizer, SENTENCES, CURRICULUM, seed=1)
    again = RowMaker(tokenizer, SENTENCES, CURRICULUM, seed=1)
    first.batch(3, 100, 1024)
    assert np.array_equal(first.batch(7, 100, 1024).ids, again.batch(7, 100, 1024).ids)
    assert not np.array_equal(first.batch(7, 100, 1024).ids, first.batch(8, 100, 1024).ids)


def test_training_text_shares_no_eight_words_with_what_is_held_out(tmp_path: Path) -> None:
    write_data(tmp_path)
    texts = load_texts(tmp_path)
    assert texts.train
    assert texts.held_out
    for held in texts.held_out:
        assert not any(held[10:60] in text for text in texts.train)
    joined = "\n".join(texts.train)
    assert "Only a question shows this" in joined


# --- model and optimizer --------------------------------------------------------------------------


def test_the_attention_is_that_of_torch() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 6, 9, 8), torch.randn(2, 2, 9, 8), torch.randn(2, 2, 9, 8)
    ours, _ = causal_attention(torch.nn.Identity(), query, key, value, None)
    theirs = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, enable_gqa=True
    )
    torch.testing.assert_close(ours.transpose(1, 2), theirs)


def test_muon_makes_updates_near_orthogonal() -> None:
    torch.manual_seed(0)
    for shape in ((3, 16, 48), (2, 48, 16), (1, 24, 24)):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)))
        assert float(values.max()) < 1.3
        assert float(values.median()) > 0.6


def test_the_loss_falls(tokenizer: Tokenizer) -> None:
    losses = run(trainer(tokenizer, n_steps=40), 40)
    assert losses[-1] < losses[0] - 0.2


def test_a_resumed_training_comes_to_the_same_weights(tokenizer: Tokenizer, tmp_path: Path) -> None:
    whole = trainer(tokenizer)
    run(whole, 6)
    first = trainer(tokenizer)
    run(first, 3)
    first.save(tmp_path / "checkpoint.safetensors")
    second = trainer(tokenizer)
    second.load(tmp_path / "checkpoint.safetensors")
    assert second.step == 3
    run(second, 6)
    expected, found = weights(whole), weights(second)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_checkpoint_of_another_shape_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    toy = trainer(tokenizer)
    run(toy, 1)
    toy.save(tmp_path / "checkpoint.safetensors")
    model = create_model(replace(SHAPE, hidden=48), tokenizer.get_vocab_size(), seed=1)
    rows = RowMaker(tokenizer, SENTENCES, PHASES, seed=1)
    other = Trainer(model, rows, Recipe(1, batch_tokens=768, compiled=False))
    with pytest.raises(ValueError, match="does not fit"):
        other.load(tmp_path / "checkpoint.safetensors")


# --- export and evaluation ------------------------------------------------------------------------


def test_an_export_is_an_ordinary_transformers_folder(tokenizer: Tokenizer, tmp_path: Path) -> None:
    toy = trainer(tokenizer)
    run(toy, 3)
    n_bytes = export_model(toy.model, tokenizer, tmp_path)
    assert n_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert "causal_bmm" not in (tmp_path / "config.json").read_text()
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "Document: Marlow\nThe code of Marlow is 472.\n"
    ids = loaded(text)["input_ids"]
    assert ids == tokenizer.encode(text).ids
    assert loaded.decode(ids, skip_special_tokens=True) == text
    with torch.inference_mode():
        theirs = model(torch.tensor([ids])).logits
        ours = toy.model(torch.tensor([ids])).logits
    torch.testing.assert_close(theirs, ours, atol=0.05, rtol=0.05)
    generated = model.generate(torch.tensor([ids]), max_new_tokens=3)
    assert generated.shape[1] <= len(ids) + 3


def test_a_hit_is_what_greedy_decoding_would_write(tokenizer: Tokenizer, tmp_path: Path) -> None:
    # A toy that has seen one context so often that it knows one answer, and not all.
    toy = trainer(tokenizer)
    export_model(toy.model, tokenizer, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    (task,) = generate_tasks("retrieval", n_documents=3, n_tasks=1, seed=2, document_tokens=1)
    context = task.prefix + "".join(task.documents)
    known = f"{task.questions[0]} {task.answers[0]}\n"
    row = loaded(context + known, return_tensors="pt").input_ids
    labels = row.clone()
    labels[:, : -len(loaded(known, add_special_tokens=False).input_ids)] = -100
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(30):
        model(row, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    hits, n_tokens = task_hits(wrap_model(model, loaded), task)
    assert n_tokens == len(loaded(context)["input_ids"])
    written = []
    for question, answer in zip(task.questions, task.answers, strict=True):
        ids = loaded(context + question, return_tensors="pt").input_ids
        out = model.generate(ids, max_new_tokens=12)[0, ids.shape[1] :]
        written.append(loaded.decode(out) == f" {answer}\n")
    assert hits == written
    assert hits[0]
    assert not all(hits)


def test_accuracy_and_perplexity_of_an_untrained_model_are_those_of_chance(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    export_model(trainer(tokenizer).model, tokenizer, tmp_path)
    model = load_model(str(tmp_path), device="cpu", dtype="float32")
    rows = accuracies(model, counts=(1, 2), n_questions=16)
    assert {(row.kind, row.n_documents) for row in rows} == {
        (kind, count) for kind in KINDS for count in (1, 2) if (kind, count) != ("two_hop", 1)
    }
    assert all(row.correct < 0.2 for row in rows)
    assert largest_count(rows) == 0
    measured = perplexity(model, SENTENCES[:4])
    assert 0.5 * 1300 < measured.per_token < 2 * 1300
    assert measured.bits_per_byte > 2


def test_the_largest_count_is_the_last_before_the_first_that_falls_short() -> None:
    rows = [
        AccuracyRow("retrieval", count, 10, 80, correct, None, correct, 100)
        for count, correct in ((1, 1.0), (2, 0.96), (4, 0.94), (8, 0.99))
    ]
    assert largest_count(rows) == 2
    assert "| retrieval | 1.000 | 0.960 | 0.940 | 0.990 |" in accuracy_table(rows)


def test_the_command_trains_resumes_exports_measures_and_writes_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_data(tmp_path / "data")
    monkeypatch.setattr(command, "Shape", lambda: SHAPE)
    monkeypatch.setattr(command, "CURRICULUM", PHASES)
    monkeypatch.setattr(command, "DOCUMENT_COUNTS", (1, 2))
    options = ["--data", str(tmp_path / "data"), "--work", str(tmp_path / "work"), "--eager"]
    options += ["--out", str(tmp_path / "out"), "--steps", "4", "--batch-tokens", "384"]
    options += ["--vocabulary", "1300", "--questions", "4", "--threads", "1"]
    command.main([*options, "--until", "2"])
    assert not (tmp_path / "out" / "CARD.md").exists()
    command.main([*options, "--resume"])
    card = (tmp_path / "out" / "CARD.md").read_text()
    assert "| retrieval |" in card
    assert "$" not in card
    assert load_model(str(tmp_path / "out"), device="cpu").n_layers == SHAPE.layers


def write_data(folder: Path) -> None:
    (folder / "distill").mkdir(parents=True)
    (folder / "refine").mkdir()
    passages = []
    for number in range(60):
        text = f"Passage {number} {' '.join(SENTENCES[number].split() * 2)}"
        mask = "0" * len(text.split())
        passages.append(
            {"id": f"{number:05}", "domain": "docs", "source": f"file{number}", "text": text}
            | {"half": mask, "core": mask}
        )
    lines = "".join(json.dumps(passage) + "\n" for passage in passages)
    (folder / "distill" / "passages.jsonl").write_text(lines)
    shown = [{"title": "Shown", "text": "Only a question shows this."}]
    shown += [{"title": "Copy", "text": passage["text"]} for passage in passages]
    (folder / "refine" / "items.jsonl").write_text(json.dumps({"passages": shown}) + "\n")
