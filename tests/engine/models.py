"""Small models with random weights, one of each architecture that the engine is held to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from ctxpress.engine.loading import RotaryModel, wrap_model

SHAPE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "initializer_range": 0.15,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
YARN = {
    "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip

# Name -> class of transformers, and what differs from SHAPE.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama, one KV head": ("Llama", {"num_key_value_heads": 1}),
    "llama, as many KV heads": ("Llama", {"num_key_value_heads": 4}),
    "llama, llama3 rope": ("Llama", {"rope_parameters": LLAMA3}),
    "llama, yarn rope": ("Llama", {"rope_parameters": YARN}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "mistral, sliding": ("Mistral", {"sliding_window": 24}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {}),
    "gemma": ("Gemma", {}),
    "gemma2": ("Gemma2", {"sliding_window": 24}),
    "gemma3": ("Gemma3Text", {"sliding_window": 24, "layer_types": MIXED}),
}


def random_model(name: str = "llama", *, seed: int = 0, **changes: Any) -> Any:
    """A model of transformers in float32."""
    kind, differences = ARCHITECTURES[name]
    config_class = getattr(transformers, f"{kind}Config")
    model_class = getattr(transformers, f"{kind.removesuffix('Text')}ForCausalLM")
    torch.manual_seed(seed)
    return model_class(config_class(**{**SHAPE, **differences, **changes})).eval()


def rotary_model(name: str = "llama", *, seed: int = 0, **changes: Any) -> RotaryModel:
    """The same, loaded by the engine."""
    return wrap_model(random_model(name, seed=seed, **changes), name=name)


def save_checkpoint(path: Path, *, bos: bool = False, **changes: Any) -> None:
    """A folder with a random Llama and a tokenizer of the words ``w2`` to ``w95``."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    random_model(**changes).save_pretrained(path)
    vocabulary = {"[UNK]": 0, "[BOS]": 1, **{f"w{number}": number for number in range(2, 96)}}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if bos:
        backend.post_processor = processors.TemplateProcessing("[BOS] $A", None, [("[BOS]", 1)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", bos_token="[BOS]"
    ).save_pretrained(path)
