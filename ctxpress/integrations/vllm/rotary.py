"""The rotary embedding of a model that vLLM runs, made by transformers from its configuration."""

from __future__ import annotations

from typing import Any

import torch

from ctxpress.engine.rope import RotaryPositions
from ctxpress.errors import ModelError

__all__ = ["rotary_positions"]


def rotary_positions(config: Any, head_dim: int) -> RotaryPositions:
    """Angles by which keys of ``head_dim`` are put on positions and taken off.

    ``config``: of transformers, for the text model. No weights are made or read.

    :raises ModelError: the model has no rotary embedding of this kind, or one that turns only a
        part of each head, or angles that change with the length of the text.
    """
    from transformers import AutoModel

    name = getattr(config, "model_type", type(config).__name__)
    try:
        with torch.device("meta"):
            model = AutoModel.from_config(config)
        module = model.get_decoder().rotary_emb
        rope = RotaryPositions(
            type(module)(config=config),
            int(config.num_hidden_layers),
            getattr(config, "layer_types", None),
        )
    except ModelError:
        raise
    except Exception as error:  # models of transformers fail in many ways to be other ones
        raise ModelError(
            f"{name}: transformers finds no rotary embedding in its configuration "
            f"({type(error).__name__}: {error})"
        ) from error
    if rope.head_dim != head_dim:
        raise ModelError(f"{name} rotates {rope.head_dim} of {head_dim} dimensions a head")
    return rope
