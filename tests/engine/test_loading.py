"""Which models are taken, which are refused and why, and what identifies their KV."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ctxpress.cache import KVBlock, KVIdentity
from ctxpress.cache.chunk_key import tokens_digest
from ctxpress.engine import load_model, prefill, wrap_model
from ctxpress.errors import CodecError, ContextLengthError, IdentityMismatchError, ModelError
from tests.engine.models import SHAPE, random_model, rotary_model, save_checkpoint

IDS = list(range(3, 23))


def causal(kind: str, **changes: Any) -> Any:
    config = getattr(transformers, f"{kind}Config")(**{**SHAPE, **changes})
    return getattr(transformers, f"{kind}ForCausalLM")(config)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(path)
    return path


def test_a_folder_is_loaded_with_its_tokenizer_and_dtype(folder: Path) -> None:
    model = load_model(str(folder), device="cpu")
    assert model.token_ids("w3 w4 w5") == [3, 4, 5]
    assert (model.n_layers, model.n_kv_heads, model.head_dim) == (3, 2, 16)
    assert (model.max_tokens, model.window_tokens, model.dtype) == (256, None, torch.float32)
    assert load_model(str(folder), device="cpu", dtype="bfloat16").dtype == torch.bfloat16


def test_kv_of_a_bfloat16_model_is_bfloat16_and_comes_back(folder: Path) -> None:
    model = load_model(str(folder), device="cpu", dtype="bfloat16")
    block = prefill(model, IDS).block()
    assert block.dtype_name == "bfloat16"
    again = prefill(model, [5, 6], behind=[block], logits="last").logits[0, -1]
    whole = prefill(model, [*IDS, 5, 6], logits="last").logits[0, -1]
    assert torch.cosine_similarity(again.float(), whole.float(), dim=0) > 0.99


def test_the_identity_names_weights_dtype_tokenizer_rope_and_tokens(folder: Path) -> None:
    model = load_model(str(folder), device="cpu")
    assert model.identity.model.startswith("folder:")
    assert len(model.identity.tokenizer) == 64
    assert "rope_theta=10000" in model.identity.rope
    block = prefill(model, IDS).block(before=[7])
    digest = tokens_digest(IDS, before=tokens_digest([7]))
    wanted = replace(model.identity, dtype="float32", tokens=digest)
    assert block.identity == wanted
    other = load_model(str(folder), device="cpu", dtype="bfloat16")
    assert other.identity.model != model.identity.model


def test_other_weights_are_another_model() -> None:
    one, same, other = (rotary_model(seed=seed).identity for seed in (0, 0, 1))
    assert one == same
    assert one.model != other.model


@pytest.mark.parametrize(
    ("kind", "changes", "why"),
    [
        ("Bloom", {"n_head": 4, "n_layer": 2}, "no rotary position embedding"),
        ("Cohere", {}, "carry their position otherwise"),
        ("Phi3", {"partial_rotary_factor": 0.5}, "rotates 8 of 16 dimensions"),
        ("Qwen3Next", {"num_hidden_layers": 4}, "layers of type linear_attention"),
        ("SmolLM3", {"no_rope_layers": [1, 1, 0]}, "keys of layer 2 carry their position"),
    ],
)
def test_other_architectures_are_refused_by_name(
    kind: str, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(ModelError, match=why) as caught:
        wrap_model(causal(kind, **changes), name="theirs")
    assert str(caught.value).startswith(f"theirs: {kind}ForCausalLM is not supported")
    assert "Llama, Mistral, Qwen2, Qwen3 and Gemma" in str(caught.value)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0},
        {
            "rope_type": "longrope", "rope_theta": 1e4, "factor": 2.0,
            "original_max_position_embeddings": 128,
            "short_factor": [1.0] * 8, "long_factor": [2.0] * 8,
        },
    ],
    ids=lambda rope: rope["rope_type"],
)  # fmt: skip
def test_angles_that_change_with_length_are_refused(rope: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=f"rope type '{rope['rope_type']}' has angles that change"):
        wrap_model(random_model(rope_parameters=rope))


def test_a_missing_folder_is_one_clear_error() -> None:
    with pytest.raises(ModelError, match="there is no such folder"):
        load_model("./not-there")


def test_more_tokens_than_the_window_are_refused_before_they_are_run() -> None:
    model = rotary_model()
    with pytest.raises(ContextLengthError, match="257 tokens are too many .* holds 256"):
        prefill(model, [5] * 257)
    block = prefill(model, IDS).block()
    with pytest.raises(ContextLengthError, match="position 257"):
        prefill(model, IDS, behind=[block], positions=[237])


def test_kv_of_another_model_is_refused() -> None:
    model, other = rotary_model(), rotary_model(seed=1)
    with pytest.raises(IdentityMismatchError, match="model is 'weights:"):
        prefill(model, IDS, behind=[prefill(other, IDS).block()])
    unnamed = replace(prefill(other, IDS).block(), identity=KVIdentity())
    prefill(model, IDS, behind=[unnamed])


def test_kv_of_another_shape_is_refused() -> None:
    tensor = torch.zeros(3, 4, 5, 16)
    with pytest.raises(CodecError, match=r"KV of \(3, 4, 16\) .* has \(3, 2, 16\)"):
        prefill(rotary_model(), IDS, behind=[KVBlock(keys=tensor, values=tensor)])


def test_rotated_keys_stay_where_they_are() -> None:
    model = rotary_model()
    block = prefill(model, IDS).block()
    places = torch.arange(len(IDS))
    rotated = replace(block, keys=model.rope.rotate(block.keys, places), keys_rotated=True)
    same = prefill(model, [5, 6], behind=[rotated], logits="all").logits
    wanted = prefill(model, [5, 6], behind=[block], logits="all").logits
    assert torch.allclose(same, wanted, rtol=0, atol=1e-6)
    with pytest.raises(CodecError, match="rotated for position 0 cannot be placed at 4"):
        prefill(model, [5, 6], behind=[rotated], positions=[4])


def test_documents_side_by_side_must_fit_into_a_sliding_window() -> None:
    model = rotary_model("gemma3")
    block = prefill(model, IDS[:10]).block()
    prefill(model, [5, 6], behind=[block, block], positions=[0, 0])
    with pytest.raises(ContextLengthError, match="26 tokens at positions that do not follow"):
        prefill(model, [5] * 6, behind=[block, block], positions=[0, 0])


def test_what_a_tokenizer_puts_in_front_of_every_text_is_known(
    folder: Path, tmp_path: Path
) -> None:
    assert load_model(str(folder), device="cpu").start_ids == []
    save_checkpoint(tmp_path, bos=True)
    framed = load_model(str(tmp_path), device="cpu")
    assert framed.start_ids == [1]
    assert framed.token_ids("w3") == [3]


def test_tokens_without_a_tokenizer_are_an_error() -> None:
    with pytest.raises(ModelError, match="came without a tokenizer"):
        rotary_model().token_ids("text")
