"""Gradients of sample KV say what errors in it cost."""

from __future__ import annotations

from dataclasses import replace

import torch

from ctxpress.engine import prefill, score_tokens
from ctxpress.engine.kv_sampling import sample_kv
from tests.cache.codecs.cases import same_bits
from tests.engine.models import rotary_model

CONTEXTS = [[5, 9, 11, 3, 40, 17, 8, 22], [7, 8, 30, 31, 2, 9, 50, 60]]
TARGETS = [[12, 13, 60, 70, 71, 90], [3, 4]]


def test_the_kv_is_that_of_a_prefill() -> None:
    model = rotary_model()
    blocks, gradients = sample_kv(model, CONTEXTS, TARGETS)
    for context, block, slopes in zip(CONTEXTS, blocks, gradients, strict=True):
        wanted = prefill(model, context).block()
        assert torch.allclose(block.keys, wanted.keys, atol=1e-5)
        assert torch.allclose(block.values, wanted.values, atol=1e-5)
        assert block.identity == wanted.identity
        assert slopes.keys.shape == block.keys.shape
        assert bool((slopes.keys != 0).any())
        assert bool((slopes.values != 0).any())


def test_what_stands_behind_a_shorter_target_does_not_count() -> None:
    model = rotary_model()
    _, gradients = sample_kv(model, CONTEXTS, [TARGETS[0], []])
    assert bool((gradients[0].values != 0).any())
    assert not bool((gradients[1].values != 0).any())


def test_the_same_seed_draws_the_same() -> None:
    model = rotary_model()
    first, second, other = (sample_kv(model, CONTEXTS, TARGETS, seed=s)[1][0] for s in (1, 1, 2))
    assert same_bits(first, second)
    assert not same_bits(first, other)


def test_the_mean_square_slope_in_a_direction_foretells_the_divergence_of_an_error() -> None:
    model = rotary_model()
    context, target = CONTEXTS[0], TARGETS[0]
    block = prefill(model, context).block(dtype="float32")
    error = torch.randn(block.values.shape, generator=torch.Generator().manual_seed(3)) * 0.01
    draws = [
        slopes.values
        for s in range(4)
        for slopes in sample_kv(model, [context] * 100, [target] * 100, seed=s)[1]
    ]
    foretold = 0.5 * sum(float((slope * error).sum()) ** 2 for slope in draws) / len(draws)
    ahead = [*target, 0]  # what is foretold behind the last token counts too
    reference = score_tokens(model, [ahead], behind=[[block]])
    wrong = replace(block, values=block.values + error)
    found = score_tokens(model, [ahead], behind=[[wrong]], reference=reference)
    assert abs(float(found.kl.sum()) / foretold - 1) < 0.35
