"""What every codec promises, run over all of them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ctxpress.cache import KVBlock, create_codec, decode_container
from ctxpress.cache.calibration import Calibration
from ctxpress.cache.container import parse_header, read_section
from ctxpress.errors import (
    CalibrationMissingError,
    CodecError,
    ConfigError,
    CorruptContainerError,
    IdentityMismatchError,
    LimitExceededError,
)
from tests.attacks.forging import forged, set_field
from tests.cache.codecs.cases import (
    CASES,
    DTYPES,
    SHAPES,
    CodecCase,
    bits_of,
    every_codec,
    make_block,
    relative_error,
    same_bits,
    with_values,
)

# Whichever test comes first waits for kernels to be compiled.
pytestmark = [every_codec, pytest.mark.timeout(300)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_block_comes_back_in_its_shape_and_dtype_and_near_its_values(
    case: CodecCase, shape: str, dtype: str
) -> None:
    block = make_block(shape, dtype)
    codec = case.codec(block)
    found = codec.decode(codec.encode(block))
    assert found.keys.shape == found.values.shape == block.keys.shape
    assert found.keys.dtype == found.values.dtype == block.keys.dtype
    assert torch.isfinite(found.keys).all()
    assert torch.isfinite(found.values).all()
    if case.lossless:
        assert same_bits(found, block)
    if block.n_tokens > 1:
        assert relative_error(found.keys, block.keys) <= case.max_error
        assert relative_error(found.values, block.values) <= case.max_error


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_come_back_as_zeros(case: CodecCase, dtype: str) -> None:
    like = make_block(dtype=dtype)
    block = with_values(like, torch.zeros_like(like.keys))
    codec = case.codec(like)
    found = codec.decode(codec.encode(block))
    assert float(found.keys.abs().max()) <= (1.0 if case.name == "cachegen-auto" else 0)
    assert float(found.values.abs().max()) <= (1.0 if case.name == "cachegen-auto" else 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_greatest_and_the_least_numbers_stay_finite(case: CodecCase, dtype: str) -> None:
    like = make_block(dtype=dtype)
    info = torch.finfo(like.keys.dtype)
    least = info.smallest_normal * info.eps  # the smallest subnormal
    edges = torch.tensor(
        [info.max, -info.max, least, -least, info.tiny, 0.0, -0.0, 1.0], dtype=torch.float64
    ).to(like.keys.dtype)
    keys = edges.repeat(like.keys.numel() // len(edges)).view(like.keys.shape)
    values = keys.clone()
    values[:, :, 1::2] = edges[3]  # tokens of nothing but a subnormal
    codec = case.codec(like)
    block = with_values(like, keys, values)
    found = codec.decode(codec.encode(block))
    assert torch.isfinite(found.keys).all()
    assert torch.isfinite(found.values).all()
    if case.lossless:
        assert same_bits(found, block)


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf"])
def test_a_value_that_is_no_number_is_refused_or_carried_exactly(case: CodecCase, bad: str) -> None:
    like = make_block()
    keys, values = like.keys.clone(), like.values.clone()
    keys[1, 0, 3, 2] = float(bad)
    values[2, 1, 16, 15] = float(bad)
    block = with_values(like, keys, values)
    if not case.lossless:
        with pytest.raises(CodecError, match=r"token 3 holds NaN or infinities \(2 tokens do\)"):
            case.codec(like).encode(block)
    codec = case.codec(like, non_finite="exact")
    found = codec.decode(codec.encode(block))
    for token in (3, 16):
        assert bits_of(found.keys[:, :, token]) == bits_of(keys[:, :, token])
        assert bits_of(found.values[:, :, token]) == bits_of(values[:, :, token])
    others = [token for token in range(like.n_tokens) if token not in (3, 16)]
    assert torch.isfinite(found.keys[:, :, others]).all()
    error = relative_error(found.keys[:, :, others], keys[:, :, others])
    assert error <= case.max_error


def test_a_block_of_nothing_but_nan_is_carried_exactly(case: CodecCase) -> None:
    like = make_block()
    block = with_values(like, torch.full_like(like.keys, torch.nan))
    codec = case.codec(like, non_finite="exact")
    assert same_bits(codec.decode(codec.encode(block)), block)


def test_strides_do_not_matter(case: CodecCase) -> None:
    block = make_block()
    codec = case.codec(block)
    keys = block.keys.permute(2, 0, 3, 1).contiguous().permute(1, 3, 0, 2)
    wide = torch.zeros(3, 2, 34, 16, dtype=block.values.dtype)
    wide[:, :, ::2] = block.values
    strided = with_values(block, keys, wide[:, :, ::2])
    assert not strided.keys.is_contiguous()
    assert not strided.values.is_contiguous()
    assert codec.encode(strided) == codec.encode(block)


def test_a_block_that_wants_gradients_is_encoded_as_any_other(case: CodecCase) -> None:
    block = make_block(dtype="float32")
    learnt = with_values(block, block.keys.clone().requires_grad_(), block.values)
    codec = case.codec(block)
    assert codec.encode(learnt) == codec.encode(block)


def test_encoding_leaves_its_block_alone_and_repeats_itself(case: CodecCase) -> None:
    block = make_block()
    before = bits_of(block.keys) + bits_of(block.values)
    data = case.codec(block).encode(block)
    assert case.codec(block).encode(block) == data
    assert bits_of(block.keys) + bits_of(block.values) == before


def test_a_decoded_block_is_its_own(case: CodecCase) -> None:
    block = make_block()
    codec = case.codec(block)
    data = bytearray(codec.encode(block))
    found = codec.decode(data)
    again = codec.decode(bytes(data))
    data[:] = bytes(len(data))
    found.keys[:] += 1
    assert same_bits(codec.decode(codec.encode(block)), again)


@pytest.mark.parametrize("shape", ["128 layers", "grouped-query", "one token"])
def test_threads_change_nothing(case: CodecCase, shape: str) -> None:
    block = make_block(shape)
    one, four = case.codec(block), case.codec(block, threads=4)
    data = one.encode(block)
    assert four.encode(block) == data
    assert same_bits(four.decode(data), one.decode(data))


@pytest.mark.parametrize("shape", ["grouped-query", "128 layers", "no tokens", "one token"])
def test_a_section_alone_is_that_part_of_the_whole(case: CodecCase, shape: str) -> None:
    block = make_block(shape, position_start=3)
    codec = case.codec(block)
    data = codec.encode(block)
    header, whole = parse_header(data), codec.decode(data)
    first = int(header.has_shared_section)
    shared = read_section(header, 0, data) if first else b""
    layers = []
    for index in range(first, len(header.sections)):
        section = header.sections[index]
        part = data[section.offset : section.offset + section.size_bytes]
        checked = read_section(header, index, part, start=section.offset)
        found = codec.decode_section(header, index, checked, shared)
        low, high = section.layers
        assert bits_of(found.keys) == bits_of(whole.keys[low:high])
        assert bits_of(found.values) == bits_of(whole.values[low:high])
        assert (found.position_start, found.identity) == (3, block.identity)
        layers += range(low, high)
    assert layers == list(range(block.n_layers))


def test_a_section_of_another_size_is_refused_by_name(case: CodecCase) -> None:
    block = make_block()
    codec = case.codec(block)
    data = codec.encode(block)
    header = parse_header(data)
    last = len(header.sections) - 1
    section = bytes(read_section(header, last, data))
    shared = bytes(read_section(header, 0, data)) if header.has_shared_section else b""
    with pytest.raises(CorruptContainerError, match=f"section {last} has"):
        codec.decode_section(header, last, section + b"\0", shared)
    with pytest.raises(CorruptContainerError, match="shared section has"):
        codec.decode_section(header, last, section, shared + b"\0")
    for index in (-1, last + 1, *([0] if shared else [])):
        with pytest.raises(CodecError, match=f"section {index} holds no layers"):
            codec.decode_section(header, index, section, shared)


@pytest.mark.parametrize("rotated", [False, True])
def test_the_position_and_the_rotation_of_keys_are_kept(case: CodecCase, rotated: bool) -> None:
    block = make_block(position_start=70_000, keys_rotated=rotated)
    codec = case.codec(block)
    if rotated and case.name.startswith("kvtc"):
        with pytest.raises(CodecError, match="rotated"):
            codec.encode(block)
        return
    found = codec.decode(codec.encode(block))
    assert (found.position_start, found.keys_rotated) == (70_000, rotated)


def test_the_header_says_which_codec_and_which_kv(case: CodecCase) -> None:
    block = make_block()
    codec = case.codec(block)
    header = parse_header(codec.encode(block))
    assert header.codec == codec.name == case.name
    assert header.calibration == codec.calibration_sha256
    assert bool(header.calibration) == case.calibrated
    assert header.identity == block.identity
    assert header.layout.decoded_bytes == block.size_bytes


@pytest.mark.parametrize("field", ["model", "revision", "tokenizer", "rope", "dtype", "tokens"])
def test_kv_of_something_else_is_refused(case: CodecCase, field: str) -> None:
    block = make_block()
    codec = case.codec(block)
    data = codec.encode(block)
    same_bits(codec.decode(data, expected=block.identity), block)
    with pytest.raises(IdentityMismatchError, match=f"the container's {field} is"):
        codec.decode(data, expected=replace(block.identity, **{field: "another"}))


def test_a_container_is_decoded_by_the_codec_that_its_header_names(case: CodecCase) -> None:
    block = make_block()
    codec, calibration = case.codec(block), case.calibration(block)
    data = codec.encode(block)
    known = [calibration] if calibration else []
    assert same_bits(decode_container(data, calibrations=known), codec.decode(data))
    stranger = create_codec("int8" if case.name == "raw" else "raw")
    with pytest.raises(CodecError, match=f"a container of codec {case.name!r}, given to"):
        stranger.decode(data)


def test_a_calibration_that_is_not_at_hand_is_named(case: CodecCase) -> None:
    block = make_block()
    data = case.codec(block).encode(block)
    if not case.calibrated:
        assert same_bits(decode_container(data), case.codec(block).decode(data))
        return
    with pytest.raises(CalibrationMissingError) as caught:
        decode_container(data)
    assert caught.value.sha256 == parse_header(data).calibration
    with pytest.raises(CalibrationMissingError, match="needs a calibration"):
        decode_container(forged(data, set_field(["calibration"], "")))
    with pytest.raises(ConfigError, match="needs a calibration"):
        create_codec(case.name)
    unsuited = Calibration({}, {"model": "m"})
    with pytest.raises(CodecError):
        decode_container(
            forged(data, set_field(["calibration"], unsuited.sha256)), calibrations=[unsuited]
        )
    other = make_block((2, 1, 9, 64))
    with pytest.raises(CodecError):
        case.codec(other).decode(data)
    with pytest.raises(CodecError):
        case.codec(other).encode(block)


def test_more_than_the_reader_allows_is_refused_before_it_is_allocated(case: CodecCase) -> None:
    block = make_block()
    codec = case.codec(block)
    data = codec.encode(block)
    codec.decode(data, max_decoded_bytes=block.size_bytes)
    with pytest.raises(LimitExceededError, match=f"the tensors would take {block.size_bytes}"):
        codec.decode(data, max_decoded_bytes=block.size_bytes - 1)


def test_every_byte_of_a_section_is_accounted_for(case: CodecCase) -> None:
    block = make_block()
    codec = case.codec(block, non_finite="exact")
    keys = block.keys.clone()
    keys[0, 0, 5, 0] = torch.inf
    data = codec.encode(with_values(block, keys, block.values))
    header = parse_header(data)
    shared = read_section(header, 0, data) if header.has_shared_section else b""
    for index, section in enumerate(header.sections):
        parts = codec.describe_section(header, index, read_section(header, index, data), shared)
        assert sum(parts.values()) == section.size_bytes
        assert all(size_bytes >= 0 for size_bytes in parts.values())
        if section.layers != (0, 0) and not case.lossless:
            assert parts["exact_rows"] > 0


@pytest.fixture(scope="module")
def digests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What another process decodes, by codec: digests of keys and values."""
    folder = tmp_path_factory.mktemp("containers")
    for one in CASES:
        if not one.level_of:
            _write_case(one, folder)
    done = subprocess.run(
        [sys.executable, "-c", _DECODE, folder],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return dict(line.split() for line in done.stdout.splitlines())


def test_another_process_decodes_the_same(case: CodecCase, digests: dict[str, str]) -> None:
    block = make_block()
    codec = case.codec(block)
    found = codec.decode(codec.encode(block))
    assert digests[case.name] == _digest(found)


_DECODE = """
import hashlib, pathlib, sys, torch
from ctxpress.cache import decode_container
from ctxpress.cache.calibration import Calibration
folder = pathlib.Path(sys.argv[1])
for path in sorted(folder.glob("*.ctxkv")):
    stored = path.with_suffix(".safetensors")
    known = [Calibration.load(stored)] if stored.exists() else []
    block = decode_container(path.read_bytes(), calibrations=known, threads=2)
    digest = hashlib.sha256()
    for tensor in (block.keys, block.values):
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    print(path.stem, digest.hexdigest())
"""


def _write_case(case: CodecCase, folder: Path) -> None:
    block = make_block()
    codec, calibration = case.codec(block), case.calibration(block)
    (folder / f"{case.name}.ctxkv").write_bytes(codec.encode(block))
    if calibration is not None:
        calibration.save(folder / f"{case.name}.safetensors")


def _digest(block: KVBlock) -> str:
    return hashlib.sha256(bits_of(block.keys) + bits_of(block.values)).hexdigest()
