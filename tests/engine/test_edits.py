"""Documents that change: what stays keeps its KV, at its new place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.cache.chunk_key import chunk_keys
from ctxpress.cache.kv import KVBlock
from ctxpress.engine.edits import plan_edit, reencode
from ctxpress.engine.loading import RotaryModel
from ctxpress.engine.parallel import Mixing, encode_behind
from ctxpress.engine.versions import DocumentVersions
from ctxpress.engine.worker import WorkerOptions
from ctxpress.errors import CodecError
from tests.engine.models import rotary_model
from tests.engine.small_worker import serving


def ids(n: int, seed: int) -> list[int]:
    return torch.randint(3, 96, (n,), generator=torch.Generator().manual_seed(seed)).tolist()


def run(model: RotaryModel, prefix: KVBlock, old: list[int], new: list[int]) -> KVBlock:
    before = encode_behind(model, prefix, PREFIX, old)
    work = reencode(model, prefix, before, new, plan_edit(old, new), piece_tokens=7)
    try:
        while True:
            next(work)
    except StopIteration as done:
        found: KVBlock = done.value
        return found


PREFIX = ids(6, 0)
TEXT = ids(40, 1)


@settings(deadline=None)
@given(
    old=st.lists(st.integers(0, 5), max_size=60),
    new=st.lists(st.integers(0, 5), max_size=60),
)
def test_a_plan_covers_the_new_text_and_takes_equal_tokens_only(
    old: list[int], new: list[int]
) -> None:
    place, last_old = 0, 0
    for start, stop, at in plan_edit(old, new).runs:
        assert start == place
        assert start < stop
        place = stop
        if at is not None:
            assert old[at : at + stop - start] == new[start:stop]
            assert at >= last_old
            last_old = at + stop - start
    assert place == len(new)


def test_a_text_that_did_not_change_is_not_computed() -> None:
    model = rotary_model()
    prefix = encode_behind(model, None, (), PREFIX)
    assert plan_edit(TEXT, TEXT).computed_tokens == 0
    again = run(model, prefix, TEXT, TEXT)
    before = encode_behind(model, prefix, PREFIX, TEXT)
    assert torch.allclose(again.keys, before.keys, atol=1e-5)
    assert torch.equal(again.values, before.values)


def test_text_that_was_added_at_the_end_is_exact() -> None:
    model = rotary_model()
    prefix = encode_behind(model, None, (), PREFIX)
    longer = [*TEXT, *ids(9, 2)]
    again, exact = run(model, prefix, TEXT, longer), encode_behind(model, prefix, PREFIX, longer)
    assert torch.allclose(again.keys, exact.keys, atol=1e-5)
    assert torch.allclose(again.values, exact.values, atol=1e-5)


def test_behind_an_insertion_the_first_layer_is_exact_and_the_rest_is_moved() -> None:
    model = rotary_model()
    prefix = encode_behind(model, None, (), PREFIX)
    new = [*TEXT[:15], *ids(5, 3), *TEXT[15:]]
    again, exact = run(model, prefix, TEXT, new), encode_behind(model, prefix, PREFIX, new)
    before = encode_behind(model, prefix, PREFIX, TEXT)
    assert plan_edit(TEXT, new).reused_tokens == len(TEXT)
    # Keys and values of the first layer depend on the token alone.
    assert torch.allclose(again.keys[0], exact.keys[0], atol=1e-5)
    assert torch.allclose(again.keys[:, :, :20], exact.keys[:, :, :20], atol=1e-5)
    assert torch.allclose(again.keys[:, :, 20:], before.keys[:, :, 15:], atol=1e-5)
    assert again.n_tokens == len(new)


def test_a_new_text_altogether_is_computed_and_exact() -> None:
    model = rotary_model()
    prefix = encode_behind(model, None, (), PREFIX)
    new = [(token + 40) % 93 + 3 for token in TEXT]
    assert plan_edit(TEXT, new).reused_tokens < len(TEXT) // 2
    again, exact = run(model, prefix, TEXT, new), encode_behind(model, prefix, PREFIX, new)
    assert torch.allclose(again.keys, exact.keys, atol=1e-5)


def test_kv_that_cannot_be_moved_is_refused() -> None:
    model = rotary_model()
    prefix = encode_behind(model, None, (), PREFIX)
    block = encode_behind(model, prefix, PREFIX, TEXT)
    plan = plan_edit(TEXT, TEXT)
    with pytest.raises(CodecError, match="un-rotated"):
        next(reencode(model, prefix, replace(block, keys_rotated=True), TEXT, plan))
    short = replace(block, keys=block.keys[:, :, :5], values=block.values[:, :, :5])
    with pytest.raises(CodecError, match="more tokens than the 5"):
        next(reencode(model, prefix, short, TEXT, plan))


def test_a_worker_edits_documents_that_it_knows_by_title() -> None:
    import httpx

    sentences = [f"Sentence {number} says {number * 7}. " for number in range(12)]
    changed = [*sentences[:3], "A new one stands here. ", *sentences[3:]]
    other = ["Nothing of this was there before. "] * 9

    def answer(url: str, text: list[str], title: str = "T") -> dict[str, Any]:
        body = {
            "messages": [{"role": "user", "content": "What?"}], "max_tokens": 3, "temperature": 0,
            "ctxpress": {"documents": [{"title": title, "text": "".join(text)}]},
        }  # fmt: skip
        answered = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
        found: dict[str, Any] = answered.json()["ctxpress"]
        return found

    with serving(WorkerOptions(mixing=Mixing(), edits=True)) as (url, _):
        assert answer(url, sentences)["edited_documents"] == 0
        first = answer(url, changed)
        assert first["edited_documents"] == 1
        assert first["cached_documents"] == 0
        assert first["cached_tokens"] > len("".join(sentences))
        again = answer(url, changed)  # kept, and still counted as what it is
        assert again["edited_documents"] == 1
        assert again["cached_tokens"] > first["cached_tokens"]
        assert answer(url, other)["edited_documents"] == 0
        assert answer(url, changed, title="U")["edited_documents"] == 0
    with serving(WorkerOptions(mixing=Mixing())) as (url, _):
        answer(url, sentences)
        assert "edited_documents" not in answer(url, changed)


def test_edits_are_made_from_exact_versions_only() -> None:
    versions = DocumentVersions(max_bytes=0)
    (first,) = chunk_keys(replace(rotary_model().identity, model="m"), TEXT, chunk_tokens=40)
    versions.remember("", "T", TEXT, first)
    edit = versions.edit("", "T", [*TEXT[:9], 5, *TEXT[9:]])
    assert edit is not None
    assert (edit.old, edit.plan.reused_tokens) == (first, 40)
    assert versions.edit("other", "T", TEXT) is None
    assert versions.edit("", "T", ids(40, 9)) is None
    versions.remember("", "", TEXT, first)
    assert versions.edit("", "", TEXT) is None


def test_long_texts_that_differ_are_not_compared_token_by_token() -> None:
    old, new = [1] * 30_000, [1, *[2, 3] * 15_000, 1]
    assert plan_edit(old, new).reused_tokens == 2
