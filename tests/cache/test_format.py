"""The page of the format is enough: a reader written from it alone reads what we write."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import ctxpress
from ctxpress.cache import container, create_codec, header
from ctxpress.cache.codec import BUILTIN_CODECS
from tests.attacks.forging import Forgery
from tests.cache import second_reader
from tests.cache.codecs.cases import DTYPES, SHAPES, make_block, with_values

PAGE = (Path(ctxpress.__file__).parent / "cache/FORMAT.md").read_text("utf-8")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["raw", "int8", "int4"])
def test_a_second_reader_reads_the_same_numbers(name: str, shape: str, dtype: str) -> None:
    block = make_block(shape, dtype, position_start=5)
    codec = create_codec(name, non_finite="exact")
    if block.n_tokens > 2:
        keys, values = block.keys.clone(), block.values.clone()
        keys[0, 0, 2, 0], values[-1, -1, 0, -1] = torch.nan, -torch.inf
        keys[:, :, 1] = torch.finfo(keys.dtype).max
        values[:, :, 1] = torch.finfo(keys.dtype).tiny / 4
        block = with_values(block, keys, values)
    data = codec.encode(block)
    ours, theirs = codec.decode(data), second_reader.read(data)
    for found, wanted in ((theirs.keys, ours.keys), (theirs.values, ours.values)):
        numbers = wanted.float().numpy()
        np.testing.assert_array_equal(found, numbers, strict=True)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(numbers))
    assert theirs.header["position_start"] == 5
    assert theirs.header["identity"]["model"] == block.identity.model


def test_it_is_independent() -> None:
    source = Path(second_reader.__file__).read_text("utf-8")
    imported = re.findall(r"^(?:import|from) (\w+)", source, re.M)
    assert {"ctxpress", "tests", "torch"}.isdisjoint(imported)


def test_the_second_reader_refuses_what_the_page_forbids() -> None:
    data = create_codec("int4").encode(make_block("odd head_dim"))
    for damaged in (data + b"\0", data[:-1], data[:300] + bytes([data[300] ^ 1]) + data[301:]):
        with pytest.raises(AssertionError):
            second_reader.read(damaged)
    forgery = Forgery.of(data)
    forgery.header["parameters"]["exact_tokens"] = [0]
    with pytest.raises(AssertionError):
        second_reader.read(forgery.build())


def test_the_page_names_the_limits_and_the_codecs_that_there_are() -> None:
    for number in (
        container.MAX_HEADER_BYTES,
        header.MAX_LAYERS,
        header.MAX_KV_HEADS,
        header.MAX_HEAD_DIM,
        header.MAX_TOKENS,
        header.MAX_POSITION,
    ):
        assert f"{number:,}" in PAGE
    described = PAGE.split("## 4. Codecs")[1]
    for name in BUILTIN_CODECS:
        family = name.split("-")[0]
        assert f"`{name}`" in described or f"`{family}" in described, name
