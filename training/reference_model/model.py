"""The model: transformers' Llama with an attention that is fast to train on CPUs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.modeling_utils import AttentionInterface

from training.reference_model.initial import place_heads
from training.reference_model.tokenizer import MAX_LENGTH

_ATTENTION = "causal_bmm"


@dataclass(frozen=True, slots=True)
class Shape:
    """The model's sizes."""

    hidden: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    intermediate: int = 512
    rope_theta: float = 10_000.0


def create_model(shape: Shape, vocabulary_size: int, seed: int) -> LlamaForCausalLM:
    """A new model in float32: residual branches start at zero, but for the heads in place."""
    AttentionInterface.register(_ATTENTION, causal_attention)
    config = LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=MAX_LENGTH,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        attn_implementation=_ATTENTION,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            torch.nn.init.zeros_(parameter)
    place_heads(model, shape)
    return model


def causal_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention over whole rows, by matrix products.

    `query` is (n_rows, n_heads, n_tokens, head_dim), `key` and `value` have n_kv_heads; returns
    (n_rows, n_tokens, n_heads, head_dim). Queries that share a KV head are one product.
    """
    n_rows, n_heads, n_tokens, head_dim = query.shape
    n_kv_heads = key.shape[1]
    groups = n_heads // n_kv_heads
    scale = 1 / math.sqrt(head_dim) if scaling is None else scaling
    ahead = torch.ones(n_tokens, n_tokens, dtype=torch.bool).triu(1)
    mask = torch.zeros(n_tokens, n_tokens, dtype=query.dtype).masked_fill(ahead, -math.inf)
    flat_query = (query * scale).reshape(n_rows * n_kv_heads, groups * n_tokens, head_dim)
    flat_key = key.reshape(n_rows * n_kv_heads, n_tokens, head_dim)
    flat_value = value.reshape(n_rows * n_kv_heads, n_tokens, head_dim)
    logits = torch.bmm(flat_query, flat_key.mT).view(-1, groups, n_tokens, n_tokens)
    shares = torch.softmax(logits + mask, dim=-1).to(flat_value.dtype)
    mixed = torch.bmm(shares.view(-1, groups * n_tokens, n_tokens), flat_value)
    return mixed.view(n_rows, n_heads, n_tokens, head_dim).transpose(1, 2), None
