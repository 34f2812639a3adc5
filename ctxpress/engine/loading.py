"""Models whose KV can be moved: rotary decoders of transformers, found out by trying.

There is no list of model names. A model is taken if every layer keeps one key and one value a
token, keys carry a half-split rotary embedding and nothing else of their position, and a text
may be run in pieces. All of that is measured on four tokens when the model is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from ctxpress.cache.identity import KVIdentity
from ctxpress.engine.attention import register_attention
from ctxpress.engine.fingerprint import tokenizer_digest, weights_digest
from ctxpress.engine.rope import RotaryPositions
from ctxpress.engine.row_memory import RowMemory
from ctxpress.errors import ModelError
from ctxpress.models.checkpoint import Device, Dtype, ModelKind, load_checkpoint

__all__ = ["RotaryModel", "load_model", "new_cache", "wrap_model"]

CAUSAL = ModelKind(
    auto_class="AutoModelForCausalLM", noun="causal language model", used_by="the engine"
)
_SUPPORTED = (
    "supported are decoders that rotate the two halves of every head in every layer, "
    "such as Llama, Mistral, Qwen2, Qwen3 and Gemma"
)
_ATTENTION_LAYERS = {"full_attention", "sliding_attention"}
_PROBE_SHIFT = 40
# How far keys may differ, relative to their norm: by rounding, which grows through the layers.
_TOLERANCE_32_BIT = 1e-3
_TOLERANCE_16_BIT = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RotaryModel:
    """A causal language model whose keys can be un-rotated and placed anywhere.

    ``model``: of transformers, in evaluation mode. ``tokenizer``: its fast tokenizer, or None.
    ``identity``: what its KV belongs to, without ``tokens``. ``max_tokens``: its window.
    ``window_tokens``: how far back its sliding layers see; None where all layers see everything.
    ``row_memory``: where buffers for its KV come from.
    """

    name: str
    model: Any
    tokenizer: Any
    rope: RotaryPositions
    identity: KVIdentity
    n_layers: int
    n_kv_heads: int
    head_dim: int
    max_tokens: int
    window_tokens: int | None
    row_memory: RowMemory = field(default_factory=RowMemory)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        device: torch.device = self.model.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """In which it computes keys and values."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def start_ids(self) -> list[int]:
        """What its tokenizer puts in front of every text: often one token, often none."""
        if self.tokenizer is None:
            return []
        framed: list[int] = self.tokenizer("")["input_ids"]
        return [token for token in framed[:1] if token == self.tokenizer.bos_token_id]

    def token_ids(self, text: str) -> list[int]:
        """The tokens of a piece of text, without any that frame whole texts.

        :raises ModelError: the model came without a tokenizer.
        """
        if self.tokenizer is None:
            raise ModelError(f"{self.name}: came without a tokenizer")
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids


def load_model(
    source: str,
    *,
    revision: str | None = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    name: str | None = None,
) -> RotaryModel:
    """Load a model from a folder, or by its name on the Hugging Face hub.

    ``name``: what it is called, by default ``source``. ``dtype`` auto keeps that of the
    checkpoint. Weights are read from safetensors only, and code of a repository is never run.

    :raises MissingDependencyError: torch or transformers is not installed.
    :raises ModelError: the model is not at hand, damaged, or of a kind whose KV cannot be moved.
    """
    checkpoint = load_checkpoint(source, CAUSAL, revision=revision, device=device, dtype=dtype)
    files, _, held = checkpoint.identity.rpartition("/")
    model, _, commit = files.partition("@")
    return _rotary_model(
        name or source,
        checkpoint.model,
        checkpoint.tokenizer,
        identity_model=f"{model}/{held}",
        revision=commit,
    )


def wrap_model(model: Any, tokenizer: Any = None, *, name: str = "model") -> RotaryModel:
    """A causal language model of transformers that is in memory already.

    Its identity is a digest of all its weights.

    :raises ModelError: it is of a kind whose KV cannot be moved.
    """
    digest = f"weights:{weights_digest(model)}"
    return _rotary_model(name, model.eval(), tokenizer, identity_model=digest)


def new_cache(n_layers: int) -> Any:
    """An empty cache of transformers that keeps all tokens of all layers.

    Sliding layers too: their windows are kept by the attention mask, so that what leaves a window
    of one text is still there for another.
    """
    from transformers.cache_utils import Cache, DynamicLayer

    return Cache(layers=[DynamicLayer() for _ in range(n_layers)])


