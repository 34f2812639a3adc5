from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from ctxpress.models import load_bundled_tokenizer
from training.batches import Batch, example_batches, stream_batches
from training.data import Passage
from training.fit import FitOptions, fit, loss_of, probabilities
from training.model import (
    ANSWER,
    N_OUTPUTS,
    QUOTE,
    EncoderShape,
    TokenClassifier,
    scores,
    thinned,
)
from training.questions import Example, Item

SHAPE = EncoderShape(n_layers=2, n_heads=2, hidden_dim=16, inner_dim=32)
TEXT = "The mill was built in 1871. It burned down in 1902, and Ada Lind rebuilt it."
ITEM = Item(
    "R1", "who rebuilt the mill", ("Ada Lind",), ("Mill",), (TEXT,), (((28, len(TEXT)),),), 0
)
PASSAGES = [
    Passage(str(i), "docs", f"file{i}", tuple(TEXT.split()), (0, 2, 0, 1, 0, 2) + (1,) * 10)
    for i in range(12)
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_bundled_tokenizer()


def small_model() -> TokenClassifier:
    torch.manual_seed(1)
    return TokenClassifier(SHAPE).eval()


def levels(text: str) -> np.ndarray:
    tokens = load_bundled_tokenizer().encode(text, add_special_tokens=False).ids
    return np.full((len(tokens), 2), 0.5, np.float32)


def test_windows_of_passages_say_nothing_about_questions(tokenizer: Tokenizer) -> None:
    planned = list(stream_batches(tokenizer, PASSAGES, 512, random.Random(0)))
    assert planned
    for batch in planned:
        assert batch.real is None
        assert batch.weights[..., QUOTE:].sum() == 0
        assert batch.weights[:, [0, -1]].sum() == 0  # the frame
        assert (batch.targets[..., 1] <= batch.targets[..., 0]).all()


def test_rows_of_questions_are_padded_and_the_question_is_not_learned(
    tokenizer: Tokenizer,
) -> None:
    start = TEXT.index("Ada Lind")
    examples = [
        Example(TEXT, "who rebuilt the mill", ((28, 75),), ((start, start + 8),)),
        Example(TEXT[:27], None, has_quotes=False, has_answers=False),
    ]
    (batch,) = example_batches(tokenizer, examples, levels, 4096, random.Random(0))
    assert batch.real is not None
    short, long = sorted(range(2), key=lambda row: int(batch.real[row].sum()))
    assert batch.weights[~batch.real].sum() == 0
    head = batch.token_ids[long].tolist().index(102) + 1  # [CLS] question [SEP]
    assert batch.weights[long, :head].sum() == 0
    answer = batch.targets[long, :, ANSWER] > 0
    assert tokenizer.decode(batch.token_ids[long][answer].tolist()) == "ada lind"
    assert batch.weights[short, :, QUOTE:].sum() == 0


def test_the_answer_that_outranks_its_rivals_costs_least() -> None:
    targets = torch.zeros(1, 6, N_OUTPUTS)
    targets[0, 2, ANSWER] = 1
    ids = torch.zeros(1, 6, dtype=torch.long)
    batch = Batch(ids, ids, None, targets, torch.ones_like(targets), soften=False)
    options = FitOptions(ranking_weight=1.0)
    plain = FitOptions()

    def ranking(best: int) -> float:
        logits = torch.zeros(1, 6, N_OUTPUTS)
        logits[0, best, ANSWER] = 4
        return float(loss_of(logits, batch, None, options) - loss_of(logits, batch, None, plain))

    assert ranking(2) < 0.2 < 3 < ranking(3)


def test_rows_without_an_answer_have_no_ranking_loss() -> None:
    ids = torch.zeros(1, 6, dtype=torch.long)
    zeros = torch.zeros(1, 6, N_OUTPUTS)
    batch = Batch(ids, ids, None, zeros, torch.ones_like(zeros), soften=False)
    logits = torch.randn(1, 6, N_OUTPUTS)
    both = [loss_of(logits, batch, None, FitOptions(ranking_weight=w)) for w in (0.0, 1.0)]
    assert both[0] == both[1]


def test_fitting_lowers_the_loss_and_repeats_with_its_seed(tokenizer: Tokenizer) -> None:
    def run() -> tuple[list[float], TokenClassifier]:
        losses: list[float] = []

        def report(line: str) -> None:
            losses.append(float(line.split("loss ")[1].split()[0]))

        model, teacher = small_model(), small_model()
        options = FitOptions(epochs=6, batch_tokens=512, ranking_weight=0.1, learning_rate=5e-3)
        fit(model, tokenizer, PASSAGES, [ITEM] * 4, [], options, report, teacher)
        return losses, model

    losses, model = run()
    assert losses[-1] < 0.8 * losses[0]
    again = run()[1].state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())


def test_questions_without_a_teacher_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="questions need a teacher"):
        fit(small_model(), tokenizer, PASSAGES, [ITEM], [], FitOptions(epochs=1), print)


def test_a_student_begins_with_layers_of_its_teacher(tokenizer: Tokenizer) -> None:
    teacher = small_model()
    student = thinned(teacher, 1).eval()
    assert torch.equal(student.layers[0].qkv.weight, teacher.layers[0].qkv.weight)
    fit(student, tokenizer, PASSAGES, [], [], FitOptions(epochs=1, student=True), print, teacher)
    static = thinned(teacher, 0).eval()
    one = probabilities(static, tokenizer, TEXT)
    assert one.shape == probabilities(teacher, tokenizer, TEXT, "who?").shape


def test_scores_are_shares_of_probabilities() -> None:
    logits = torch.full((1, 3, N_OUTPUTS), 300.0)
    assert torch.allclose(scores(logits), torch.ones(1, 3, 2))
    assert torch.allclose(scores(-logits), torch.zeros(1, 3, 2), atol=1e-6)
