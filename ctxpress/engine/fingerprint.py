"""What KV belongs to: digests of weights and tokenizers, for ``KVIdentity``."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

__all__ = ["tokenizer_digest", "weights_digest"]

# What a configuration holds besides what the model computes.
_NEUTRAL = ("_name_or_path", "architectures", "dtype", "transformers_version", "use_cache")


def weights_digest(model: Any) -> str:
    """SHA-256 over the configuration and all weights of a model in memory, their dtype included.

    Reads every weight: about a second for a gigabyte.
    """
    config = {k: v for k, v in model.config.to_diff_dict().items() if k not in _NEUTRAL}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        flat = tensor.detach().contiguous().cpu().flatten()
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 over everything that a fast tokenizer of transformers does; empty for none."""
    if tokenizer is None:
        return ""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
