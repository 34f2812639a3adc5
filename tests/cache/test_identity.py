"""Identities: what is named must be the same, and is asked for before a tensor exists."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from ctxpress.cache import KVBlock, KVIdentity, create_codec, decode_container
from ctxpress.cache.codecs.sectioned import SectionedCodec
from ctxpress.errors import CodecError, IdentityMismatchError

NAMES = [field.name for field in fields(KVIdentity)]
IDENTITY = KVIdentity(
    model="sha256:1f", revision="r1", tokenizer="t", rope="theta=1e4", dtype="float16", shard="0/1"
)


def block(identity: KVIdentity = IDENTITY) -> KVBlock:
    tensor = torch.zeros(2, 1, 3, 4, dtype=torch.float16)
    return KVBlock(keys=tensor, values=tensor, identity=identity)


def test_an_identity_comes_back_as_it_went() -> None:
    data = create_codec("raw").encode(block())
    assert decode_container(data, expected=IDENTITY).identity == IDENTITY
    data = create_codec("raw").encode(block(KVIdentity()))
    assert decode_container(data, expected=KVIdentity()).identity == KVIdentity()


@pytest.mark.parametrize("name", NAMES)
def test_another_value_of_any_field_is_refused_before_anything_is_allocated(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = create_codec("raw").encode(block())

    def allocated(*_: object) -> None:
        raise AssertionError("tensors were allocated for KV of something else")

    monkeypatch.setattr(SectionedCodec, "_allocated", allocated)
    with pytest.raises(IdentityMismatchError, match=f"the container's {name} is "):
        decode_container(data, expected=KVIdentity(**{name: "another"}))


def test_the_dtype_of_the_tensors_counts_where_the_identity_names_none() -> None:
    data = create_codec("raw").encode(block(KVIdentity(model="m")))
    decode_container(data, expected=KVIdentity(dtype="float16"))
    with pytest.raises(IdentityMismatchError, match="dtype is 'float16', and 'bfloat16' was asked"):
        decode_container(data, expected=KVIdentity(dtype="bfloat16"))


def test_a_block_cannot_contradict_its_identity() -> None:
    with pytest.raises(CodecError, match=r"tensors are float16, and identity.dtype is 'float32'"):
        block(KVIdentity(dtype="float32"))


@pytest.mark.parametrize("value", ["é", "a\nb", "x" * 513, 7, None, b"m"])
def test_fields_are_short_printable_texts(value: object) -> None:
    with pytest.raises(ValueError, match=r"identity\.model must be"):
        KVIdentity(model=value)  # type: ignore[arg-type]
