"""First and second moments of KV and of what errors in it cost, gathered block by block."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ctxpress.cache.codecs.kvtc.units import Unit, unit_rows
from ctxpress.cache.kv import KVBlock
from ctxpress.errors import CodecError

__all__ = ["KVShape", "UnitMoments"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KVShape:
    """What all blocks of one model have in common."""

    n_layers: int
    n_kv_heads: int
    head_dim: int

    @classmethod
    def of(cls, block: KVBlock) -> KVShape:
        return cls(n_layers=block.n_layers, n_kv_heads=block.n_kv_heads, head_dim=block.head_dim)

    @property
    def layer_values(self) -> int:
        """Keys and values of a token in one layer."""
        return 2 * self.n_kv_heads * self.head_dim


class UnitMoments:
    """Sums over tokens of one unit's values, their products, and products of loss gradients.

    An error ``e`` in a token's values costs about ``0.5 * e @ cost @ e`` where ``cost`` is the mean
    product of gradients of the log-likelihood of text drawn from the model itself (Fisher
    information; Martens 2014, section 9).
    """

    def __init__(self, unit: Unit, head_dim: int) -> None:
        self.unit = unit
        self.head_dim = head_dim
        self.n_tokens = 0
        self._sum = torch.zeros(unit.n_values, dtype=torch.float64)
        self._products = torch.zeros(unit.n_values, unit.n_values, dtype=torch.float64)
        self._costs = torch.zeros_like(self._products)
        self._n_costs = 0

    def add(self, block: KVBlock, gradients: KVBlock | None) -> None:
        """Count the tokens of ``block``; ``gradients`` has one gradient for each of its values."""
        rows = unit_rows(block, self.unit)
        # Products in float32 of centred rows would need the mean first; float64 does not.
        wide = rows.double()
        self.n_tokens += len(rows)
        self._sum += wide.sum(0)
        self._products += wide.T @ wide
        if gradients is not None:
            slopes = unit_rows(gradients, self.unit)
            self._costs += (slopes.T @ slopes).double()
            self._n_costs += len(slopes)

    @property
    def mean(self) -> torch.Tensor:
        return self._sum / self.n_tokens

    @property
    def covariance(self) -> torch.Tensor:
        mean = self.mean
        return self._products / self.n_tokens - mean[:, None] * mean[None, :]

    @property
    def has_costs(self) -> bool:
        return self._n_costs > 0

    def head_traces(self) -> torch.Tensor:
        """Mean squared gradient of each head."""
        return self._costs.diagonal().view(-1, self.head_dim).mean(1) / max(1, self._n_costs)

    def cost(self, *, floor: float, joint: float = 0.5, ridge: float = 0.02) -> torch.Tensor:
        """The cost matrix, made safe against what few samples leave open.

        ``joint``: how much of the products between heads is believed. ``ridge``: the least cost of
        a direction, as a part of its head's mean. ``floor``: the least mean cost of a head. Without
        gradients the errors of keys and values of each layer count relative to their variance.

        :raises CodecError: there were gradients, and all of them are zero.
        """
        if not self.has_costs:
            return self._relative_cost()
        if floor <= 0:
            raise CodecError("all loss gradients are zero: nothing after the texts depends on them")
        cost = self._costs / self._n_costs
        heads = torch.arange(len(cost)) // self.head_dim
        same_head = heads[:, None] == heads[None, :]
        cost = torch.where(same_head, cost, joint * cost)
        mean = self.head_traces().clamp_min(floor).repeat_interleave(self.head_dim)
        return cost + torch.diag(ridge * mean)

    def _relative_cost(self) -> torch.Tensor:
        variance = self.covariance.diagonal().view(-1, self.head_dim).mean(1)
        largest = float(variance.max())
        least = 1e-6 * largest if largest > 0 else 1.0
        return torch.diag((1 / variance.clamp_min(least)).repeat_interleave(self.head_dim))
