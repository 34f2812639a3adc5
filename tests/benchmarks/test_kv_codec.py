"""What the benchmark of KV codecs compares is what it says: blocks, baselines, overhead."""

from __future__ import annotations

import pytest
import torch

from benchmarks.kv_baselines import Baseline, baselines, level_2_symbols, restored
from benchmarks.kv_blocks import Shape, mosaic, real_blocks
from benchmarks.kv_calibrations import mosaic_calibration
from benchmarks.kv_codec import Data, How, measure_baseline, measure_codec, overhead_bytes, table
from ctxpress.cache import KVBlock, create_codec
from ctxpress.engine import rounded
from tests.engine.models import rotary_model

SHAPE = Shape("small", 6, 4, 24)


@pytest.fixture(scope="module")
def blocks() -> list[KVBlock]:
    ids = torch.randint(3, 96, (64,), generator=torch.Generator().manual_seed(0)).tolist()
    return [rounded(block, "float16") for block in real_blocks(rotary_model(), ids, 4, 16)]


def test_a_mosaic_has_the_shape_asked_for_and_holds_whole_heads(blocks: list[KVBlock]) -> None:
    large = mosaic(blocks, SHAPE, seed=1)
    assert tuple(large.keys.shape) == (6, 4, 16, 24)
    assert large.dtype_name == "float16"
    channels = large.values.transpose(1, 2).flatten(2)  # (layers, tokens, channels)
    for layer in range(6):
        for tile in range(4 * 24 // 16):
            piece = channels[layer, :, 16 * tile : 16 * (tile + 1)]
            sources = [block.values[layer * 3 // 6, tile % 2] for block in blocks]
            assert any(torch.equal(piece, source) for source in sources)
    assert torch.equal(large.keys, mosaic(blocks, SHAPE, seed=1).keys)
    assert not torch.equal(large.keys, mosaic(blocks, SHAPE, seed=2).keys)


@pytest.mark.parametrize("codec", ["kvtc-8x", "cachegen-auto"])
def test_a_calibration_of_few_layers_serves_all_that_are_made_of_them(
    blocks: list[KVBlock], codec: str
) -> None:
    large = mosaic(blocks, SHAPE, seed=0)
    calibration = mosaic_calibration(blocks, SHAPE, 8)
    assert calibration.facts["n_layers"] == 6
    found = create_codec(codec, calibration)
    row = measure_codec(codec, Data("", [large], calibration), 1, How(1, "cpu", "cpu"))
    assert row.problem == ""
    for name in ("keys", "values"):
        wanted = getattr(large, name).float()
        decoded = getattr(found.decode(found.encode(large)), name).float()
        errors = (decoded - wanted).square().mean((1, 2, 3)) / wanted.square().mean((1, 2, 3))
        assert errors.max() < 0.1, errors


def test_a_mosaic_that_does_not_come_out_even_is_refused(blocks: list[KVBlock]) -> None:
    with pytest.raises(ValueError, match="60 channels cannot be filled with heads of 16"):
        mosaic(blocks, Shape("odd", 2, 3, 20), seed=0)


def test_too_short_a_text_is_refused() -> None:
    with pytest.raises(ValueError, match="10 tokens of text; 32 are needed"):
        real_blocks(rotary_model(), [5] * 10, 2, 16)


def test_level_2_keeps_every_value_to_half_a_step(blocks: list[KVBlock]) -> None:
    block = blocks[0]
    symbols, scales, levels = level_2_symbols(block)
    assert levels.tolist() == [31, 15, 15, 31, 15, 15]  # 10 and 2 of 32 layers, of three
    assert symbols.max() <= 30
    keys, values = restored(symbols, scales, levels, block)
    for place, (found, wanted) in enumerate(((keys, block.keys), (values, block.values))):
        half = torch.tensor(levels[3 * place : 3 * place + 3] // 2)[:, None, None]
        step = wanted.float().abs().amax(dim=(1, 3))[..., None] / half
        error = (found.float() - wanted.float()).transpose(1, 2).flatten(2).abs()
        assert (error <= 0.51 * step + 1e-3).all()


@pytest.mark.parametrize("baseline", baselines(), ids=lambda baseline: baseline.name)
def test_baselines_give_back_what_their_symbols_say(
    baseline: Baseline, blocks: list[KVBlock]
) -> None:
    block = blocks[0]
    coded = baseline.encode(block)
    keys, values = baseline.decode(coded, block)
    assert 0 <= coded.overhead_bytes < coded.total_bytes
    if baseline.name.startswith("zstd -1, fp16"):
        assert torch.equal(keys, block.keys)
        assert torch.equal(values, block.values)
    else:
        wanted = restored(*level_2_symbols(block), block)
        assert torch.allclose(keys, wanted[0], rtol=2e-3, atol=1e-3)
        assert torch.allclose(values, wanted[1], rtol=2e-3, atol=1e-3)


def test_overhead_is_what_is_neither_symbols_nor_scales(blocks: list[KVBlock]) -> None:
    codec = create_codec("int8")
    block = blocks[0]
    payload = block.n_values + 2 * block.n_values // block.head_dim
    data = codec.encode(block)
    assert overhead_bytes(codec, data) == len(data) - payload


def test_rows_are_printed_with_and_without_figures(blocks: list[KVBlock]) -> None:
    data, how = Data("x", blocks, None), How(1, "cpu", "cpu")
    rows = [measure_codec("int8", data, 1, how), measure_codec("kvtc", data, 1, how)]
    rows.append(measure_baseline(baselines()[0], data, how))
    lines = list(table(rows))
    assert rows[0].total_bytes > rows[0].overhead_bytes > 0
    assert lines[2].startswith("| int8 | 1 | ")
    assert lines[3].startswith("| kvtc | 1 | not measured: ")
    assert {line.count("|") for line in lines} == {11}


@pytest.mark.parametrize("name", ["raw", "int8", "int4"])
def test_codecs_without_tables_have_no_overhead_but_headers(
    blocks: list[KVBlock], name: str
) -> None:
    codec = create_codec(name)
    small, large = (codec.encode(mosaic(blocks, Shape("", n, 4, 24), seed=0)) for n in (6, 12))
    grown = overhead_bytes(codec, large) - overhead_bytes(codec, small)
    assert 0 < grown <= 6 * 32  # a section more a layer in the header, and nothing else
