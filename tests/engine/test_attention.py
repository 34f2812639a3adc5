"""Attention over rows: what one pass over the whole text says, however it is cut and batched."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.engine.attention import ContextPlan, Row, register_attention
from ctxpress.engine.forward import run_rows
from ctxpress.engine.lse import attend, attend_eager
from ctxpress.engine.sequence import SequenceKV
from tests.engine.models import ARCHITECTURES, random_model

CLOSE = 1e-5


def tokens(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 96, (1, n), generator=torch.Generator().manual_seed(seed))


def places(start: int, stop: int) -> torch.Tensor:
    return torch.arange(start, stop)[None]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_rows_of_any_lengths_in_any_pieces_equal_one_plain_pass(name: str) -> None:
    model = random_model(name, attn_implementation="eager")
    texts = [tokens(50, 1), tokens(31, 2)]
    with torch.inference_mode():
        plain = [model(text).logits[0] for text in texts]
    model.set_attn_implementation(register_attention())
    rows = [Row(SequenceKV(3)), Row(SequenceKV(3))]
    found: list[list[torch.Tensor]] = [[], []]
    for start, stop in ((0, 20), (20, 48)):
        found[0].append(
            run_rows(model, rows[:1], texts[0][:, start:stop], places(start, stop), n_logits=0)[0]
        )
    found[1].append(run_rows(model, rows[1:], texts[1][:, :29], places(0, 29), n_logits=0)[0])
    for step in range(2):  # both rows at once, at different places
        ids = torch.cat([texts[0][:, 48 + step], texts[1][:, 29 + step]])[:, None]
        logits = run_rows(model, rows, ids, torch.tensor([[48 + step], [29 + step]]))
        for row in range(2):
            found[row].append(logits[row])
    for row in range(2):
        assert torch.allclose(torch.cat(found[row]), plain[row], atol=CLOSE)


@pytest.mark.parametrize("name", ["llama", "gemma2", "mistral, sliding"])
def test_without_rows_the_registered_attention_is_transformers_own(name: str) -> None:
    model = random_model(name, attn_implementation="eager")
    ids = torch.cat([tokens(30, 1), tokens(30, 2)])
    padding = torch.ones_like(ids)
    padding[0, :11] = 0
    with torch.inference_mode():
        plain = model(ids, attention_mask=padding).logits[:, 11:]
        model.set_attn_implementation(register_attention())
        again = model(ids, attention_mask=padding).logits[:, 11:]
    assert torch.allclose(plain, again, atol=CLOSE)


@settings(deadline=None, max_examples=60)
@given(
    heads=st.integers(1, 3),
    group=st.integers(1, 4),
    n=st.integers(1, 9),
    past=st.integers(0, 40),
    head_dim=st.sampled_from([8, 16, 33, 64]),
    own=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_fused_and_eager_attention_agree(
    heads: int, group: int, n: int, past: int, head_dim: int, own: bool, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    n_keys = n + past
    query = torch.randn(heads, group, n, head_dim, generator=draw)
    keys = torch.randn(heads, n_keys, head_dim, generator=draw)
    values = torch.randn(heads, n_keys, head_dim, generator=draw)
    number = n if own else 0
    fused = attend(query, keys, values, 0.3, own=number)
    eager = attend_eager(query, keys, values, 0.3, own=number)
    for one, other in zip(fused, eager, strict=True):
        assert torch.allclose(one, other, atol=CLOSE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_log_sum_exp_of_half_precision_is_not_rounded_to_it(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(2, 2, 3, 16, generator=draw).to(dtype)
    keys = torch.randn(2, 200, 16, generator=draw).to(dtype)
    _, lse = attend(query, keys, keys, 1.0, own=0)
    _, exact = attend_eager(query, keys, keys, 1.0, own=0)
    assert lse.dtype == torch.float32
    assert torch.allclose(lse, exact, atol=1e-3)  # a step of bfloat16 here is 0.03 to 0.06


def test_a_plan_names_what_is_wrong_with_it() -> None:
    with pytest.raises(ValueError, match="is empty"):
        ContextPlan(start=4, stop=4)
    for name in ("temperature", "scale"):
        with pytest.raises(ValueError, match=f"{name} must be above zero"):
            ContextPlan(start=0, stop=4, **{name: 0.0})
        with pytest.raises(ValueError, match=f"{name} must be above zero"):
            ContextPlan(start=0, stop=4, **{name: float("nan")})


def test_registering_twice_changes_nothing() -> None:
    assert register_attention() == register_attention()
