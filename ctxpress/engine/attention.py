"""Attention over rows of different lengths, plain or with documents encoded in parallel (APE).

A row's keys fall into parts: what stands before the documents, the documents, what came after
them, and the tokens of this pass. Each part is attended to by itself and returns its output with
its log-sum-exp; one softmax in float32 over these mixes the outputs. For documents ("Adaptive
Parallel Encoding", arXiv 2502.05431, section 4), with z = q·k / sqrt(d)::

    L_C = log sum_{j in C} exp(z_j / T)        the documents' log-sum-exp at temperature T
    weight of the documents ~ exp(S · T · L_C),   of the rest ~ exp(L_O)

T = S = 1 is plain parallel encoding, and without documents it is ordinary causal attention.

It is registered with transformers under a name, as its AttentionInterface wants; no model is
changed. What a row wants travels with its keys: ``RowCache.update`` hands the model ``RowKeys``
instead of a tensor, and the model hands them on to :func:`row_attention` untouched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ctxpress.engine.lse import attend
from ctxpress.engine.sequence import SequenceKV

__all__ = ["ATTENTION_NAME", "ContextPlan", "Row", "RowCache", "RowKeys", "register_attention"]

ATTENTION_NAME = "ctxpress_rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextPlan:
    """Where a row's documents stand among its keys, and how they are weighed.

    ``[start, stop)`` are indices into the row's keys, not positions. ``temperature`` is T and
    ``scale`` is S of the paper.

    :raises ValueError: an empty or negative range, or T or S not above zero.
    """

    start: int
    stop: int
    temperature: float = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise ValueError(f"the documents' range [{self.start}, {self.stop}) is empty")
        for name in ("temperature", "scale"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be above zero, not {value}")


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence of a batch. All keys before this pass are visible to all of its tokens."""

    sequence: SequenceKV
    context: ContextPlan | None = None


@dataclass(frozen=True, slots=True)
class RowKeys:
    """What stands in for the key tensor: each row's keys ``(n_kv_heads, n_tokens, head_dim)``."""

    keys: Sequence[torch.Tensor]
    rows: Sequence[Row]


class RowCache:
    """The rows of one forward pass, as a transformers model expects its cache.

    Not a ``transformers.Cache``: a model only ever calls these methods, as a contract test shows.
    """

    is_compileable = False

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._n_before = [row.sequence.n_tokens for row in rows]

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_: Any,
        **__: Any,
    ) -> tuple[RowKeys, Sequence[torch.Tensor]]:
        """Append ``(rows, n_kv_heads, n, head_dim)`` to the rows of a layer; what they hold now."""
        pairs = [
            row.sequence.extend(layer_idx, keys, values)
            for row, keys, values in zip(self._rows, key_states, value_states, strict=True)
        ]
        return RowKeys([keys for keys, _ in pairs], self._rows), [values for _, values in pairs]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """The longest row's tokens before this pass; positions are always given, so only a hint."""
        return max(self._n_before, default=0)


def row_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: RowKeys | torch.Tensor,
    value: Sequence[torch.Tensor] | torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """The attention function for transformers: ``(rows, n, n_heads, head_dim)`` and no weights.

    ``query`` is ``(rows, n_heads, n, head_dim)``. Without a :class:`RowCache` it is transformers'
    own scaled dot-product attention.
    """
    if not isinstance(key, RowKeys):
        return _plain(module, query, key, value, attention_mask, scaling, softcap, kwargs)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    outputs = [
        _attend_row(one, keys, values, row.context, scale, sliding_window, softcap)
        for one, keys, values, row in zip(query, key.keys, value, key.rows, strict=True)
    ]
    return torch.stack(outputs).transpose(1, 2).contiguous(), None


def _plain(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: Any,
    mask: torch.Tensor | None,
    scaling: float | None,
    softcap: float | None,
    kwargs: Mapping[str, Any],
) -> tuple[torch.Tensor, None]:
    """Attention over tensors, as transformers computes it; its fused one knows no soft capping."""
    if softcap is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        output, _ = sdpa_attention_forward(
            module, query, key, value, mask, scaling=scaling, **kwargs
        )
        return output, None
    from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

    if mask is None:
        shape = (query.shape[2], key.shape[2])
        mask = torch.ones(shape, dtype=torch.bool, device=query.device).tril(shape[1] - shape[0])
    if mask.dtype == torch.bool:
        least = torch.finfo(query.dtype).min
        mask = torch.zeros(mask.shape, dtype=query.dtype, device=mask.device).masked_fill(
            ~mask, least
        )
    output, _ = eager_attention_forward(
        module, query, key, value, mask, scaling=scaling, softcap=softcap
    )
    return output, None


def _attend_row(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    context: ContextPlan | None,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """``(n_heads, n, head_dim)`` of one row, whose last ``n`` keys are the query's own tokens."""
    n_heads, n, head_dim = query.shape
    grouped = query.view(keys.shape[0], -1, n, head_dim)  # (n_kv_heads, group, n, head_dim)
    n_keys = keys.shape[1]
    past = n_keys - n
    if window is not None and n_keys <= window:
        window = None
    if window is not None:
        if context is not None:
            raise ValueError("documents in parallel reach beyond the model's sliding window")
        output, _ = attend(grouped, keys, values, scale, own=n, window=window, softcap=softcap)
        return output.view(n_heads, n, head_dim).to(query.dtype)
    outputs, weights = [], []

    def part(start: int, stop: int, temperature: float = 1.0, power: float = 1.0) -> None:
        if start == stop:
            return
        own = n if stop == n_keys else 0
        output, lse = attend(
            grouped,
            keys[:, start:stop],
            values[:, start:stop],
            scale / temperature,
            own=own,
            softcap=softcap,
        )
        outputs.append(output)
        weights.append(lse if power == 1.0 else lse * power)

    if context is None:
        if n == 1 or past == 0:
            part(0, n_keys)
        else:
            part(0, past)
            part(past, n_keys)
    else:
        part(0, context.start)
        power = context.scale * context.temperature
        part(context.start, context.stop, context.temperature, power)
        if n == 1:
            part(context.stop, n_keys)
        else:
            part(context.stop, past)
            part(past, n_keys)
    return _mixed(outputs, weights).view(n_heads, n, head_dim).to(query.dtype)


def _mixed(outputs: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """Outputs of parts by one softmax over their log weights, in float32."""
    if len(outputs) == 1:
        return outputs[0]
    shares = torch.softmax(torch.stack(list(weights)), dim=0)
    mixed = outputs[0].float() * shares[0].unsqueeze(-1)
    for output, share in zip(outputs[1:], shares[1:], strict=True):
        mixed.addcmul_(output.float(), share.unsqueeze(-1))
    return mixed


def register_attention() -> str:
    """Make :func:`row_attention` known to transformers, once; its name there."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if ATTENTION_NAME not in AttentionInterface():
        AttentionInterface.register(ATTENTION_NAME, row_attention)
        # Without a mask function a padded batch outside of rows would be attended to unmasked.
        AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)
    return ATTENTION_NAME
