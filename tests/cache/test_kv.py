"""Blocks and codecs by name: what does not fit is an error that says what."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from ctxpress.cache import KVBlock, KVIdentity, create_codec, decode_container
from ctxpress.cache.codec import BUILTIN_CODECS
from ctxpress.cache.container import (
    ContainerHeader,
    KVLayout,
    header_bytes,
    parse_header,
    read_section,
    write_container,
)
from ctxpress.errors import CodecError, ConfigError, CorruptContainerError
from tests.cache.codecs.cases import make_block, same_bits

ONES = torch.ones(2, 1, 3, 4)


@pytest.mark.parametrize(
    ("keys", "values", "options", "message"),
    [
        (ONES[0], ONES[0], {}, "not 3-dimensional"),
        (ONES, ONES[:1], {}, "they must have one shape"),
        (ONES, ONES.half(), {}, "keys are torch.float32 and values torch.float16"),
        (ONES.double(), ONES.double(), {}, "one of float32, float16, bfloat16"),
        (ONES.int(), ONES.int(), {}, "one of float32, float16, bfloat16"),
        (ONES, ONES.to("meta"), {}, "keys are on cpu and values on meta"),
        (ONES[:0], ONES[:0], {}, "only n_tokens may be zero"),
        (ONES[:, :0], ONES[:, :0], {}, "only n_tokens may be zero"),
        (ONES[..., :0], ONES[..., :0], {}, "only n_tokens may be zero"),
        (ONES.numpy(), ONES, {}, "keys must be a dense torch tensor, not .*ndarray"),
        (ONES, ONES.to_sparse(), {}, "values must be a dense torch tensor"),
        (ONES, None, {}, "values must be a dense torch tensor, not .*NoneType"),
        (ONES, ONES, {"position_start": -1}, "an integer of at least 0, not -1"),
        (ONES, ONES, {"position_start": True}, "an integer of at least 0, not True"),
        (ONES, ONES, {"position_start": np.int64(3)}, "an integer of at least 0, not"),
        (ONES, ONES, {"position_start": 1.0}, "an integer of at least 0, not 1.0"),
        (ONES, ONES, {"keys_rotated": 1}, "keys_rotated must be a bool, not 1"),
    ],
)
def test_a_block_that_does_not_fit_together_is_an_error(
    keys: object, values: object, options: dict[str, object], message: str
) -> None:
    with pytest.raises(CodecError, match=message):
        KVBlock(keys=keys, values=values, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keys", "position", "message"),
    [
        (torch.ones(1, 1, 1, 4097), 0, "layout.head_dim must be an integer of 1 to 4096"),
        (torch.ones(1, 1025, 1, 1), 0, "layout.n_kv_heads must be an integer of 1 to 1024"),
        (torch.ones(1025, 1, 1, 1), 0, "layout.n_layers must be an integer of 1 to 1024"),
        (torch.ones(1, 1, 1, 1).expand(1, 1, 2**20 + 1, 1), 0, "layout.n_tokens must be"),
        (ONES, 2**31, "position_start must be an integer of 0 to 2147483647"),
    ],
)
def test_a_block_past_the_limits_of_the_format_is_refused(
    keys: torch.Tensor, position: int, message: str
) -> None:
    block = KVBlock(keys=keys, values=keys, position_start=position)
    with pytest.raises(CodecError, match=f"the block cannot be carried: {message}"):
        create_codec("raw").encode(block)


def test_more_exact_tokens_than_a_header_holds_are_refused() -> None:
    tensor = torch.full((1, 1, 200_000, 1), torch.nan, dtype=torch.float16)
    block = KVBlock(keys=tensor, values=tensor)
    with pytest.raises(CodecError, match="the header has 1.* bytes; 1048576 are allowed"):
        create_codec("int8", non_finite="exact").encode(block)


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview, "words", "table", "array"])
def test_bytes_may_come_in_any_form(form: object) -> None:
    block = make_block()
    data = create_codec("raw").encode(block)
    data = create_codec("raw").encode(replace(block, position_start=10 ** (len(data) % 4)))
    while len(data) % 4:  # digits of the position make the length fit
        start = parse_header(data).position_start
        data = create_codec("raw").encode(replace(block, position_start=start * 10))
    given = {
        "words": lambda: memoryview(data).cast("I"),
        "table": lambda: memoryview(data).cast("B", (2, len(data) // 2)),
        "array": lambda: np.frombuffer(data, np.uint8),
    }.get(form, lambda: form(data))()  # type: ignore[call-overload, operator]
    assert same_bits(decode_container(given), block)


def test_a_container_can_be_read_by_range() -> None:
    block = make_block()
    data = create_codec("raw").encode(block)
    end = header_bytes(data[:20])
    header = parse_header(data[:end])
    section = header.sections[header.section_of(1)]
    part = data[section.offset : section.offset + section.size_bytes]
    assert read_section(header, 1, part, start=section.offset) == part
    assert read_section(header, 1, data) == part
    for wrong, start in ((part[:-1], section.offset), (part, section.offset + 1), (b"", 0)):
        with pytest.raises(CorruptContainerError, match="truncated within section 1"):
            read_section(header, 1, wrong, start=start)
    with pytest.raises(ValueError, match="no layer 3"):
        header.section_of(3)


def header_for(n_layers: int, **parameters: object) -> ContainerHeader:
    return ContainerHeader(
        codec="raw",
        codec_version=1,
        layout=KVLayout(n_layers=n_layers, n_kv_heads=1, n_tokens=1, head_dim=1, dtype="float16"),
        identity=KVIdentity(),
        position_start=0,
        keys_rotated=False,
        parameters=parameters,
    )


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ([((0, 1), b"")], "sections hold 1 layers of 2"),
        ([((1, 2), b""), ((0, 1), b"")], "section 0 holds layers 1 to 2, not from layer 0"),
        ([((0, 2), bytes(2**20 + 17))], "section 0 has 1048593 bytes; 1048592 are allowed"),
    ],
)
def test_nothing_is_written_that_cannot_be_read(
    sections: list[tuple[tuple[int, int], bytes]], message: str
) -> None:
    with pytest.raises(CodecError, match=message):
        write_container(header_for(2), sections)


@pytest.mark.parametrize("value", [1.5, None, True, np.int64(1), 2**63, "\n", {1: 2}])
def test_parameters_are_texts_and_integers(value: object) -> None:
    with pytest.raises(ValueError, match="parameters"):
        header_for(1, x=value)


def test_parameters_come_back_as_they_went() -> None:
    given = {"a": [1, -(2**63)], "b": {"c": 'say "\\"'}, "d": (2, "x")}
    data = write_container(header_for(1, **given), [((0, 1), b"")])
    assert parse_header(data).parameters == {**given, "d": [2, "x"]}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("int9", {}, "no codec is called 'int9'; did you mean 'int"),
        ("raw", {"non_finite": "keep"}, "non_finite must be 'refuse' or 'exact', not 'keep'"),
        ("raw", {"threads": 0}, "threads must be an integer of at least 1, not 0"),
        ("raw", {"threads": 2.0}, "threads must be an integer of at least 1, not 2.0"),
        ("raw", {"threads": True}, "threads must be an integer of at least 1, not True"),
        ("raw", {"device": "quantum"}, "device 'quantum' cannot be used"),
        ("raw", {"device": "cuda:99"}, "device 'cuda:99' cannot be used"),
    ],
)
def test_a_wrong_option_is_named(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_codec(name, **options)  # type: ignore[arg-type]


def test_without_torch_a_codec_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from ctxpress.cache import create_codec\n"
        "from ctxpress.errors import MissingDependencyError\n"
        f"for name in {list(BUILTIN_CODECS)[:3]}:\n"
        "    try:\n"
        "        create_codec(name)\n"
        "    except MissingDependencyError as error:\n"
        "        print(error)\n"
        "try:\n"
        "    from ctxpress.cache import KVBlock\n"
        "except MissingDependencyError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == [
        f"the codec '{name}' needs torch: pip install 'ctxpress[torch]'"
        for name in ("raw", "int8", "int4")
    ] + ["a KVBlock needs torch: pip install 'ctxpress[torch]'"]