def _rotary_model(
    name: str, model: Any, tokenizer: Any, *, identity_model: str, revision: str = ""
) -> RotaryModel:
    config = model.config.get_text_config(decoder=True)
    layer_types = getattr(config, "layer_types", None)
    strange = set(layer_types or ()) - _ATTENTION_LAYERS
    if strange:
        raise _refusal(name, model, f"it has layers of type {', '.join(sorted(strange))}")
    module = getattr(model.get_decoder(), "rotary_emb", None)
    if module is None or not hasattr(module, "rope_type"):
        raise _refusal(name, model, "it has no rotary position embedding")
    n_layers = int(config.num_hidden_layers)
    try:
        rope = RotaryPositions(module, n_layers, layer_types)
    except ModelError as error:
        raise ModelError(f"{name}: {type(model).__name__} is not supported: {error}") from None
    model.set_attn_implementation(register_attention())
    window = config.sliding_window if _slides(config, layer_types) else None
    n_kv_heads, head_dim = _probe(name, model, rope, n_layers)
    return RotaryModel(
        name=name,
        model=model,
        tokenizer=tokenizer,
        rope=rope,
        identity=KVIdentity(
            model=identity_model,
            revision=revision,
            tokenizer=tokenizer_digest(tokenizer),
            rope=rope.describe(),
        ),
        n_layers=n_layers,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        max_tokens=int(config.max_position_embeddings),
        window_tokens=window,
    )


def _slides(config: Any, layer_types: Any) -> bool:
    if layer_types is not None:
        return "sliding_attention" in layer_types
    return getattr(config, "sliding_window", None) is not None


def _probe(name: str, model: Any, rope: RotaryPositions, n_layers: int) -> tuple[int, int]:
    """Heads and head dimension of the KV, after the promises of this module were put to the test.

    :raises ModelError: one of them does not hold.
    """
    ids = torch.arange(4, device=model.device)[None] % model.get_input_embeddings().num_embeddings
    try:
        here = _layers(model, n_layers, [(ids, 0)])
        there = _layers(model, n_layers, [(ids, _PROBE_SHIFT)])
        pieces = _layers(model, n_layers, [(ids[:, :2], 0), (ids[:, 2:], 2)])
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise _refusal(name, model, f"it does not run on a plain cache ({error})") from error
    shapes = {tuple(tensor.shape) for layer in here for tensor in layer}
    if len(shapes) != 1:
        raise _refusal(name, model, "its layers differ in heads, or its keys from its values")
    n_kv_heads, _, head_dim = shapes.pop()
    if rope.head_dim != head_dim:
        raise _refusal(name, model, f"it rotates {rope.head_dim} of {head_dim} dimensions a head")
    places = torch.arange(ids.shape[1], device=model.device)
    for layer in range(n_layers):
        keys = rope.unrotate(here[layer][0], places, layer)
        moved = rope.unrotate(there[layer][0], places + _PROBE_SHIFT, layer)
        values = here[layer][1]
        if not (_alike(keys, moved, values.dtype) and _alike(values, there[layer][1])):
            raise _refusal(name, model, f"keys of layer {layer} carry their position otherwise")
        if not all(map(_alike, here[layer], pieces[layer])):
            raise _refusal(name, model, f"layer {layer} differs where a text is run in pieces")
    return n_kv_heads, head_dim


def _layers(
    model: Any, n_layers: int, runs: list[tuple[torch.Tensor, int]]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values ``(n_kv_heads, n_tokens, head_dim)`` of each layer after some tokens."""
    cache = new_cache(n_layers)
    with torch.inference_mode():
        for ids, start in runs:
            places = torch.arange(start, start + ids.shape[1], device=ids.device)[None]
            model(input_ids=ids, position_ids=places, past_key_values=cache, use_cache=True)
    return [(layer.keys[0], layer.values[0]) for layer in cache.layers]


def _alike(one: torch.Tensor, other: torch.Tensor, dtype: torch.dtype | None = None) -> bool:
    exact = (dtype or one.dtype) == torch.float32
    most = _TOLERANCE_32_BIT if exact else _TOLERANCE_16_BIT
    one, other = one.float(), other.float()
    return bool((one - other).norm() <= most * one.norm())


def _refusal(name: str, model: Any, why: str) -> ModelError:
    return ModelError(f"{name}: {type(model).__name__} is not supported: {why}; {_SUPPORTED}")
