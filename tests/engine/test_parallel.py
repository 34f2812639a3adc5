"""Documents encoded in parallel: held to one dense pass with a mask, and to plain attention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AttentionInterface

from ctxpress.cache.kv import KVBlock
from ctxpress.engine.attention import Row, register_attention
from ctxpress.engine.forward import run_rows
from ctxpress.engine.loading import RotaryModel
from ctxpress.engine.parallel import Mixing, encode_behind, parallel_row, sequential_row
from ctxpress.engine.sequence import SequenceKV
from ctxpress.errors import CodecError, ContextLengthError
from tests.engine.models import ARCHITECTURES, rotary_model

CLOSE = 1e-5
PREFIX = 7
LENGTHS = (12, 5, 9)
QUESTION = 6
# Windows that slide cannot see documents side by side; the others all can.
WIDE = {"sliding_window": 4096}
NAMES = [name for name in ARCHITECTURES if name != "mistral, sliding"]


def model_of(name: str) -> RotaryModel:
    wide = WIDE if name in ("gemma2", "gemma3") else {}
    model = rotary_model(name, **wide)
    model.model.set_attn_implementation(register_attention())
    return model


def ids(n: int, seed: int) -> list[int]:
    return torch.randint(3, 96, (n,), generator=torch.Generator().manual_seed(seed)).tolist()


TEXTS = [ids(PREFIX, 0), *(ids(n, 1 + i) for i, n in enumerate(LENGTHS)), ids(QUESTION, 9)]


def answer(model: RotaryModel, row: Row, start: int, tokens: list[int]) -> torch.Tensor:
    places = torch.arange(start, start + len(tokens))[None]
    return run_rows(model.model, [row], torch.tensor([tokens]), places, n_logits=0)[0]


def encoded(model: RotaryModel, *, prefix: bool = True) -> tuple[KVBlock | None, list[KVBlock]]:
    head = encode_behind(model, None, (), TEXTS[0]) if prefix else None
    before = TEXTS[0] if prefix else []
    return head, [encode_behind(model, head, before, text) for text in TEXTS[1:-1]]


def in_parallel(
    model: RotaryModel, mixing: Mixing, *, prefix: bool = True, pieces: int = 1
) -> torch.Tensor:
    head, documents = encoded(model, prefix=prefix)
    placed = parallel_row(model, head, documents, mixing)
    assert placed.next_position == (PREFIX if prefix else 0) + max(LENGTHS)
    step = QUESTION // pieces
    found = [
        answer(model, placed.row, placed.next_position + at, TEXTS[-1][at : at + step])
        for at in range(0, QUESTION, step)
    ]
    return torch.cat(found)


def dense(model: RotaryModel, mixing: Mixing, *, prefix: bool = True) -> torch.Tensor:
    """The definition: one pass, one softmax, every logit and every mask written out."""
    texts = TEXTS if prefix else [[], *TEXTS[1:]]
    flat = [token for text in texts for token in text]
    owner = torch.tensor([i for i, text in enumerate(texts) for _ in text])
    n_before = len(texts[0])
    starts = [0, *[n_before] * len(LENGTHS), n_before + max(LENGTHS)]
    places = torch.tensor([starts[i] + j for i, text in enumerate(texts) for j in range(len(text))])
    index = torch.arange(len(flat))
    last = len(texts) - 1
    visible = (index[None] <= index[:, None]) & (
        (owner[None] == owner[:, None]) | (owner[None] == 0) | (owner[:, None] == last)
    )
    is_context = (owner > 0) & (owner < last)
    asks = owner == last
    t, s = mixing.temperature, mixing.scale

    def attention(
        module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, **options: Any
    ) -> tuple[torch.Tensor, None]:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        logits = (query.double() @ key.double().transpose(2, 3)) * scaling
        cap = options.get("softcap")
        corner = logits[:, :, asks][..., is_context]
        if cap is not None:
            logits = cap * torch.tanh(logits / cap)
            # Capping comes last in the model, so temperature acts inside of it.
            corner = cap * torch.tanh(corner / t / cap)
        else:
            corner = corner / t
        corner = corner + (s * t - 1) * torch.logsumexp(corner, -1, keepdim=True)
        rows, columns = asks.nonzero(), is_context.nonzero().T
        logits[:, :, rows, columns] = corner
        logits = logits.masked_fill(~visible, float("-inf"))
        out = torch.softmax(logits, -1) @ value.double()
        return out.transpose(1, 2).to(query.dtype).contiguous(), None

    AttentionInterface.register("dense_reference", attention)
    model.model.set_attn_implementation("dense_reference")
    try:
        with torch.inference_mode():
            output = model.model(
                input_ids=torch.tensor([flat]),
                position_ids=places[None],
                attention_mask=torch.ones((1, 1, 1, 1), dtype=torch.bool),
            )
    finally:
        model.model.set_attn_implementation(register_attention())
    found: torch.Tensor = output.logits[0, asks]
    return found


@pytest.mark.parametrize("mixing", [Mixing(), Mixing(temperature=0.8, scale=0.9)], ids=["1", "APE"])
@pytest.mark.parametrize("name", NAMES)
def test_parallel_documents_equal_the_dense_definition(name: str, mixing: Mixing) -> None:
    model = model_of(name)
    assert torch.allclose(in_parallel(model, mixing), dense(model, mixing), atol=CLOSE)


@pytest.mark.parametrize("pieces", [2, 3, QUESTION])
def test_a_question_in_pieces_is_the_same_question(pieces: int) -> None:
    model, mixing = model_of("llama"), Mixing(temperature=0.7, scale=0.8)
    found = in_parallel(model, mixing, pieces=pieces)
    assert torch.allclose(found, in_parallel(model, mixing), atol=CLOSE)


def test_documents_need_no_prefix() -> None:
    model, mixing = model_of("llama"), Mixing(temperature=0.9, scale=0.9)
    found = in_parallel(model, mixing, prefix=False)
    assert torch.allclose(found, dense(model, mixing, prefix=False), atol=CLOSE)


def test_one_document_at_t_and_s_of_one_is_ordinary_causal_attention() -> None:
    model = model_of("llama")
    head, documents = encoded(model)
    placed = parallel_row(model, head, documents[:1], Mixing())
    found = answer(model, placed.row, placed.next_position, TEXTS[-1])
    with torch.inference_mode():
        whole = model.model(torch.tensor([[*TEXTS[0], *TEXTS[1], *TEXTS[-1]]])).logits[0]
    assert torch.allclose(found, whole[-QUESTION:], atol=CLOSE)


def test_documents_one_behind_the_other_are_ordinary_causal_attention() -> None:
    model = model_of("llama")
    blocks: list[KVBlock] = []
    start = 0
    for text in TEXTS[:-1]:
        row = sequential_row(model, blocks).row if blocks else Row(SequenceKV(model.n_layers))
        answer(model, row, start, text)
        keys, values = row.sequence.slice(start, start + len(text))
        blocks.append(
            KVBlock(
                keys=model.rope.unrotate(keys, torch.arange(start, start + len(text))),
                values=values,
                position_start=start,
            )
        )
        start += len(text)
    placed = sequential_row(model, blocks)
    found = answer(model, placed.row, placed.next_position, TEXTS[-1])
    with torch.inference_mode():
        whole = model.model(torch.tensor([[t for text in TEXTS for t in text]])).logits[0]
    assert torch.allclose(found, whole[-QUESTION:], atol=CLOSE)


def test_scaled_keys_alone_are_ape_with_the_inverse_temperature_as_scale() -> None:
    model, mixing = model_of("llama"), Mixing.by_temperature(0.8)
    head, documents = encoded(model)
    scaled = [replace(block, keys=block.keys / 0.8) for block in documents]
    placed = parallel_row(model, head, scaled, Mixing())
    found = answer(model, placed.row, placed.next_position, TEXTS[-1])
    assert torch.allclose(found, in_parallel(model, mixing), atol=CLOSE)


def test_rows_of_one_batch_have_plans_of_their_own() -> None:
    model = model_of("llama")
    head, documents = encoded(model)
    mixings = [Mixing(), Mixing(temperature=0.8, scale=0.9), Mixing(temperature=1.1, scale=0.7)]
    chosen = [documents, documents[:1], [documents[2], documents[0]]]
    alone, placed = [], []
    for mixing, blocks in zip(mixings, chosen, strict=True):
        one = parallel_row(model, head, blocks, mixing)
        alone.append(answer(model, one.row, one.next_position, TEXTS[-1]))
        placed.append(parallel_row(model, head, blocks, mixing))
    places = torch.stack([p.next_position + torch.arange(QUESTION) for p in placed])
    together = run_rows(
        model.model, [p.row for p in placed], torch.tensor([TEXTS[-1]] * 3), places, n_logits=0
    )
    for one, row in zip(alone, together, strict=True):
        assert torch.allclose(one, row, atol=CLOSE)


def test_the_order_of_documents_does_not_matter() -> None:
    model, mixing = model_of("llama"), Mixing(temperature=0.9, scale=0.9)
    head, documents = encoded(model)
    found = []
    for order in (documents, documents[::-1]):
        placed = parallel_row(model, head, order, mixing)
        found.append(answer(model, placed.row, placed.next_position, TEXTS[-1]))
    assert torch.allclose(*found, atol=CLOSE)


def test_documents_do_not_fit_a_sliding_window() -> None:
    model = model_of("mistral, sliding")
    head, documents = encoded(model)
    with pytest.raises(ContextLengthError, match="sliding layers see 24"):
        parallel_row(model, head, documents, Mixing())


def test_a_document_longer_than_the_window_is_refused_by_number() -> None:
    model = model_of("llama")
    with pytest.raises(ContextLengthError, match="300 positions are too many"):
        encode_behind(model, None, (), ids(300, 0))


def test_kv_of_another_model_is_refused() -> None:
    model, other = model_of("llama"), rotary_model("llama", seed=1)
    block = encode_behind(model, None, (), TEXTS[0])
    other.model.set_attn_implementation(register_attention())
    with pytest.raises(CodecError, match="model"):
        parallel_row(other, block, [], Mixing())
    with pytest.raises(CodecError, match="does not fit"):
        parallel_row(rotary_model("llama, one KV head"), block, [], Mixing())


def test_an_empty_document_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        encode_behind(model_of("llama"), None, (), [])
