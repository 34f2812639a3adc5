from __future__ import annotations

import torch

from training.reference_model.initial import place_heads
from training.reference_model.model import Shape, create_model

SHAPE = Shape()
VOCABULARY = 1200


def attentions(ids: list[int]) -> list[torch.Tensor]:
    """Of each layer, (n_heads, n_tokens, n_tokens), before any training."""
    model = create_model(SHAPE, VOCABULARY, seed=1)
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        out = model.eval()(torch.tensor([ids]), output_attentions=True)
    return [layer[0] for layer in out.attentions]


def test_each_head_of_the_first_layer_looks_its_own_distance_back() -> None:
    ids = torch.randint(3, VOCABULARY, (60,), generator=torch.Generator().manual_seed(1)).tolist()
    first = attentions(ids)[0]
    for head in range(SHAPE.heads):
        shares = first[head].diagonal(-(head + 1))
        assert float(shares.mean()) > 0.7


def test_induction_heads_look_behind_where_the_current_token_was_before() -> None:
    span = torch.randperm(VOCABULARY, generator=torch.Generator().manual_seed(1))[:20].tolist()
    layer = attentions([*span, *span])[2]
    shares = layer.diagonal(-(len(span) - 1), 1, 2)[:, 1:]
    assert float(shares.mean()) > 0.3


def test_the_same_seed_gives_the_same_start() -> None:
    first, second = (create_model(SHAPE, VOCABULARY, seed=3).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_small_shapes_take_heads_too() -> None:
    shape = Shape(hidden=32, layers=2, heads=4, kv_heads=2, head_dim=8, intermediate=48)
    model = create_model(shape, VOCABULARY, seed=1)
    place_heads(model, shape)
    assert all(bool(p.isfinite().all()) for p in model.parameters())
