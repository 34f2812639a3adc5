"""What is particular to cachegen: levels, deltas where they save, sinks, one arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ctxpress.cache import KVBlock, create_codec, decode_container
from ctxpress.cache.calibration import Calibration
from ctxpress.cache.codecs import cachegen
from ctxpress.cache.codecs import cachegen_decoding as decoding
from ctxpress.cache.codecs import cachegen_quantiser as quantiser
from ctxpress.cache.codecs.cachegen_copies import decode_copies, encode_copies
from ctxpress.cache.codecs.cachegen_levels import LEVELS
from ctxpress.cache.codecs.cachegen_scales import LEAST_RUNG, MOST_RUNG, ladder
from ctxpress.cache.codecs.cachegen_steps import CalibratedSteps, step_for_bits
from ctxpress.cache.codecs.entropy import encode_symbols
from ctxpress.cache.container import parse_header, read_section
from ctxpress.errors import CalibrationMissingError, ConfigError, CorruptContainerError
from tests.attacks.forging import Forgery
from tests.cache.codecs.calibrating import calibration_for
from tests.cache.codecs.cases import make_block, relative_error, with_values


def described(codec_name: str, block: KVBlock) -> dict[str, int]:
    codec = create_codec(codec_name)
    data = codec.encode(block)
    header = parse_header(data)
    found: dict[str, int] = {"container": len(data)}
    for index in range(len(header.sections)):
        section = read_section(header, index, data)
        for name, size in codec.describe_section(header, index, section).items():  # type: ignore[attr-defined]
            found[name] = found.get(name, 0) + size
    return found


def test_published_levels_cover_models_of_any_depth() -> None:
    level = LEVELS["cachegen-2"]
    of_32 = [level.most_symbols(layer, 32) for layer in range(32)]
    assert [of_32.count((k, v)) for k, v in ((15, 15), (15, 7), (7, 7))] == [2, 8, 22]
    for n_layers in (1, 2, 3, 48, 80, 128):
        found = [level.most_symbols(layer, n_layers) for layer in range(n_layers)]
        assert found == sorted(found, reverse=True)
        assert found[0] == (15, 15)


def test_finer_levels_are_larger_and_nearer() -> None:
    block = make_block((6, 2, 256, 64))
    sizes, errors = [], []
    for name in LEVELS:
        codec = create_codec(name)
        data = codec.encode(block)
        sizes.append(len(data))
        errors.append(relative_error(codec.decode(data).keys, block.keys))
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)


def test_deltas_are_taken_where_they_save_bytes_and_their_gain_is_told() -> None:
    generator = torch.Generator().manual_seed(0)
    walk = torch.randn(2, 2, 26, 32, generator=generator).repeat_interleave(10, dim=2)
    near = walk + 0.02 * torch.randn(walk.shape, generator=generator)
    values = torch.randn(walk.shape, generator=generator)
    block = KVBlock(keys=near, values=values, position_start=10)
    codec = create_codec("cachegen-2")
    data = codec.encode(block)
    header = parse_header(data)
    sizes = described("cachegen-2", block)
    assert header.parameters["delta_saved_bytes"] > 1000
    assert sizes["symbols_deltas_k"] > 0
    assert "symbols_deltas_v" not in sizes
    assert relative_error(codec.decode(data).keys, block.keys) < 0.1


def test_deltas_are_left_out_where_tokens_are_unrelated() -> None:
    data = create_codec("cachegen-2").encode(make_block((2, 2, 256, 64)))
    assert parse_header(data).parameters["delta_saved_bytes"] == 0


def test_tokens_that_repeat_are_named_instead_of_coded_again() -> None:
    block = make_block((2, 2, 256, 64), position_start=256)
    order = torch.arange(256) % 100
    codec = create_codec("cachegen-2")
    once = len(codec.encode(block))
    repeated = with_values(block, block.keys[:, :, order], block.values[:, :, order])
    data = codec.encode(repeated)
    assert len(data) < 0.5 * once
    assert described("cachegen-2", repeated)["symbols_copies"] > 0
    found = codec.decode(data)
    assert torch.equal(found.keys[:, :, 100:200], found.keys[:, :, :100])
    assert relative_error(found.keys, repeated.keys) < 0.2
    # Where keys repeat and values do not, nothing is a copy.
    halves = with_values(block, block.keys[:, :, order], block.values)
    assert "symbols_copies" not in described("cachegen-2", halves)


def test_a_copy_before_its_original_is_refused() -> None:
    streams = encode_copies(np.array([0, 1, 0, 1, 2, 2]))
    assert decode_copies([memoryview(s) for s in streams], 6).tolist() == [0, 1, 0, 1, 2, 2]
    streams[1] = encode_symbols(np.array([[0, 2, 2]], np.uint8), 256)  # 2 is not there yet
    with pytest.raises(CorruptContainerError, match="before its original"):
        decode_copies([memoryview(s) for s in streams], 6)


def test_only_the_first_tokens_of_a_sequence_are_sinks() -> None:
    block = make_block((2, 2, 64, 16))
    sinks = block.keys.clone()
    sinks[:, :, :4] *= 100
    for start, wanted in ((0, True), (256, False)):
        moved = KVBlock(keys=sinks, values=block.values, position_start=start)
        assert ("symbols_sinks_k" in described("cachegen-1", moved)) is wanted
    first = KVBlock(keys=sinks, values=block.values)
    codec = create_codec("cachegen-1")
    found = codec.decode(codec.encode(first))
    assert relative_error(found.keys[:, :, :4], sinks[:, :, :4]) < 0.02
    assert relative_error(found.keys[:, :, 4:], sinks[:, :, 4:]) < 0.3


@pytest.mark.parametrize("n_tokens", [1, 40])
def test_channels_that_never_change_are_kept(n_tokens: int) -> None:
    like = make_block((1, 2, n_tokens, 16), "float32", position_start=9)
    keys = torch.linspace(-1e6, 1e6, 32).view(1, 2, 1, 16).expand(1, 2, n_tokens, 16)
    codec = create_codec("cachegen-2")
    found = codec.decode(codec.encode(with_values(like, keys.contiguous())))
    assert relative_error(found.keys, keys) < 0.05


def test_what_is_alone_in_a_channel_does_not_hurt_the_others() -> None:
    block = make_block((1, 2, 256, 32), "float32", position_start=4)
    loud = block.keys.clone()
    loud[..., 3] *= 1000
    codec = create_codec("cachegen-1")
    found = codec.decode(codec.encode(with_values(block, loud, block.values)))
    quiet = [dim for dim in range(32) if dim != 3]
    assert relative_error(found.keys[..., quiet], loud[..., quiet]) < 0.4


def test_container_overhead_is_below_a_tenth_of_a_bit_at_256_tokens() -> None:
    block = make_block((4, 2, 256, 64), position_start=256)
    sizes = described("cachegen-2", block)
    symbols = sizes["symbols_k"] + sizes["symbols_v"] + sizes["scales_k"] + sizes["scales_v"]
    assert 8 * (sizes["container"] - symbols) / block.n_values < 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("least_rung", [-100, -30, 40])
def test_the_loop_and_torch_compute_the_same_bits(dtype: torch.dtype, least_rung: int) -> None:
    rng = np.random.default_rng(0)
    channels = quantiser.ChannelScales.of_section(
        rng.integers(-20, 20, (2, 40)), rng.integers(-127, 128, (2, 40))
    )
    symbols = rng.integers(0, 31, (80, 24), dtype=np.uint8)
    rungs = rng.integers(least_rung, least_rung + 90, (2, 24))
    wanted = torch.empty(2, 24, 40, dtype=dtype)
    quantiser.dequantise(quantiser.QuantisedTokens(symbols, rungs, 15), channels, wanted)
    found = torch.empty_like(wanted)
    decoding.fill_rounded(
        symbols,
        15,
        channels.scales,
        channels.means,
        ladder(rungs),
        np.arange(24),
        decoding.DTYPES.index(str(dtype).removeprefix("torch.")),
        torch.finfo(dtype).max,
        0,
        found.view(torch.uint16).numpy().reshape(48, -1),
    )
    assert torch.equal(found.view(torch.uint16), wanted.view(torch.uint16))


def test_halves_are_rounded_as_torch_rounds_them() -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 2**18, dtype=np.uint32)
    bits[::4] &= np.uint32(0xFFFFE000)
    bits[1::4] = (bits[1::4] & np.uint32(0xFFFFE000)) | np.uint32(0x1000)  # halfway
    bits[2::4] = (bits[2::4] & np.uint32(0x87FFFFFF)) | np.uint32(0x30000000)  # about subnormals
    values = bits.view(np.float32)
    values = np.clip(np.nan_to_num(values, nan=0.0), -65504, 65504)
    shifted, found = np.empty_like(values), np.empty(values.size, np.uint16)
    decoding.round_to_half(values, shifted, values.view(np.uint32), shifted.view(np.uint32), found)
    wanted = torch.from_numpy(values).to(torch.float16).view(torch.uint16).numpy()
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", ["cachegen-2", "cachegen-auto"])
def test_sections_at_once_and_stream_by_stream_are_the_same(
    name: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    block = make_block((3, 2, 43, 20), dtype)
    tokens = torch.randint(0, 12, (43,))
    keys, values = block.keys.clone(), block.values.clone()
    keys[0], values[0] = block.keys[0][:, tokens], block.values[0][:, tokens]  # copies
    keys[1] = keys[1].float().cumsum(1).mul(0.1).to(keys.dtype)  # deltas
    values[2] = values[2, :, :1]  # what zstd is good at
    block = with_values(block, keys, values)
    codec = create_codec(name, calibration_for(block))
    data = codec.encode(block)
    kinds, whole = set(), cachegen.decode_section

    def watched(*arguments: object) -> bool:
        kinds.add(whole(*arguments))
        return kinds == {True}

    monkeypatch.setattr(cachegen, "decode_section", watched)
    at_once = codec.decode(data)
    assert kinds == {True}
    monkeypatch.setattr(cachegen, "decode_section", lambda *_: False)
    by_stream = codec.decode(data)
    assert torch.equal(at_once.keys, by_stream.keys)
    assert torch.equal(at_once.values, by_stream.values)


def test_rungs_are_quarter_octaves_exactly_rounded() -> None:
    rungs = np.arange(LEAST_RUNG, MOST_RUNG + 1)
    wanted = np.exp2(rungs / 4)
    assert np.abs(ladder(rungs) / wanted - 1).max() < 1e-7
    assert ladder(np.array([0, 4, -8])).tolist() == [1.0, 2.0, 0.25]


def test_a_calibrated_step_gives_about_the_bits_that_were_asked_for() -> None:
    block = make_block((4, 2, 256, 64), position_start=256)
    like = make_block((4, 2, 512, 64), seed=3)
    std = np.stack([like.keys.float().std(2).numpy(), like.values.float().std(2).numpy()])
    for bits in (1.0, 2.0, 3.0):
        arrays = {"cachegen/step": np.array([step_for_bits(std, 1 / std, bits)], np.float32)}
        for name, tensor, deviation in zip(
            ("key", "value"), (like.keys, like.values), std, strict=True
        ):
            arrays[f"cachegen/{name}_mean"] = tensor.float().mean(2).numpy()
            arrays[f"cachegen/{name}_std"] = deviation
            arrays[f"cachegen/{name}_cost"] = 1 / deviation
        codec = create_codec("cachegen-auto", Calibration(arrays, {}))
        assert 8 * len(codec.encode(block)) / block.n_values == pytest.approx(bits, abs=0.3)


def test_steps_are_finer_where_errors_cost_more() -> None:
    block = make_block((1, 1, 64, 4))
    calibration = calibration_for(block)
    arrays = dict(calibration.arrays)
    arrays["cachegen/key_cost"] = np.array([[[1, 4, 16, 64]]], np.float32)
    arrays["cachegen/key_std"] = np.ones((1, 1, 4), np.float32)
    arrays["cachegen/step"] = np.array([0.5], np.float32)
    steps = CalibratedSteps(Calibration(arrays, {})).channels(0, 0).scales
    assert steps.tolist() == [[0.5, 0.25, 0.125, 0.0625]]


@pytest.mark.parametrize("problem", ["missing", "shape", "nan", "step"])
def test_a_calibration_without_what_is_needed_is_refused_by_name(problem: str) -> None:
    arrays = dict(calibration_for(make_block()).arrays)
    name = "cachegen/step" if problem == "step" else "cachegen/key_std"
    if problem == "missing":
        del arrays[name]
    else:
        wrong = {"shape": np.ones((3, 2, 5)), "nan": np.full((3, 2, 16), np.nan), "step": [-1.0]}
        arrays[name] = np.asarray(wrong[problem], np.float32)
    match = "differ in shape" if problem == "shape" else name
    with pytest.raises(ConfigError, match=match):
        create_codec("cachegen-auto", Calibration(arrays, {}))


def test_auto_without_a_calibration_says_how_to_get_one() -> None:
    with pytest.raises(ConfigError, match="kv calibrate"):
        create_codec("cachegen-auto")


def test_a_header_that_names_no_calibration_where_one_is_needed_is_refused() -> None:
    block = make_block()
    calibration = calibration_for(block)
    forgery = Forgery.of(create_codec("cachegen-auto", calibration).encode(block))
    forgery.header["calibration"] = ""
    with pytest.raises(CalibrationMissingError, match="needs a calibration"):
        decode_container(forgery.build(), calibrations=[calibration])


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (4, b"\x02", "flag 2 for copies"),
        (5, b"\xff\x7f", "channel scales from rung 32767"),
        (8, b"\x08", "flags 0x08"),
        (9, b"\xff\xff\xff\xff", "a stream that is not whole"),
    ],
)
def test_numbers_of_a_section_are_checked(at: int, value: bytes, message: str) -> None:
    forgery = Forgery.of(create_codec("cachegen-2").encode(make_block()))
    section = bytearray(forgery.sections[0])
    section[at : at + len(value)] = value
    forgery.sections[0] = bytes(section)
    with pytest.raises(CorruptContainerError, match=message):
        decode_container(forgery.build())


def test_bytes_behind_the_last_stream_are_refused() -> None:
    forgery = Forgery.of(create_codec("cachegen-2").encode(make_block()))
    forgery.sections[1] += b"\0"
    with pytest.raises(CorruptContainerError, match="section 1 has 1 bytes behind"):
        decode_container(forgery.build())


def test_sinks_that_the_layout_cannot_have_are_refused() -> None:
    forgery = Forgery.of(create_codec("cachegen-2").encode(make_block()))
    forgery.header["parameters"]["sinks"] = 3
    with pytest.raises(CorruptContainerError, match="3 sinks, not one and 4"):
        decode_container(forgery.build())
