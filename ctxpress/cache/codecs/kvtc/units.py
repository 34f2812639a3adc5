"""Which values are transformed together: sections of layers, and the units of a section.

A token's values in a section stand in the order (layer, keys before values, head, dimension). They
are cut into units of whole heads, each of which has a transform of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ctxpress.cache.kv import KVBlock

__all__ = ["MAX_COMPONENTS", "Unit", "sections_of", "unit_rows", "units_of"]

MAX_COMPONENTS = 2048  # of one unit; also what keeps sums of products within 32 bits


@dataclass(frozen=True, slots=True)
class Unit:
    """Values ``[start, stop)`` of a token in the layers ``[first_layer, last_layer)``."""

    first_layer: int
    last_layer: int
    start: int
    stop: int

    @property
    def n_values(self) -> int:
        return self.stop - self.start


def sections_of(n_layers: int, layer_values: int, max_values: int) -> list[tuple[int, int]]:
    """Layer ranges ``[first, last)`` of about equal length with at most ``max_values`` values.

    ``layer_values``: keys and values of one token in one layer. One layer is the least.
    """
    n_sections = -(-n_layers // max(1, max_values // layer_values))
    edges = [index * n_layers // n_sections for index in range(n_sections + 1)]
    return list(zip(edges, edges[1:], strict=False))


def units_of(
    sections: list[tuple[int, int]], n_kv_heads: int, head_dim: int, max_values: int
) -> list[Unit]:
    """The units of all sections, in order; a head is the least that one holds."""
    units = []
    for first, last in sections:
        n_heads = (last - first) * 2 * n_kv_heads
        n_units = -(-n_heads // max(1, max_values // head_dim))
        edges = [index * n_heads // n_units * head_dim for index in range(n_units + 1)]
        units += [Unit(first, last, a, b) for a, b in zip(edges, edges[1:], strict=False)]
    return units


def unit_rows(block: KVBlock, unit: Unit) -> torch.Tensor:
    """The unit's values as float32 ``(n_tokens, n_values)``."""
    layers = slice(unit.first_layer, unit.last_layer)
    both = torch.stack((block.keys.detach()[layers], block.values.detach()[layers]), dim=1)
    heads = both.flatten(0, 2)  # (layers * 2 * heads, tokens, head_dim)
    head_dim = block.head_dim
    chosen = heads[unit.start // head_dim : unit.stop // head_dim].float()
    return chosen.transpose(0, 1).reshape(block.n_tokens, unit.n_values)
