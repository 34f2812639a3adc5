"""KV to measure codecs on: a model's own, and blocks of a large model's shape made out of it.

A block of the large shape is a mosaic of real values. Layer l of L takes its tiles from layer
l * n / L of the n real ones; its heads times head_dim channels are filled from left to right with
whole heads of that layer, over and over, each from another text. So every channel keeps the mean,
the spread, the tails and the neighbours in time of a real one, and all correlations within a head;
what is lost are correlations between heads, since tiles come from different texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ctxpress.cache.kv import KVBlock
from ctxpress.engine import RotaryModel, prefill_rows

__all__ = ["LLAMA_8B", "Shape", "mosaic", "real_blocks"]


@dataclass(frozen=True)
class Shape:
    """Of one token's keys in all layers."""

    name: str
    n_layers: int
    n_kv_heads: int
    head_dim: int


LLAMA_8B = Shape("Llama-3.1-8B", 32, 8, 128)


def real_blocks(
    model: RotaryModel, ids: Sequence[int], n_blocks: int, n_tokens: int, batch: int = 8
) -> list[KVBlock]:
    """Un-rotated KV of consecutive stretches of a text, each run by itself, in the model's dtype.

    :raises ValueError: the text is too short.
    """
    if len(ids) < n_blocks * n_tokens:
        raise ValueError(f"{len(ids)} tokens of text; {n_blocks * n_tokens} are needed")
    rows = [ids[first : first + n_tokens] for first in range(0, n_blocks * n_tokens, n_tokens)]
    blocks: list[KVBlock] = []
    for first in range(0, n_blocks, batch):
        some = rows[first : first + batch]
        run = prefill_rows(model, some)
        blocks += [run.block(row) for row in range(len(some))]
    return blocks


def mosaic(blocks: Sequence[KVBlock], shape: Shape, seed: int) -> KVBlock:
    """A block of ``shape`` out of heads of ``blocks``; equal seeds give equal blocks.

    :raises ValueError: heads of the real KV do not fill the channels evenly.
    """
    first = blocks[0]
    width = shape.n_kv_heads * shape.head_dim
    if width % first.head_dim:
        raise ValueError(f"{width} channels cannot be filled with heads of {first.head_dim}")
    generator = torch.Generator().manual_seed(seed)
    tensors = []
    for name in ("keys", "values"):
        layers = []
        for layer in range(shape.n_layers):
            source = layer * first.n_layers // shape.n_layers
            tiles = []
            for tile in range(width // first.head_dim):
                text = int(torch.randint(len(blocks), (1,), generator=generator))
                head = tile % first.n_kv_heads
                tiles.append(getattr(blocks[text], name)[source, head])
            channels = torch.cat(tiles, dim=-1)  # (n_tokens, width)
            layers.append(
                channels.view(-1, shape.n_kv_heads, shape.head_dim).transpose(0, 1).contiguous()
            )
        tensors.append(torch.stack(layers))
    return KVBlock(keys=tensors[0], values=tensors[1])
