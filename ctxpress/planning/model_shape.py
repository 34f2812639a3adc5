"""The shape of a model: what its KV weighs, and what computing a context costs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctxpress.errors import ConfigError
from ctxpress.nearest import did_you_mean
from ctxpress.planning.constants import read_constants

__all__ = ["ModelShape", "model_shape"]

_FP16_BYTES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A decoder with gated feed-forward layers, dense or of experts, and keys and values per head.

    ``n_active_experts`` of ``n_experts`` read a token; both 1 in dense models.
    ``feed_forward_dim``: the width of one expert.
    """

    name: str
    n_layers: int
    hidden_dim: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    feed_forward_dim: int
    vocabulary: int
    tied: bool = False
    n_experts: int = 1
    n_active_experts: int = 1

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of one token, all layers, in fp16 or bf16."""
        return 2 * self.n_layers * self.n_kv_heads * self.head_dim * _FP16_BYTES

    @property
    def n_parameters(self) -> int:
        """All weights but biases and norms."""
        tables = (1 if self.tied else 2) * self.vocabulary * self.hidden_dim
        return tables + self.n_layers * self._layer(self.n_experts)

    def prefill_flop(self, n_tokens: int) -> float:
        """Floating-point operations to read a context, a multiplication and an addition being two.

        Every token meets every active weight, and every token before it in attention (causal, so
        half of the square). The head, for one token only, is left out.
        """
        weights = 2 * self.n_layers * self._layer(self.n_active_experts) * n_tokens
        attention = 2 * self.n_layers * self.n_heads * self.head_dim * n_tokens**2
        return float(weights + attention)

    def _layer(self, n_experts: int) -> int:
        attention = 2 * self.hidden_dim * (self.n_heads + self.n_kv_heads) * self.head_dim
        return attention + 3 * n_experts * self.hidden_dim * self.feed_forward_dim


def model_shape(name: str) -> ModelShape:
    """A built-in shape by its name, or that of a model's folder (its ``config.json``).

    :raises ConfigError: there is neither, or the model keeps no keys and values per head.
    """
    folder = Path(name)
    if (folder / "config.json").is_file():
        try:
            config = json.loads((folder / "config.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{folder / 'config.json'}: cannot be read: {error}") from error
        return _from_config(folder.resolve().name, config)
    known = read_constants("models")["models"]
    short = name.rpartition("/")[2].removesuffix("-Instruct")
    if short not in known:
        hint = did_you_mean(short, known)
        raise ConfigError(f"{name}: no folder with a config.json, and no built-in shape{hint}")
    return _from_config(short, known[short])


def _from_config(name: str, config: Any) -> ModelShape:
    if not isinstance(config, dict):
        raise ConfigError(f"{name}: its config.json is not an object")
    config = {**config, **(config.get("text_config") or {})}
    if config.get("kv_lora_rank"):
        raise ConfigError(f"{name}: latent attention (MLA) has no keys and values per head")
    heads = _number(name, config, "num_attention_heads")
    hidden = _number(name, config, "hidden_size")
    experts = config.get("num_experts") or config.get("num_local_experts") or 1
    width = "moe_intermediate_size" if config.get("moe_intermediate_size") else "intermediate_size"
    return ModelShape(
        name=name,
        n_layers=_number(name, config, "num_hidden_layers"),
        hidden_dim=hidden,
        n_heads=heads,
        n_kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or hidden // heads),
        feed_forward_dim=_number(name, config, width),
        vocabulary=_number(name, config, "vocab_size"),
        tied=bool(config.get("tie_word_embeddings", False)),
        n_experts=int(experts),
        n_active_experts=int(config.get("num_experts_per_tok") or 1) if experts > 1 else 1,
    )


def _number(name: str, config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if type(value) is not int or value < 1:
        raise ConfigError(f"{name}: its config.json has no {key}")
    return value
