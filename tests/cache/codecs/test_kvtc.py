"""What kvtc promises beyond what all codecs do."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ctxpress.cache import KVBlock, KVIdentity, create_codec
from ctxpress.cache.calibration import Calibration
from ctxpress.cache.codecs.kvtc import kernels
from ctxpress.cache.codecs.kvtc.decoding import decoded_rows
from ctxpress.cache.codecs.kvtc.integer_matmul import integer_matmul
from ctxpress.cache.codecs.kvtc.measure import RATIOS, measure_calibration
from ctxpress.cache.codecs.kvtc.plan import CENTRE, LIMIT, N_LEVELS, load_plan
from ctxpress.cache.codecs.kvtc.rounding import Integers, split_integers
from ctxpress.cache.codecs.kvtc.units import sections_of, unit_rows, units_of
from ctxpress.cache.container import ContainerHeader, parse_header, read_section
from ctxpress.errors import CodecError, ConfigError, CorruptContainerError, IdentityMismatchError
from tests.cache.codecs.calibrating import calibration_for
from tests.cache.codecs.cases import bits_of, make_block, relative_error, same_bits

CPU = torch.device("cpu")


def low_rank_block(n_tokens: int = 256, *, seed: int = 0, rank: int = 6) -> KVBlock:
    """KV of 4 layers that are all functions of one state of ``rank`` dimensions, and some noise."""
    model = torch.Generator().manual_seed(9)
    text = torch.Generator().manual_seed(seed)
    state = torch.randn(n_tokens, rank, generator=text)
    mixed = state @ torch.randn(rank, 4 * 2 * 2 * 16, generator=model)
    mixed += 0.02 * torch.randn(mixed.shape, generator=text)
    both = mixed.view(n_tokens, 4, 2, 2, 16).permute(1, 2, 3, 0, 4)
    return KVBlock(keys=both[:, 0].half(), values=both[:, 1].half())


@pytest.fixture(scope="module")
def low_rank() -> Calibration:
    return measure_calibration([low_rank_block(seed=seed) for seed in (1, 2, 3)])


# Sizes and quality


def test_what_layers_and_heads_share_is_paid_once(low_rank: Calibration) -> None:
    block = low_rank_block(seed=4)
    codec = create_codec("kvtc-16x", low_rank)
    found = codec.decode(codec.encode(block))
    assert relative_error(found.keys, block.keys) < 0.02
    assert relative_error(found.values, block.values) < 0.02


def test_every_level_has_the_size_in_its_name() -> None:
    shape = (4, 4, 600, 32)
    calibration = measure_calibration([make_block(shape, seed=seed) for seed in (1, 2)])
    measured = calibration.arrays["kvtc/bits_per_value"]
    assert np.allclose(measured * RATIOS, 16, rtol=0.2)
    block = make_block((4, 4, 256, 32), seed=3)
    errors = []
    for ratio in RATIOS:
        codec = create_codec(f"kvtc-{ratio}x", calibration)
        data = codec.encode(block)
        overhead_bytes = 2_000  # header, lengths, the coder's states
        assert len(data) <= 1.2 * block.size_bytes / ratio + overhead_bytes
        errors.append(relative_error(codec.decode(data).values, block.values))
    assert errors == sorted(errors)


def test_errors_are_small_where_they_cost_much() -> None:
    def gradients(block: KVBlock, seed: int) -> KVBlock:
        random = torch.Generator().manual_seed(seed)
        slopes = torch.randn(block.keys.shape, generator=random)
        slopes[:, 0] *= 30  # errors in head 0 cost 900 times those in head 1
        return replace(block, keys=slopes, values=slopes)

    blocks = [make_block((1, 2, 500, 16), "float32", seed=seed) for seed in (1, 2)]
    calibration = measure_calibration(
        blocks, gradients=[gradients(block, seed) for seed, block in enumerate(blocks)]
    )
    block = make_block((1, 2, 200, 16), "float32", seed=3)
    codec = create_codec("kvtc-8x", calibration)
    found = codec.decode(codec.encode(block))
    costly = relative_error(found.values[:, 0], block.values[:, 0])
    cheap = relative_error(found.values[:, 1], block.values[:, 1])
    assert costly < 0.2 * cheap


def test_a_token_beyond_all_bounds_is_kept_exactly_and_disturbs_no_other(
    low_rank: Calibration,
) -> None:
    block = low_rank_block(seed=5)
    keys = block.keys.clone()
    keys[2, 1, 7] = 60_000
    codec = create_codec("kvtc-8x", low_rank)
    found = codec.decode(codec.encode(replace(block, keys=keys)))
    assert bits_of(found.keys[:, :, 7]) == bits_of(keys[:, :, 7])
    others = [token for token in range(256) if token != 7]
    assert relative_error(found.keys[:, :, others], keys[:, :, others]) < 0.02


def test_a_token_far_from_the_others_comes_back(low_rank: Calibration) -> None:
    block = low_rank_block(seed=6)
    keys, values = block.keys.clone(), block.values.clone()
    keys[:, :, 3] *= 40  # an attention sink
    values[:, :, 3] *= 40
    codec = create_codec("kvtc-12x", low_rank)
    found = codec.decode(codec.encode(replace(block, keys=keys, values=values)))
    assert relative_error(found.keys[:, :, 3], keys[:, :, 3]) < 0.02


# Exactness


@settings(deadline=None)
@given(
    data=st.data(),
    shape=st.tuples(st.integers(0, 40), st.integers(0, 70), st.integers(0, 40)),
)
def test_products_of_integers_are_exact(data: st.DataObject, shape: tuple[int, int, int]) -> None:
    rows, inner, columns = shape
    integers = st.integers(-128, 127)
    left = data.draw(hnp.arrays(np.int8, (rows, inner), elements=integers))
    right = data.draw(hnp.arrays(np.int8, (inner, columns), elements=integers))
    wanted = left.astype(np.int64) @ right.astype(np.int64)
    for order in ("C", "F"):  # a matrix of one row is contiguous in both
        matrices = (torch.from_numpy(np.array(matrix, order=order)) for matrix in (left, right))
        found = integer_matmul(*matrices)
        assert found.dtype == torch.int32
        assert (found.numpy() == wanted).all()


def test_a_matrix_of_one_row_is_read_right_whatever_its_strides() -> None:
    left = torch.arange(-60, 61, dtype=torch.int8).as_strided((1, 121), (1, 1))
    right = torch.arange(121 * 24, dtype=torch.int32).remainder(251).sub(125).to(torch.int8)
    right = right.view(121, 24)
    wanted = left.to(torch.int64) @ right.to(torch.int64)
    assert torch.equal(integer_matmul(left, right).to(torch.int64), wanted)


def test_decoded_values_are_those_of_the_formula_bit_for_bit(low_rank: Calibration) -> None:
    """Sums in integers, then three float32 operations: what FORMAT.md promises on every device."""
    plan = load_plan(low_rank, "kvtc-8x", device=CPU).units[0][0]
    assert plan.n_wide > 0
    random = np.random.default_rng(0)
    integers = random.integers(-127, 128, (plan.n_rows, 50)).astype(np.int16)
    integers[: plan.n_wide] = random.integers(-LIMIT, LIMIT + 1, (plan.n_wide, 50))
    integers[-1, 3] = 5_000  # an escape
    found = decoded_rows(split_integers(integers, plan.n_wide), plan, torch.float32)
    basis, fine = plan.basis.numpy().astype(np.int64), plan.fine.numpy().astype(np.int64)
    sums = (integers.T.astype(np.int64) @ basis).astype(np.float32)
    fines = (integers[: plan.n_wide].T.astype(np.int64) @ fine).astype(np.float32)
    wanted = (sums + fines / np.float32(128)) * plan.scale.numpy() + plan.mean.numpy()
    assert found.numpy().tobytes() == wanted.astype(np.float32).tobytes()


def test_measuring_again_gives_the_same_calibration_and_the_same_bytes(
    low_rank: Calibration, tmp_path: pytest.TempPathFactory
) -> None:
    again = measure_calibration([low_rank_block(seed=seed) for seed in (1, 2, 3)])
    assert again.sha256 == low_rank.sha256
    path = tmp_path / "calibration"  # type: ignore[operator]
    low_rank.save(path)
    block = low_rank_block(seed=7)
    data = create_codec("kvtc", low_rank).encode(block)
    stored = create_codec("kvtc", Calibration.load(path))
    assert stored.encode(block) == data
    assert same_bits(stored.decode(data), create_codec("kvtc", low_rank).decode(data))


# Rounding


@settings(max_examples=60, deadline=None)
@given(
    components=hnp.arrays(
        np.float32, (3, 20), elements=st.floats(-9000, 9000, width=32) | st.floats(-3, 3, width=32)
    ),
    n_wide=st.integers(0, 3),
)
def test_a_rounded_component_is_within_a_step_and_a_half_and_never_a_worse_bargain(
    components: np.ndarray, n_wide: int
) -> None:
    decay = np.abs(np.arange(N_LEVELS) - CENTRE).astype(np.float32)
    bits = np.stack((1 + 0.5 * decay, 0.1 + 3 * decay))
    tables = np.array([0, 1, 1], np.uint8)
    weight = np.float32(0.15)
    found = kernels.round_rows(components, np.float32(1), bits, tables, n_wide, weight)
    inside = np.abs(components) <= LIMIT
    assert (np.abs(found - components)[inside] <= 1.5).all()
    assert (np.abs(found.astype(np.int32)) <= LIMIT).all()

    def price(row: int, value: float, integer: int) -> float:
        place = CENTRE + min(max(integer, -CENTRE), CENTRE)
        return (value - integer) ** 2 + 0.15 * float(bits[tables[row], place])

    for row, token in np.argwhere(np.abs(components) < CENTRE - 1):
        if row >= n_wide:
            value = float(components[row, token])
            chosen = int(found[row, token])
            nearest = int(np.rint(value))
            assert price(row, value, chosen) <= price(row, value, nearest) + 1e-3


@settings(deadline=None)
@given(
    integers=hnp.arrays(
        np.int16,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
        elements=st.integers(-LIMIT, LIMIT) | st.integers(-3, 3),
    ),
    n_wide=st.integers(0, 12),
)
def test_integers_come_back_from_their_parts(integers: np.ndarray, n_wide: int) -> None:
    n_wide = min(n_wide, len(integers))
    parts = split_integers(integers, n_wide)
    assert parts.symbols.max(initial=0) < N_LEVELS
    joined = parts.symbols[n_wide:].astype(np.int32) - CENTRE
    joined[:n_wide] += (parts.symbols[:n_wide].astype(np.int32) - CENTRE) * 128
    joined[parts.rows, parts.tokens] += parts.highs.astype(np.int32) * 128
    assert (joined == integers).all()


# Units


@settings(deadline=None)
@given(
    n_layers=st.integers(1, 40),
    n_kv_heads=st.integers(1, 40),
    head_dim=st.integers(1, 300),
    most=st.integers(1, 4096),
)
def test_units_are_all_values_in_order_and_whole_heads(
    n_layers: int, n_kv_heads: int, head_dim: int, most: int
) -> None:
    layer_values = 2 * n_kv_heads * head_dim
    sections = sections_of(n_layers, layer_values, most)
    assert [first for first, _ in sections] == [0, *(last for _, last in sections[:-1])]
    assert sections[-1][1] == n_layers
    units = units_of(sections, n_kv_heads, head_dim, most)
    for first, last in sections:
        own = [unit for unit in units if (unit.first_layer, unit.last_layer) == (first, last)]
        assert [unit.start for unit in own] == [0, *(unit.stop for unit in own[:-1])]
        assert own[-1].stop == (last - first) * layer_values
        assert all(unit.n_values % head_dim == 0 and unit.n_values for unit in own)
        assert all(unit.n_values <= most or unit.n_values == head_dim for unit in own)
        assert last - first == 1 or len(own) == 1


def test_layers_too_large_for_one_transform_get_several() -> None:
    blocks = [make_block((2, 3, 120, 16), seed=seed) for seed in (1, 2)]
    calibration = measure_calibration(blocks, max_group_values=40)
    plan = load_plan(calibration, "kvtc", device=CPU)
    assert plan.sections == ((0, 1), (1, 2))
    assert [len(units) for units in plan.units] == [3, 3]
    codec = create_codec("kvtc-8x", calibration)
    found = codec.decode(codec.encode(blocks[0]))
    assert relative_error(found.keys, blocks[0].keys) < 0.4
    rows = unit_rows(blocks[0], plan.units[1][2].unit)
    assert torch.equal(rows[:, -16:], blocks[0].values[1, 2].float())


# Whose KV it is


@pytest.mark.parametrize(
    ("shape", "named"),
    [((5, 2, 9, 16), "n_layers"), ((4, 3, 9, 16), "n_kv_heads"), ((4, 2, 9, 8), "head_dim")],
)
def test_kv_of_another_shape_is_refused_by_name(
    low_rank: Calibration, shape: tuple[int, int, int, int], named: str
) -> None:
    with pytest.raises(IdentityMismatchError, match=named):
        create_codec("kvtc", low_rank).encode(make_block(shape))


@pytest.mark.parametrize("field", ["model", "revision", "rope"])
def test_kv_of_another_model_is_refused_by_name(field: str) -> None:
    mine = KVIdentity(model="m", revision="r", rope="theta=1e4")
    blocks = [replace(low_rank_block(60, seed=1), identity=mine)]
    codec = create_codec("kvtc", measure_calibration(blocks))
    other = replace(mine, **{field: "other"})
    with pytest.raises(IdentityMismatchError, match=f"{field} .* 'other'"):
        codec.encode(replace(blocks[0], identity=other))


def test_levels_that_there_are_not_and_other_calibrations_are_refused() -> None:
    with pytest.raises(ConfigError, match="ctxpress kv calibrate"):
        create_codec("kvtc")
    with pytest.raises(ConfigError, match="made for other codecs"):
        create_codec("kvtc", Calibration({}, {}))
    whole = calibration_for(make_block())
    missing = {name: a for name, a in whole.arrays.items() if name != "kvtc/0/basis"}
    with pytest.raises(ConfigError, match="lacks 'kvtc/0/basis'"):
        create_codec("kvtc", Calibration(missing, whole.facts))
    short = {**whole.arrays, "kvtc/0/mean": whole.arrays["kvtc/0/mean"][:-1]}
    with pytest.raises(ConfigError, match="do not fit each other: unit 0"):
        create_codec("kvtc", Calibration(short, whole.facts))
    fewer = {**whole.arrays, "kvtc/units": whole.arrays["kvtc/units"][:0]}
    with pytest.raises(ConfigError, match="do not fit each other"):
        create_codec("kvtc", Calibration(fewer, whole.facts))


# Samples that cannot be measured


def test_samples_that_cannot_be_measured_are_refused_by_name() -> None:
    block = make_block("one token", "float32")
    with pytest.raises(CodecError, match="at least one token"):
        measure_calibration([make_block("no tokens")])
    with pytest.raises(CodecError, match="block 1 is of"):
        measure_calibration([block, make_block()])
    with pytest.raises(CodecError, match="another model"):
        measure_calibration([block, replace(block, identity=KVIdentity(model="other"))])
    with pytest.raises(CodecError, match="rotated"):
        measure_calibration([replace(block, keys_rotated=True)])
    with pytest.raises(CodecError, match="NaN"):
        measure_calibration([replace(block, keys=block.keys * torch.nan)])
    with pytest.raises(CodecError, match="2 blocks, and gradients for 1"):
        measure_calibration([block, block], gradients=[block])
    with pytest.raises(CodecError, match="another shape"):
        measure_calibration([block], gradients=[make_block()])
    zero = replace(block, keys=block.keys * 0, values=block.values * 0)
    with pytest.raises(CodecError, match="all loss gradients are zero"):
        measure_calibration([block], gradients=[zero])


def test_a_calibration_of_one_token_works() -> None:
    block = make_block("one token", "float32")
    codec = create_codec("kvtc", measure_calibration([block]))
    found = codec.decode(codec.encode(block))
    assert torch.isfinite(found.keys).all()


# Hostile sections


def section_of(low_rank: Calibration) -> tuple[bytes, bytes]:
    """A container of one section with escapes, and that section."""
    block = low_rank_block(20, seed=8)
    keys = block.keys.clone()
    keys[:, :, 3] *= 12
    data = create_codec("kvtc-12x", low_rank).encode(replace(block, keys=keys))
    return data, bytes(read_section(parse_header(data), 0, data))


def header_for(data: bytes, section: bytes) -> ContainerHeader:
    """The header of ``data``, as it would be with this section instead of its only one."""
    header = parse_header(data)
    return replace(header, sections=(replace(header.sections[0], size_bytes=len(section)),))


def unit(n_escapes: int, escapes: bytes, stream: bytes) -> bytes:
    no_exact_rows = struct.pack("<I", 0)
    return no_exact_rows + struct.pack("<II", n_escapes, len(stream)) + escapes + stream


def escape(row: int, token: int, high: int) -> bytes:
    return struct.pack("<HIb", row, token, high)


def hostile_sections(section: bytes) -> dict[str, tuple[bytes, str]]:
    """Name -> section, and what the error says."""
    n_escapes, n_stream = struct.unpack_from("<II", section, 4)
    stream = section[len(section) - n_stream :]
    assert n_escapes > 0
    n_rows = 40
    return {
        "cut in a unit": (section[:-1], "ends within a unit"),
        "a length that lies": (unit(2**32 - 1, b"", stream), "ends within a unit"),
        "rest of a unit": (section + b"\0\0", "ends within a unit"),
        "two units": (section + unit(0, b"", stream)[4:], "2 units"),
        "no unit": (section[:4], "0 units"),
        "row out of range": (unit(1, escape(60_000, 0, 1), stream), "escapes"),
        "token out of range": (unit(1, escape(n_rows, 20, 1), stream), "escapes"),
        "a high part too high": (unit(1, escape(n_rows, 1, 65), stream), "escapes"),
        "a wide row": (unit(1, escape(0, 1, 1), stream), "escapes"),
        "an empty stream": (unit(0, b"", b""), "empty"),
        "another stream": (unit(0, b"", b"\x07" + stream[1:]), "no coder"),
    }


@pytest.mark.parametrize("name", list(hostile_sections(unit(1, escape(0, 0, 0), b"\0"))))
def test_hostile_sections_are_refused(low_rank: Calibration, name: str) -> None:
    data, section = section_of(low_rank)
    codec = create_codec("kvtc-12x", low_rank)
    hostile, message = hostile_sections(section)[name]
    codec.decode_section(parse_header(data), 0, section)
    with pytest.raises(CorruptContainerError, match=message):
        codec.decode_section(header_for(data, hostile), 0, hostile)


def test_escapes_out_of_order_or_twice_are_refused(low_rank: Calibration) -> None:
    data, section = section_of(low_rank)
    codec = create_codec("kvtc-12x", low_rank)
    plan = load_plan(low_rank, "kvtc-12x", device=CPU).units[0][0]
    n_escapes, n_stream = struct.unpack_from("<II", section, 4)
    stream = section[len(section) - n_stream :]
    row = plan.n_wide
    for tokens in ((2, 1), (1, 1)):
        escapes = np.array([row, row], "<u2").tobytes() + np.array(tokens, "<u4").tobytes()
        hostile = unit(2, escapes + b"\1\1", stream)
        with pytest.raises(CorruptContainerError, match="escapes"):
            codec.decode_section(header_for(data, hostile), 0, hostile)


def test_high_parts_out_of_range_are_refused(low_rank: Calibration) -> None:
    data, _ = section_of(low_rank)
    from ctxpress.cache.codecs.entropy import encode_symbols

    whole = load_plan(low_rank, "kvtc-12x", device=CPU)
    plan = whole.units[0][0]
    assert plan.n_wide > 0
    symbols = np.full((plan.n_wide + plan.n_rows, 20), CENTRE, np.uint8)
    symbols[0, 0] = CENTRE + 65
    stream = encode_symbols(symbols, N_LEVELS, tables=whole.tables, row_tables=plan.row_tables)
    hostile = unit(0, b"", stream)
    with pytest.raises(CorruptContainerError, match="too large"):
        create_codec("kvtc-12x", low_rank).decode_section(header_for(data, hostile), 0, hostile)


def test_integers_carry_their_own_types() -> None:
    parts = split_integers(np.array([[300]], np.int16), 0)
    assert isinstance(parts, Integers)
    assert (parts.rows.dtype, parts.tokens.dtype) == (np.dtype("<u2"), np.dtype("<u4"))
