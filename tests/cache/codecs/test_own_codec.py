"""The codec of docs/kv.md: registered by a plugin, held to what all codecs promise."""

from __future__ import annotations

import re
import types
from pathlib import Path

import pytest
import torch

from ctxpress.cache import create_codec, decode_container
from ctxpress.cache.codec import CodecFactory
from ctxpress.cache.codecs import sectioned
from ctxpress.cache.container import parse_header, read_section
from ctxpress.errors import CodecError, CorruptContainerError, LimitExceededError
from ctxpress.manager import create_plugin_manager
from tests.attacks.forging import Forgery
from tests.cache.codecs.cases import SHAPES, make_block, relative_error, with_values

PAGE = (Path(__file__).parents[3] / "docs/kv.md").read_text("utf-8")


@pytest.fixture(scope="module")
def codecs() -> dict[str, str | CodecFactory]:
    section = PAGE.split("### A codec of your own\n")[1]
    code = re.search(r"```python\n(.*?)```", section, re.S)
    assert code is not None
    module = types.ModuleType("float8_plugin")
    exec(compile(code[1], "docs/kv.md", "exec"), module.__dict__)
    return create_plugin_manager(plugins=[module]).codec_factories()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_documented_codec_carries_blocks(
    codecs: dict[str, str | CodecFactory], shape: str
) -> None:
    block = make_block(shape)
    codec = create_codec("float8", threads=2, codecs=codecs)
    data = codec.encode(block)
    found = decode_container(data, expected=block.identity, codecs=codecs)
    assert relative_error(found.keys, block.keys) < 0.04
    header = parse_header(data)
    assert sum(s.size_bytes - 4 for s in header.sections) == block.size_bytes // 2
    part = codec.describe_section(header, 0, read_section(header, 0, data))  # type: ignore[attr-defined]
    assert set(part) == {"framing", "exact_rows", "payload"}


def test_it_is_given_tokens_that_are_no_numbers_by_its_base(
    codecs: dict[str, str | CodecFactory],
) -> None:
    block = make_block()
    keys = block.keys.clone()
    keys[0, 0, 4, 0] = torch.nan
    codec = create_codec("float8", non_finite="exact", codecs=codecs)
    found = codec.decode(codec.encode(with_values(block, keys)))
    assert torch.isnan(found.keys[0, 0, 4, 0])
    assert torch.isnan(found.keys).sum() == 1
    with pytest.raises(CodecError, match="token 4 holds NaN"):
        create_codec("float8", codecs=codecs).encode(with_values(block, keys))


def test_it_refuses_what_it_would_not_have_written(
    codecs: dict[str, str | CodecFactory],
) -> None:
    forgery = Forgery.of(create_codec("float8", codecs=codecs).encode(make_block()))
    forgery.sections[1] += b"\0"
    with pytest.raises(CorruptContainerError, match="section 1 has 1089 bytes, not 1088"):
        decode_container(forgery.build(), codecs=codecs)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("out of memory")])
def test_memory_that_is_not_there_is_a_limit(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    block = make_block()
    codec = create_codec("raw")
    data = codec.encode(block)

    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(sectioned, "empty_tensor", fail)
        with pytest.raises(LimitExceededError, match=f"cannot allocate {block.size_bytes} bytes"):
            codec.decode(data)
    if isinstance(error, MemoryError):
        monkeypatch.setattr(type(codec), "decode_into", fail)
        with pytest.raises(LimitExceededError, match="not enough memory to decode"):
            codec.decode(data)
