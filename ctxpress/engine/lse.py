"""Attention that also returns the log-sum-exp of its logits, without repeating the heads of GQA.

One function, three ways to compute it: a kernel of our own for bfloat16 on processors that multiply
it; fused kernels where torch has one that returns the log-sum-exp (its CPU flash kernel; CUDA's in
half precision); and plain matrices everywhere. torch's are private names, so they are used here and
nowhere else, and tests hold all ways to each other.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ctxpress.engine.bfloat16_attention import attend_bfloat16, can_attend_bfloat16

__all__ = ["attend", "attend_eager"]

_LEAST_ROWS = 16  # with fewer queries torch's flash kernel is as fast, and they would fill no lanes
_Kernel = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, float, bool], tuple[torch.Tensor, torch.Tensor]
]


def attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scale: float,
    *,
    own: int,
    window: int | None = None,
    softcap: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of one row over one run of keys.

    ``query``: ``(n_kv_heads, group, n, head_dim)``, the query heads of each key head together.
    ``keys``, ``values``: ``(n_kv_heads, n_keys, head_dim)``. ``own``: the last so many keys are the
    query's own tokens, causally visible (0 or n); all others are visible to all. ``window``: only
    that many keys back, the token itself included. ``softcap``: logits through ``c·tanh(z/c)``.

    Returns the output ``(n_kv_heads, group, n, head_dim)`` in the query's dtype or float32, and
    the log-sum-exp ``(n_kv_heads, group, n)`` in float32.
    """
    n, n_keys = query.shape[2], keys.shape[1]
    causal = own > 1
    square = n_keys == n
    if window is not None or softcap is not None or (causal and not square):
        return attend_eager(query, keys, values, scale, own=own, window=window, softcap=softcap)
    if not causal:
        folded = query.reshape(query.shape[0], -1, query.shape[3])
        if folded.shape[1] >= _LEAST_ROWS and can_attend_bfloat16(folded, keys, values):
            output, lse = attend_bfloat16(folded, keys, values, scale)
            return output.view(query.shape), lse.view(query.shape[:3])
    fused = _fused(query)
    if fused is None:
        return attend_eager(query, keys, values, scale, own=own)
    return fused(query, keys, values, scale, causal)


def attend_eager(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scale: float,
    *,
    own: int,
    window: int | None = None,
    softcap: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """:func:`attend` by matrices in float32; works everywhere and holds all logits at once."""
    n, n_keys = query.shape[2], keys.shape[1]
    logits = torch.matmul(query.float(), keys.float().transpose(1, 2).unsqueeze(1)) * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    if own > 1 or window is not None:
        index = torch.arange(n_keys, device=query.device)
        place = torch.arange(n_keys - n, n_keys, device=query.device).unsqueeze(1)
        hidden = index > place if own else torch.zeros_like(index > place)
        if window is not None:
            hidden = hidden | (index <= place - window)
        logits = logits.masked_fill(hidden, float("-inf"))
    lse = torch.logsumexp(logits, dim=-1)
    output = torch.matmul(torch.exp(logits - lse.unsqueeze(-1)), values.float().unsqueeze(1))
    return output, lse


def _fused(query: torch.Tensor) -> _Kernel | None:
    if query.device.type == "cpu":
        return _cpu_flash
    if query.device.type == "cuda" and query.dtype in (torch.float16, torch.bfloat16):
        return _cuda_flash
    return None


def _cpu_flash(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float, causal: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    folded, n = _folded(query, causal)
    output, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        folded, _shared(keys, folded), _shared(values, folded), 0.0, causal, scale=scale
    )
    return output.reshape(query.shape), lse.reshape(*query.shape[:2], n)


def _cuda_flash(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float, causal: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    folded, n = _folded(query, causal)
    output, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
        folded, _shared(keys, folded), _shared(values, folded), 0.0, causal, False, scale=scale
    )
    return output.reshape(query.shape), lse.reshape(*query.shape[:2], n)


def _folded(query: torch.Tensor, causal: bool) -> tuple[torch.Tensor, int]:
    """Without a causal mask the query heads of a group are more tokens of one head."""
    n = query.shape[2]
    if causal:
        return query, n
    return query.reshape(query.shape[0], 1, -1, query.shape[3]), n


def _shared(tensor: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """``(n_kv_heads, n, head_dim)`` seen by every query head of its group, without a copy."""
    return tensor.unsqueeze(1).expand(-1, query.shape[1], -1, -1)
