"""Writes the model as a transformers folder, in bfloat16, as it computed in training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from training.reference_model.tokenizer import save_tokenizer

LIMIT_BYTES = 25_000_000


def export_model(model: Any, tokenizer: Tokenizer, folder: Path) -> int:
    """Write weights, configuration, tokenizer and generation defaults; returns their bytes.

    Generation ends with the line, as every answer does. Raises ValueError where the folder would
    be larger than what may ship.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = LlamaConfig.from_dict(_plain(model.config))
    fresh = LlamaForCausalLM(config)
    fresh.load_state_dict(model.state_dict())
    fresh = fresh.to(torch.bfloat16)
    fresh.config.dtype = torch.bfloat16
    fresh.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=[config.eos_token_id, tokenizer.token_to_id("Ċ")],
        pad_token_id=config.pad_token_id,
        do_sample=False,
    )
    fresh.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    n_bytes = sum(path.stat().st_size for path in folder.iterdir())
    if n_bytes > LIMIT_BYTES:
        raise ValueError(f"the folder has {n_bytes:,} bytes, more than {LIMIT_BYTES:,}")
    return n_bytes


def _plain(config: LlamaConfig) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    for key in ("_attn_implementation", "attn_implementation", "_name_or_path"):
        values.pop(key, None)
    return values
