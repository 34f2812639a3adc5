"""The suite itself leaves no codec out; and what every level promises that shares its code."""

from __future__ import annotations

import pytest

from ctxpress.cache import decode_container
from ctxpress.cache.codec import BUILTIN_CODECS
from ctxpress.cache.container import parse_header, read_section
from tests.cache.codecs.cases import (
    CASES,
    DTYPES,
    CodecCase,
    every_name,
    make_block,
    relative_error,
    same_bits,
)


def test_every_built_in_codec_is_in_the_suite() -> None:
    assert [case.name for case in CASES] == list(BUILTIN_CODECS)
    names = {case.name for case in CASES if not case.level_of}
    assert {case.level_of for case in CASES if case.level_of} <= names


@every_name
@pytest.mark.timeout(300)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_level_carries_a_block_within_its_bound(case: CodecCase, dtype: str) -> None:
    block = make_block(dtype=dtype)
    codec, calibration = case.codec(block), case.calibration(block)
    data = codec.encode(block)
    found = decode_container(data, calibrations=[calibration] if calibration else [])
    assert same_bits(codec.decode(data), found)
    assert found.dtype_name == dtype
    assert relative_error(found.keys, block.keys) <= case.max_error
    assert relative_error(found.values, block.values) <= case.max_error
    header = parse_header(data)
    assert header.codec == case.name
    shared = read_section(header, 0, data) if header.has_shared_section else b""
    for index, section in enumerate(header.sections):
        parts = codec.describe_section(header, index, read_section(header, index, data), shared)
        assert sum(parts.values()) == section.size_bytes
