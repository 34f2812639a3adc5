"""Tokens are chosen as OpenAI's API says they are."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from ctxpress.engine.sampling import Sampler, SamplingOptions
from ctxpress.errors import ConfigError

LOGITS = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))


def drawn(n: int = 2000, **options: Any) -> Counter[int]:
    sampler = Sampler(SamplingOptions(seed=7, **options))
    return Counter(sampler.sample(LOGITS).token_id for _ in range(n))


def test_without_temperature_the_most_probable_token_is_taken() -> None:
    assert drawn(20, temperature=0) == {0: 20}


def test_tokens_come_as_often_as_they_are_probable() -> None:
    counts = drawn()
    for token, share in enumerate((0.5, 0.3, 0.15, 0.05)):
        assert counts[token] / 2000 == pytest.approx(share, abs=0.04)


def test_equal_seeds_choose_alike_and_others_do_not() -> None:
    def run(seed: int) -> list[int]:
        sampler = Sampler(SamplingOptions(seed=seed))
        return [sampler.sample(LOGITS).token_id for _ in range(50)]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_top_p_and_top_k_leave_the_most_probable_tokens() -> None:
    assert set(drawn(top_p=0.6)) == {0, 1}
    assert set(drawn(top_p=0.5)) == {0}
    assert set(drawn(top_p=0.0)) == {0}
    assert set(drawn(top_k=3)) == {0, 1, 2}


def test_penalties_and_biases_move_logits() -> None:
    assert drawn(20, temperature=0, logit_bias={3: 100}) == {3: 20}
    assert drawn(20, logit_bias={0: -100, 1: -100, 2: -100}) == {3: 20}
    assert set(drawn(4, temperature=0, presence_penalty=2, frequency_penalty=2)) > {0, 1}
    assert drawn(5, temperature=0, logit_bias={99: 1}) == {0: 5}  # no such token: no effect


def test_log_probabilities_are_those_of_the_model() -> None:
    token = Sampler(SamplingOptions(temperature=0, top_logprobs=2)).sample(LOGITS)
    assert token.logprob == pytest.approx(float(LOGITS[0]))
    assert [token_id for token_id, _ in token.top] == [0, 1]
    assert Sampler(SamplingOptions(temperature=0, top_logprobs=20)).sample(LOGITS).top[3][0] == 3


def test_nan_is_an_error_and_no_token() -> None:
    with pytest.raises(ValueError, match="NaN"):
        Sampler(SamplingOptions()).sample(torch.tensor([0.0, float("nan")]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 2.1),
        ("temperature", float("nan")),
        ("top_p", -0.1),
        ("top_k", -1),
        ("frequency_penalty", 3),
        ("presence_penalty", -3),
        ("top_logprobs", 21),
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be"):
        SamplingOptions(**{name: value})  # type: ignore[arg-type]
