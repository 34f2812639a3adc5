"""The facts of transformers that the engine relies on; a version that breaks one shows here."""

from __future__ import annotations

import pytest
import torch

from ctxpress.cache import create_codec
from ctxpress.engine import concatenated, prefill, rounded, split
from ctxpress.engine.loading import RotaryModel
from tests.engine.models import ARCHITECTURES, rotary_model

N_TOKENS, N_BEHIND, CHUNK = 60, 41, 16
TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request: pytest.FixtureRequest) -> RotaryModel:
    return rotary_model(request.param)


@pytest.fixture(scope="module")
def ids() -> list[int]:
    return torch.randint(3, 96, (N_TOKENS,), generator=torch.Generator().manual_seed(1)).tolist()


@pytest.fixture(scope="module")
def plain(model: RotaryModel, ids: list[int]) -> torch.Tensor:
    """The logits of one ordinary forward pass."""
    with torch.inference_mode():
        logits: torch.Tensor = model.model(torch.tensor([ids])).logits[0]
    return logits


def test_kv_through_the_codec_gives_the_logits_of_the_plain_forward_pass(
    model: RotaryModel, ids: list[int], plain: torch.Tensor
) -> None:
    codec = create_codec("raw")
    block = prefill(model, ids[:N_BEHIND]).block()
    assert not block.keys_rotated
    chunks = [codec.decode(codec.encode(chunk)) for chunk in split(block, CHUNK)]
    logits = prefill(model, ids[N_BEHIND:], behind=chunks, logits="all").logits[0]
    assert torch.allclose(logits, plain[N_BEHIND:], rtol=0, atol=TOLERANCE)


def test_kv_is_captured_behind_kv(model: RotaryModel, ids: list[int], plain: torch.Tensor) -> None:
    first = prefill(model, ids[:20]).block()
    second = prefill(model, ids[20:N_BEHIND], behind=[first]).block(before=ids[:20])
    assert second.position_start == 20
    whole = prefill(model, ids[:N_BEHIND]).block()
    joined = concatenated([first, second])
    assert torch.allclose(joined.keys, whole.keys, rtol=0, atol=TOLERANCE)
    assert torch.allclose(joined.values, whole.values, rtol=0, atol=TOLERANCE)
    logits = prefill(model, ids[N_BEHIND:], behind=[joined], logits="all").logits[0]
    assert torch.allclose(logits, plain[N_BEHIND:], rtol=0, atol=TOLERANCE)


def test_everything_may_stand_further_on_where_distances_stay(
    model: RotaryModel, ids: list[int], plain: torch.Tensor
) -> None:
    block = prefill(model, ids[:N_BEHIND]).block()
    moved = prefill(model, ids[N_BEHIND:], behind=[block], positions=[100], logits="all")
    assert moved.position_start == 100 + N_BEHIND
    assert torch.allclose(moved.logits[0], plain[N_BEHIND:], rtol=0, atol=5 * TOLERANCE)


def test_keys_of_a_text_run_elsewhere_are_the_same_once_un_rotated(
    model: RotaryModel, ids: list[int]
) -> None:
    here = prefill(model, ids[:20]).block()
    there = prefill(model, ids[:20], position_start=70).block()
    assert (here.position_start, there.position_start) == (0, 70)
    assert torch.allclose(here.keys, there.keys, rtol=0, atol=5 * TOLERANCE)
    assert torch.allclose(here.values, there.values, rtol=0, atol=5 * TOLERANCE)


def test_moving_rotated_keys_is_rotating_them_for_another_place(model: RotaryModel) -> None:
    keys = torch.randn(model.n_layers, model.n_kv_heads, 5, model.head_dim)
    places = torch.arange(5)
    for by_tokens in (37, -3):
        moved = model.rope.move(model.rope.rotate(keys, places + 3), by_tokens)
        direct = model.rope.rotate(keys, places + 3 + by_tokens)
        assert torch.allclose(moved, direct, rtol=0, atol=TOLERANCE)


def test_rounded_kv_costs_what_rounding_costs(model: RotaryModel, ids: list[int]) -> None:
    block = prefill(model, ids[:20]).block()
    half = prefill(model, ids[:20]).block(dtype="float16")
    assert half.dtype_name == half.identity.dtype == "float16"
    assert half.identity == rounded(block, "float16").identity
    assert torch.equal(half.keys, rounded(block, "float16").keys)
    assert torch.equal(half.values, rounded(block, "float16").values)


def test_rows_are_run_together_as_alone(model: RotaryModel, ids: list[int]) -> None:
    from ctxpress.engine.prefilling import prefill_rows

    rows = [ids[:20], ids[20:40]]
    together = prefill_rows(model, rows, logits="all")
    blocks = [together.block(row) for row in range(2)]
    for row, block in zip(rows, blocks, strict=True):
        alone = prefill(model, row).block()
        assert torch.allclose(block.keys, alone.keys, rtol=0, atol=TOLERANCE)
        assert block.identity == alone.identity
    more = prefill_rows(
        model, [ids[40:], ids[40:]], behind=[[block] for block in blocks], logits="all"
    )
    for row, block in enumerate(blocks):
        alone_logits = prefill(model, ids[40:], behind=[block], logits="all").logits[0]
        assert torch.allclose(more.logits[row], alone_logits, rtol=0, atol=TOLERANCE)
