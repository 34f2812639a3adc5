"""Documents in parallel inside vLLM answer as the engine's own APE with the same T and S = 1/T."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from ctxpress.engine import load_model
from ctxpress.engine.forms import answer_logits, run_tokens
from ctxpress.engine.loading import RotaryModel
from ctxpress.engine.parallel import (
    Mixing,
    PlacedRow,
    encode_behind,
    parallel_row,
    sequential_row,
)
from ctxpress.engine.reference import reference_model_dir
from ctxpress.integrations.vllm import VllmPrompt, build_document_prompt, build_prompt
from tests.vllm.servers import BLOCK_SIZE, PAD, VllmServer, cached_tokens

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

T = 0.8
# Log-probabilities down to exp(-30); sequential encoding in both differs by 2e-5 already.
CLOSE = 1e-3


@pytest.fixture(scope="module")
def model() -> RotaryModel:
    return load_model(str(reference_model_dir()), device="cpu", dtype="float32")


def tokens(seed: int, n_tokens: int) -> list[int]:
    source = random.Random(seed)
    return [source.randrange(10, 3500) for _ in range(n_tokens)]


PREFIX, QUESTION = tokens(1, 37), tokens(2, 20)
DOCUMENTS = [tokens(3, 96), tokens(4, 64), tokens(5, 150)]


def encode(server: VllmServer, prefix: Sequence[int], document: Sequence[int]) -> None:
    prompt = build_document_prompt(prefix, document, block_size=BLOCK_SIZE, pad_token_id=PAD)
    saves = server.counted("saves")
    server.complete(prompt.fields(), max_tokens=1)
    server.settle("saves", saves + 2)  # what comes last: the end of the document, and padding


def ask(server: VllmServer, prompt: VllmPrompt, n_tokens: int) -> tuple[torch.Tensor, int]:
    """The log-probabilities of the first token, over the vocabulary; how many were loaded."""
    answer = server.complete(
        prompt.fields(), max_tokens=1, logprobs=n_tokens, return_tokens_as_token_ids=True
    )
    (found,) = answer["choices"][0]["logprobs"]["top_logprobs"]
    row = torch.full((n_tokens,), float("nan"))
    for name, value in found.items():
        row[int(name.removeprefix("token_id:"))] = value
    assert not row.isnan().any()
    return row, cached_tokens(answer)


def padded(prompt: VllmPrompt, documents: Sequence[Sequence[int]]) -> list[list[int]]:
    n_pads = prompt.kv_transfer_params["ctxpress"]["pad_tokens"]
    return [*map(list, documents[:-1]), [*documents[-1], *[PAD] * n_pads]]


def parallel_reference(
    model: RotaryModel, documents: Sequence[Sequence[int]], mixing: Mixing
) -> torch.Tensor:
    head = encode_behind(model, None, (), PREFIX)
    blocks = [encode_behind(model, head, PREFIX, document) for document in documents]
    row = parallel_row(model, head, blocks, mixing)
    return torch.log_softmax(answer_logits(model, row, QUESTION, [0])[-1], -1)


def sequential_reference(model: RotaryModel, flat: Sequence[int]) -> torch.Tensor:
    row = sequential_row(model, []).row
    run_tokens(model, row, flat, 0, 1)
    placed = PlacedRow(row, len(flat))
    return torch.log_softmax(answer_logits(model, placed, QUESTION, [0])[-1], -1)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0), (1,)])
@pytest.mark.parametrize("temperature", [1.0, T])
def test_any_combination_answers_as_the_engine_does(
    exact: VllmServer, model: RotaryModel, order: tuple[int, ...], temperature: float
) -> None:
    stored = getattr(exact, "encoded", set())
    for number in set(order) - stored:
        encode(exact, PREFIX, DOCUMENTS[number])
    exact.encoded = stored | set(order)  # type: ignore[attr-defined]
    documents = [DOCUMENTS[number] for number in order]
    prompt = build_prompt(
        PREFIX,
        documents,
        QUESTION,
        block_size=BLOCK_SIZE,
        pad_token_id=PAD,
        temperature=temperature,
    )
    found, n_loaded = ask(exact, prompt, model.model.config.vocab_size)
    whole = padded(prompt, documents)
    assert n_loaded == len(PREFIX) + sum(map(len, whole))
    expected = parallel_reference(model, whole, Mixing.by_temperature(temperature))
    assert (found - expected).abs().max() < CLOSE


def test_a_document_that_was_never_seen_is_computed_in_its_place(
    exact: VllmServer, model: RotaryModel
) -> None:
    documents = [tokens(11, 50), tokens(12, 70)]
    encode(exact, PREFIX, documents[0])
    prompt = build_prompt(
        PREFIX, documents, QUESTION, block_size=BLOCK_SIZE, pad_token_id=PAD, temperature=T
    )
    found, n_loaded = ask(exact, prompt, model.model.config.vocab_size)
    assert n_loaded == 0
    flat = [*PREFIX, *(token for each in padded(prompt, documents) for token in each)]
    assert (found - sequential_reference(model, flat)).abs().max() < CLOSE
    assert exact.counted("parallel_computed", "a document is not stored") >= 1
    # An ordinary request stores it, and then it is used.
    encode(exact, PREFIX, documents[1])
    prompt = build_prompt(
        PREFIX, documents, QUESTION, block_size=BLOCK_SIZE, pad_token_id=PAD, temperature=T
    )
    found, n_loaded = ask(exact, prompt, model.model.config.vocab_size)
    whole = padded(prompt, documents)
    assert n_loaded == len(PREFIX) + sum(map(len, whole))
    expected = parallel_reference(model, whole, Mixing.by_temperature(T))
    assert (found - expected).abs().max() < CLOSE


def test_vllms_own_cache_never_mixes_two_combinations(
    exact: VllmServer, model: RotaryModel
) -> None:
    """The same tokens at the same places, one time loaded turned, one time computed plainly."""
    documents = [tokens(21, 64), tokens(22, 64)]
    for document in documents:
        encode(exact, PREFIX, document)
    prompt = build_prompt(PREFIX, documents, QUESTION, block_size=BLOCK_SIZE, pad_token_id=PAD)
    n_vocabulary = model.model.config.vocab_size
    ask(exact, prompt, n_vocabulary)
    plain = VllmPrompt(prompt_token_ids=prompt.prompt_token_ids, kv_transfer_params={})
    found, _ = ask(exact, plain, n_vocabulary)
    flat = [*PREFIX, *(token for each in padded(prompt, documents) for token in each)]
    assert (found - sequential_reference(model, flat)).abs().max() < CLOSE


def bad_fields(change: dict[str, Any], *, salt: bool = True) -> dict[str, Any]:
    prompt = build_prompt(PREFIX, DOCUMENTS, QUESTION, block_size=BLOCK_SIZE, pad_token_id=PAD)
    fields = prompt.fields()
    fields["kv_transfer_params"] = {
        "ctxpress": {**fields["kv_transfer_params"]["ctxpress"], **change}
    }
    return fields if salt else {k: v for k, v in fields.items() if k != "cache_salt"}


@pytest.mark.parametrize(
    "fields",
    [
        bad_fields({"version": 9}),
        bad_fields({"prefix_tokens": 38}),
        bad_fields({"pad_tokens": 0}),
        bad_fields({"temperature": -1}),
        bad_fields({"document_tokens": [10**6]}),
        bad_fields({}, salt=False),
    ],
    ids=["version", "lengths", "padding", "temperature", "size", "no salt"],
)
def test_bad_parameters_cost_the_reuse_and_no_answer(
    exact: VllmServer, fields: dict[str, Any]
) -> None:
    before = exact.counted("parallel_computed", "bad parameters")
    answer = exact.complete(fields)
    assert answer["choices"][0]["text"] is not None
    exact.settle("parallel_computed", before + 1)
    assert exact.said().count("computed as a plain prompt (bad parameters") == 1


def test_the_other_deployment_in_the_store_is_named(
    replicas: tuple[VllmServer, VllmServer], exact: VllmServer
) -> None:
    """KV of another dtype and codec is not used, and the log of the later one says why."""
    said = exact.said() + replicas[0].said() + replicas[1].said()
    assert "the store also holds KV of dtype" in said
    assert "the store also holds KV of codec" in said
