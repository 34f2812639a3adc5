"""One forward pass over rows: tokens in, logits out, keys and values left in the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ctxpress.engine.attention import Row, RowCache

__all__ = ["run_rows"]


def run_rows(
    model: Any,
    rows: Sequence[Row],
    token_ids: torch.Tensor,
    positions: torch.Tensor,
    *,
    n_logits: int = 1,
) -> torch.Tensor:
    """Run the same number of new tokens of every row; each row's own keys grow by them.

    ``token_ids`` and ``positions`` are ``(rows, n)``. The model must use the attention that
    ``register_attention`` names. Returns the logits of the last ``n_logits`` tokens (0: of all),
    ``(rows, n_logits, vocabulary)``.
    """
    with torch.inference_mode():
        output = model(
            input_ids=token_ids,
            position_ids=positions,
            past_key_values=RowCache(rows),
            # A mask of four dimensions goes through untouched, so none is computed: what a row's
            # tokens may see follows from its keys.
            attention_mask=torch.ones((1, 1, 1, 1), dtype=torch.bool, device=token_ids.device),
            use_cache=True,
            logits_to_keep=n_logits,
        )
    logits: torch.Tensor = output.logits
    return logits
