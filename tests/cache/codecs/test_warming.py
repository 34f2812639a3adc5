import logging
import time

import pytest
import torch

from ctxpress.cache import create_codec
from ctxpress.cache.codecs import warming
from ctxpress.cache.codecs.warming import warm_up
from ctxpress.errors import CodecError

SHAPE = {"n_layers": 2, "n_kv_heads": 2, "head_dim": 16}


class RefusingCodec:
    name = "refusing"

    def __init__(self) -> None:
        self.blocks: list[object] = []

    def encode(self, block: object) -> bytes:
        self.blocks.append(block)
        raise CodecError("not such KV")

    def decode(self, data: bytes) -> None:
        raise NotImplementedError


def test_a_codec_sees_kv_of_the_shape_and_dtype_that_will_come() -> None:
    codec = RefusingCodec()
    with pytest.raises(CodecError, match="not such KV"):
        warm_up(codec, **SHAPE, dtype=torch.bfloat16)  # type: ignore[arg-type]
    (block,) = codec.blocks
    assert block.keys.dtype == torch.bfloat16  # type: ignore[attr-defined]
    assert block.keys.shape[:2] == (2, 2)  # type: ignore[attr-defined]
    assert block.keys.shape[3] == 16  # type: ignore[attr-defined]


def test_what_is_quick_is_not_talked_of(caplog: pytest.LogCaptureFixture) -> None:
    warm_up(create_codec("int8"), **SHAPE, dtype=torch.float16, logger=logging.getLogger("warm"))
    assert not caplog.records


def test_what_takes_long_is_said_while_it_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(warming, "_SAY_AFTER_S", 0.0)

    class Codec:
        name = "long"

        def encode(self, block: object) -> bytes:
            for _ in range(1000):
                if caplog.records:
                    break
                time.sleep(0.01)
            return b""

        def decode(self, data: bytes) -> None:
            return None

    logger = logging.getLogger("warm")
    warm_up(Codec(), **SHAPE, dtype=torch.float16, logger=logger)  # type: ignore[arg-type]
    assert "codec long" in caplog.text
