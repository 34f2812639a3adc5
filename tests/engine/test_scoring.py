"""Scores of given tokens are those of the model's own distributions."""

from __future__ import annotations

import numpy as np
import torch

from ctxpress.engine import prefill, score_tokens
from tests.engine.models import rotary_model

ROWS = [[5, 9, 11, 3, 40], [7, 8]]


def test_scores_equal_those_of_a_plain_forward_pass() -> None:
    model = rotary_model()
    scores = score_tokens(model, ROWS)
    for number, row in enumerate(ROWS):
        logits = model.model(torch.tensor([row])).logits[0, :-1].detach()
        logs = torch.log_softmax(logits, -1)
        wanted = logs[range(len(row) - 1), row[1:]].numpy()
        assert np.allclose(scores.log_probs[number, : len(row) - 1], wanted, atol=1e-5)
        greedy = (logs.argmax(-1) == torch.tensor(row[1:])).numpy()
        assert (scores.greedy[number, : len(row) - 1] == greedy).all()


def test_divergence_is_zero_for_the_same_kv_and_grows_with_damage() -> None:
    model = rotary_model()
    block = prefill(model, list(range(10, 30))).block()
    reference = score_tokens(model, [ROWS[0]], behind=[[block]])
    same = score_tokens(model, [ROWS[0]], behind=[[block]], reference=reference)
    assert same.kl.max() < 1e-6
    block.values.mul_(0.5)
    damaged = score_tokens(model, [ROWS[0]], behind=[[block]], reference=reference)
    assert damaged.kl.mean() > 1e-4
