"""The pass of vector instructions gives the bits that the plain operations give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.cache.codecs.kvtc.decoding import decoded_rows
from ctxpress.cache.codecs.kvtc.fused import fused_unit
from ctxpress.cache.codecs.kvtc.plan import LIMIT, UnitPlan
from ctxpress.cache.codecs.kvtc.rounding import split_integers
from ctxpress.cache.codecs.kvtc.tile_product import tiles_can_be_compiled
from ctxpress.cache.codecs.kvtc.units import Unit
from ctxpress.cache.kv import DTYPES

pytestmark = pytest.mark.skipif(
    not tiles_can_be_compiled(), reason="this processor has no AVX-512 with VNNI"
)


def make_plan(unit: Unit, n_rows: int, n_wide: int, *, size: float, seed: int) -> UnitPlan:
    """Any numbers; decoded values are about ``size``."""
    random = np.random.default_rng(seed)
    basis = random.integers(-127, 128, (n_rows, unit.n_values)).astype(np.int8)
    fine = random.integers(-64, 65, (n_wide, unit.n_values)).astype(np.int8)
    scale = (random.uniform(0.1, 1, unit.n_values) * size / 5e5).astype(np.float32)
    mean = (random.standard_normal(unit.n_values) * size / 5).astype(np.float32)
    return UnitPlan(
        unit=unit,
        mean=torch.from_numpy(mean),
        centre=torch.from_numpy(mean),
        forward=torch.zeros(n_rows, unit.n_values),
        basis=torch.from_numpy(basis),
        fine=torch.from_numpy(fine),
        scale=torch.from_numpy(scale),
        row_tables=np.zeros(n_wide + n_rows, np.uint8),
        n_wide=n_wide,
        reach=0.0,
        greatest_value=float("inf"),
    )


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(sorted(DTYPES)),
    heads=st.tuples(st.integers(0, 5), st.integers(1, 9)),
    n_kv_heads=st.integers(1, 3),
    head_dim=st.sampled_from([16, 48, 64, 80]),
    n_tokens=st.integers(1, 9),
    n_rows=st.integers(0, 21),
    n_wide=st.integers(0, 5),
    n_escapes=st.integers(0, 3),
    size=st.sampled_from([1e-40, 1e-7, 1.0, 1e5]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_value_has_the_bits_of_the_plain_operations(
    dtype: str,
    heads: tuple[int, int],
    n_kv_heads: int,
    head_dim: int,
    n_tokens: int,
    n_rows: int,
    n_wide: int,
    n_escapes: int,
    size: float,
    seed: int,
) -> None:
    first, count = heads
    n_layers = -(-(first + count) // (2 * n_kv_heads))
    unit = Unit(0, n_layers, first * head_dim, (first + count) * head_dim)
    n_wide = min(n_wide, n_rows)
    plan = make_plan(unit, n_rows, n_wide, size=size, seed=seed)
    random = np.random.default_rng(seed)
    integers = random.integers(-127, 128, (n_rows, n_tokens)).astype(np.int16)
    integers[random.random(integers.shape) < 0.6] = 0
    integers[:n_wide] = random.integers(-LIMIT, LIMIT + 1, (n_wide, n_tokens))
    if n_rows > n_wide:
        for _ in range(n_escapes):
            row, token = random.integers(n_wide, n_rows), random.integers(n_tokens)
            integers[row, token] = random.integers(-LIMIT, LIMIT + 1)
    parts = split_integers(integers, n_wide)

    kind = DTYPES[dtype]
    shape = (n_layers, n_kv_heads, n_tokens, head_dim)
    keys, values = torch.full(shape, 7.0, dtype=kind), torch.full(shape, 7.0, dtype=kind)
    fused = fused_unit(plan, head_dim)
    assert fused is not None
    fused.write(parts, keys, values)

    both = torch.full((2, *shape), 7.0, dtype=kind)
    columns = decoded_rows(parts, plan, kind).split(head_dim, dim=1)
    for place, own in enumerate(columns, first):
        layer, head = divmod(place, 2 * n_kv_heads)
        both[head // n_kv_heads, layer, head % n_kv_heads].copy_(own)
    bits = {2: torch.int16, 4: torch.int32}[kind.itemsize]
    assert torch.equal(torch.stack((keys, values)).view(bits), both.view(bits))


def test_heads_that_fill_no_vector_take_the_plain_operations() -> None:
    plan = make_plan(Unit(0, 1, 0, 48), 5, 1, size=1.0, seed=0)
    assert fused_unit(plan, 24) is None
    assert fused_unit(plan, 16) is not None
