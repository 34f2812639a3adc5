"""T and S are found by comparing the model with itself, and the gate says when not to use them."""

from __future__ import annotations

import pytest
import torch

from ctxpress.engine.mixing_calibration import MixingCalibration, calibrate_mixing
from ctxpress.engine.parallel import Mixing
from ctxpress.engine.prompts import PromptPieces
from tests.engine.models import rotary_model


def ids(n: int, seed: int) -> tuple[int, ...]:
    draw = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(3, 96, (n,), generator=draw).tolist())


def prompts(n_documents: int, n_prompts: int = 2) -> list[PromptPieces]:
    return [
        PromptPieces(
            prefix=ids(5, 100 * p),
            documents=tuple(ids(10 + i, 100 * p + 1 + i) for i in range(n_documents)),
            suffix=ids(4, 100 * p + 50),
        )
        for p in range(n_prompts)
    ]


def test_one_document_needs_no_correction() -> None:
    found = calibrate_mixing(rotary_model(), prompts(1), answer_tokens=4)
    assert found.mixing == Mixing()
    assert found.kl < 1e-6
    assert found.chosen == Mixing()


def test_what_is_found_is_no_further_from_the_teacher_than_doing_nothing() -> None:
    found = calibrate_mixing(rotary_model(), prompts(3), answer_tokens=4)
    assert 0 < found.kl <= found.kl_plain
    assert found.kl <= found.kl_inverse <= found.kl_plain
    assert found.inverse.scale == pytest.approx(1 / found.inverse.temperature)
    assert found.n_prompts == 2


def test_above_the_bound_documents_are_not_encoded_in_parallel() -> None:
    found = calibrate_mixing(rotary_model(), prompts(3), answer_tokens=4, bound=1e-9)
    assert not found.accepted
    assert found.chosen is None
    assert found.report()["accepted"] is False


def found(*, kl_plain: float, kl_inverse: float) -> MixingCalibration:
    return MixingCalibration(
        mixing=Mixing(),
        kl=0.0,
        kl_plain=kl_plain,
        inverse=Mixing.by_temperature(1.25),
        kl_inverse=kl_inverse,
        n_prompts=1,
        bound=0.1,
    )


def test_keys_are_scaled_only_where_that_is_better_and_good_enough() -> None:
    assert found(kl_plain=0.05, kl_inverse=0.01).key_temperature == 1.25
    assert found(kl_plain=0.05, kl_inverse=0.05).key_temperature == 1.0
    assert found(kl_plain=0.5, kl_inverse=0.05).key_temperature == 1.25
    assert found(kl_plain=0.5, kl_inverse=0.2).key_temperature is None


def test_the_same_prompts_give_the_same_pair() -> None:
    model = rotary_model()
    assert calibrate_mixing(model, prompts(2), answer_tokens=3) == calibrate_mixing(
        model, prompts(2), answer_tokens=3
    )


def test_prompts_without_documents_are_refused() -> None:
    with pytest.raises(ValueError, match="prompts with documents"):
        calibrate_mixing(rotary_model(), prompts(0))
