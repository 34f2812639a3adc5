"""Any bytes give a block or one of our errors, whichever codec the header names."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctxpress.cache import decode_container
from ctxpress.cache.container import parse_header
from ctxpress.errors import CodecError, CorruptContainerError
from tests.attacks.mutations import mutated
from tests.cache.codecs.cases import CASES, CodecCase, every_codec, make_block, with_values

# Whichever test comes first waits for kernels to be compiled.
pytestmark = pytest.mark.timeout(300)
MOST_BYTES = 2**22
SHAPES = ((3, 2, 17, 16), (1, 1, 3, 5), (2, 2, 0, 8), (2, 1, 40, 33))
fuzzed = settings(deadline=None, suppress_health_check=list(HealthCheck))


class Drawn:
    """Choices that hypothesis makes, and knows how to make simpler."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def integer(self, least: int, most: int) -> int:
        return self._data.draw(st.integers(least, most))

    def data(self, most: int) -> bytes:
        return self._data.draw(st.binary(max_size=most))


@cache
def containers(name: str, shape: tuple[int, int, int, int]) -> tuple[bytes, ...]:
    """Containers in order, of every dtype and with exact tokens."""
    case = next(case for case in CASES if case.name == name)
    found = []
    for dtype in ("float32", "float16", "bfloat16"):
        block = make_block(shape, dtype)
        codec = case.codec(block, non_finite="exact")
        found.append(codec.encode(block))
        if block.n_tokens:
            keys = block.keys.clone()
            keys[:, :, 1] = torch.inf
            found.append(codec.encode(with_values(block, keys)))
    return tuple(found)


@every_codec
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@fuzzed
@given(data=st.data())
def test_a_mutated_container_gives_a_block_or_one_of_our_errors(
    case: CodecCase, shape: tuple[int, int, int, int], data: st.DataObject
) -> None:
    honest = data.draw(st.sampled_from(containers(case.name, shape)))
    hostile = mutated(honest, Drawn(data))
    calibration = case.calibration(make_block(shape))
    try:
        block = decode_container(
            hostile,
            calibrations=[calibration] if calibration else [],
            max_decoded_bytes=MOST_BYTES,
        )
    except CodecError:
        return
    assert block.size_bytes == parse_header(hostile).layout.decoded_bytes <= MOST_BYTES


@every_codec
def test_a_container_cut_anywhere_is_corrupt(case: CodecCase) -> None:
    block = make_block((1, 1, 3, 5))
    codec = case.codec(block)
    data = codec.encode(block)
    for length in range(len(data)):
        with pytest.raises(CorruptContainerError):
            codec.decode(data[:length])


@every_codec
def test_a_flipped_bit_anywhere_is_an_error(case: CodecCase) -> None:
    block = make_block((1, 1, 3, 5))
    codec = case.codec(block)
    data = codec.encode(block)
    for place in range(len(data)):
        for bit in (0, 3, 7):
            damaged = bytearray(data)
            damaged[place] ^= 1 << bit
            with pytest.raises(CodecError):
                codec.decode(damaged)


@fuzzed
@given(st.binary(max_size=300))
def test_bytes_of_nothing_in_particular_are_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptContainerError):
        decode_container(data)
