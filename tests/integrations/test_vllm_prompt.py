"""Prompts for vLLM with documents in parallel: what is sent, and what the connector reads of it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.integrations.vllm import build_document_prompt, build_prompt, layout_of

TOKENS = st.lists(st.integers(0, 2**32 - 1), max_size=40)
SOME = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40)


@given(TOKENS, st.lists(SOME, min_size=1, max_size=5), SOME, st.integers(1, 33))
def test_what_is_loaded_fills_blocks_and_is_what_was_given(
    prefix: list[int], documents: list[list[int]], suffix: list[int], block_size: int
) -> None:
    prompt = build_prompt(prefix, documents, suffix, block_size=block_size, pad_token_id=7)
    layout = layout_of(json.loads(json.dumps(prompt.kv_transfer_params)))
    assert layout is not None
    assert not layout.encode
    assert layout.context_tokens % block_size == 0
    assert layout.pad_tokens < block_size
    flat = [*prefix, *(token for document in documents for token in document)]
    padding = [7] * layout.pad_tokens
    assert list(prompt.prompt_token_ids) == [*flat, *padding, *suffix]
    assert list(layout.document_tokens) == [len(document) for document in documents]


@given(TOKENS, st.lists(SOME, min_size=1, max_size=5), st.integers(1, 33))
def test_the_question_sees_documents_as_behind_the_longest_one(
    prefix: list[int], documents: list[list[int]], block_size: int
) -> None:
    prompt = build_prompt(prefix, documents, [1], block_size=block_size, pad_token_id=7)
    layout = layout_of(prompt.kv_transfer_params)
    assert layout is not None
    lengths = [len(document) for document in documents]
    lengths[-1] += layout.pad_tokens
    question = layout.context_tokens - layout.shift_tokens
    assert question == len(prefix) + max(lengths)


def test_a_request_with_documents_has_a_salt_of_its_own() -> None:
    salts = {
        build_prompt([1], [[2]], [3], block_size=4, pad_token_id=0).fields()["cache_salt"]
        for _ in range(50)
    }
    assert len(salts) == 50


def test_a_document_is_encoded_with_all_the_padding_it_may_need() -> None:
    prompt = build_document_prompt([1, 2], [3, 4, 5], block_size=16, pad_token_id=9)
    assert prompt.prompt_token_ids == (1, 2, 3, 4, 5, *[9] * 15)
    assert "cache_salt" not in prompt.fields()
    layout = layout_of(prompt.kv_transfer_params)
    assert layout is not None
    assert layout.encode
    assert layout.pad_tokens == 15


def test_ids_of_numpy_become_plain_numbers() -> None:
    ids = np.array([1, 2, 3])
    prompt = build_prompt(ids, [ids], ids, block_size=1, pad_token_id=0)  # type: ignore[arg-type]
    assert json.dumps(prompt.fields())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"documents_ids": []}, "no documents"),
        ({"documents_ids": [[1], []]}, "document 1 has no tokens"),
        ({"suffix_ids": []}, "behind the documents"),
        ({"prefix_ids": [-1]}, "-1 is no token id"),
        ({"prefix_ids": [1.5]}, "not token ids"),
        ({"block_size": 0}, "block_size"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
    ],
)
def test_what_makes_no_prompt_is_named(change: dict[str, Any], said: str) -> None:
    good: dict[str, Any] = {
        "prefix_ids": [1], "documents_ids": [[2]], "suffix_ids": [3],
        "block_size": 16, "pad_token_id": 0,
    }  # fmt: skip
    with pytest.raises(ValueError, match=said):
        build_prompt(**{**good, **change})


def test_parameters_of_others_are_left_alone() -> None:
    assert layout_of(None) is None
    assert layout_of({"do_remote_prefill": True}) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "version 2"),
        ({"version": None}, "version None"),
        ({"document_tokens": []}, "document_tokens"),
        ({"document_tokens": "12"}, "document_tokens"),
        ({"document_tokens": [0]}, "document_tokens"),
        ({"document_tokens": [True]}, "document_tokens"),
        ({"prefix_tokens": -1}, "prefix_tokens"),
        ({"pad_tokens": 2**40}, "pad_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"encode": 1}, "encode"),
        ({"encode": True, "document_tokens": [1, 2]}, "one document"),
        ({"temprature": 1}, "temprature"),
    ],
)
def test_parameters_that_nobody_wrote_so_are_refused(change: dict[str, Any], said: str) -> None:
    good = build_prompt([1], [[2]], [3], block_size=16, pad_token_id=0).kv_transfer_params
    with pytest.raises(ValueError, match=said):
        layout_of({"ctxpress": {**good["ctxpress"], **change}})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_nothing_but_a_layout_or_a_plain_error_comes_of_any_value(value: Any) -> None:
    try:
        layout_of({"ctxpress": value})
    except ValueError:
        return
    raise AssertionError("random values are no layout")
