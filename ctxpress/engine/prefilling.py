"""Tokens run behind KV that is there already, and the KV of them taken out, un-rotated.

::

    model = load_model("folder")
    ids = model.token_ids(text)
    block = prefill(model, ids).block()                     # un-rotated, with its identity
    again = prefill(model, more, behind=[block], logits="all")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from ctxpress.cache.chunk_key import tokens_digest
from ctxpress.cache.kv import KVBlock
from ctxpress.engine.blocks import rounded
from ctxpress.engine.loading import RotaryModel, new_cache
from ctxpress.errors import CodecError, ContextLengthError

__all__ = ["Logits", "Prefilled", "cache_of", "prefill", "prefill_rows"]

Logits = Literal["none", "last", "all"]


@dataclass(frozen=True, slots=True, eq=False)
class Prefilled:
    """Some texts of one length that were run, each behind its own KV.

    ``rows``: the token ids of each. ``cache``: transformers' cache of all of them, what they were
    run behind included. ``logits``: ``(n_rows, n_tokens or 1 or 0, n_vocabulary)``.
    ``position_start``: of their first token.
    """

    model: RotaryModel
    rows: tuple[tuple[int, ...], ...]
    cache: Any
    logits: torch.Tensor
    position_start: int

    def block(
        self, row: int = 0, *, before: Sequence[int] = (), dtype: str | None = None
    ) -> KVBlock:
        """The un-rotated KV of the tokens of ``row``, in the model's dtype or in ``dtype``.

        Keys are un-rotated in float32 and rounded once. ``before``: the ids of the tokens that
        they were run behind; they are part of the identity.

        :raises ConfigError: no such dtype.
        """
        ids = self.rows[row]
        start, place = self.position_start, self.cache.get_seq_length() - len(ids)
        places = torch.arange(start, start + len(ids), device=self.model.device)
        model = self.model
        shape = (model.n_layers, model.n_kv_heads, len(ids), model.head_dim)
        keys = torch.empty(shape, dtype=torch.float32, device=model.device)
        values = torch.empty(shape, dtype=model.dtype, device=model.device)
        for index, layer in enumerate(self.cache.layers):
            keys[index] = model.rope.unrotate(layer.keys[row, :, place:], places, index)
            values[index] = layer.values[row, :, place:]
        wanted = str(model.dtype).removeprefix("torch.") if dtype is None else dtype
        kept = KVBlock(keys=keys, values=values.float(), position_start=start)
        digest = tokens_digest(ids, before=tokens_digest(before) if before else "")
        identity = replace(model.identity, dtype=wanted, tokens=digest)
        return replace(rounded(kept, wanted), identity=identity)


def prefill(
    model: RotaryModel,
    tokens: Sequence[int],
    *,
    behind: Sequence[KVBlock] = (),
    positions: Sequence[int] | None = None,
    position_start: int | None = None,
    logits: Logits = "none",
) -> Prefilled:
    """Run ``tokens`` behind the KV of ``behind``.

    ``positions``: where each block of ``behind`` goes; by default where its ``position_start``
    says. ``position_start``: of the first token; by default next to the furthest token behind.

    :raises ContextLengthError: a token would stand outside the model's window.
    :raises CodecError: a block does not fit the model.
    """
    return prefill_rows(
        model,
        [tokens],
        behind=[behind],
        positions=positions,
        position_start=position_start,
        logits=logits,
    )


def prefill_rows(
    model: RotaryModel,
    rows: Sequence[Sequence[int]],
    *,
    behind: Sequence[Sequence[KVBlock]] | None = None,
    positions: Sequence[int] | None = None,
    position_start: int | None = None,
    logits: Logits = "none",
) -> Prefilled:
    """:func:`prefill` for several texts of one length at once; each row behind its own blocks.

    Blocks of the same place in their rows are of one length, too.

    :raises ValueError: rows differ in length, or there are none.
    """
    if not rows or len({len(row) for row in rows}) != 1 or not rows[0]:
        raise ValueError("rows must be one or more texts of the same number of tokens, not empty")
    chains: Sequence[Sequence[KVBlock]] = [()] * len(rows) if behind is None else behind
    if len(chains) != len(rows):
        raise ValueError(f"{len(chains)} lists of blocks for {len(rows)} rows")
    cache, end = cache_of(model, chains, positions)
    start = end if position_start is None else position_start
    starts = [b.position_start for b in chains[0]] if positions is None else positions
    _check_window(model, chains[0], starts, start, len(rows[0]))
    places = torch.arange(start, start + len(rows[0]), device=model.device)
    if start + len(rows[0]) > model.max_tokens:
        raise ContextLengthError(
            f"{start + len(rows[0])} tokens are too many for {model.name}, "
            f"whose window holds {model.max_tokens}"
        )
    keep = {"none": 1, "last": 1, "all": 0}[logits]  # transformers: zero keeps all
    with torch.inference_mode():
        out = model.model(
            input_ids=torch.tensor([list(row) for row in rows], device=model.device),
            position_ids=places[None].expand(len(rows), -1),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=keep,
        ).logits
    return Prefilled(
        model=model,
        rows=tuple(tuple(row) for row in rows),
        cache=cache,
        logits=out[:, :0] if logits == "none" else out,
        position_start=start,
    )


def cache_of(
    model: RotaryModel,
    chains: Sequence[Sequence[KVBlock]],
    positions: Sequence[int] | None = None,
) -> tuple[Any, int]:
    """A cache of transformers that holds the blocks of each chain, and the next free position.

    A chain a row. Keys are rotated in float32 and rounded once to the model's dtype; keys that
    are rotated already must be where they are to be.

    :raises CodecError: blocks do not fit the model or each other, or rotated keys would move.
    """
    cache = new_cache(model.n_layers)
    if len({tuple(block.n_tokens for block in chain) for chain in chains}) != 1:
        raise CodecError("rows must hold blocks of the same lengths")
    first = chains[0]
    starts = [block.position_start for block in first] if positions is None else list(positions)
    if len(starts) != len(first):
        raise ValueError(f"{len(starts)} positions for {len(first)} blocks")
    end = max((start + b.n_tokens for start, b in zip(starts, first, strict=True)), default=0)
    if end > model.max_tokens:
        raise ContextLengthError(
            f"KV up to position {end} is too long for {model.name}, "
            f"whose window holds {model.max_tokens}"
        )
    for column, start in enumerate(starts):
        blocks = [chain[column] for chain in chains]
        for block in blocks:
            _check(model, block, start)
            if block.keys_rotated != blocks[0].keys_rotated:
                raise CodecError("rows must all hold rotated keys, or none of them")
        if blocks[0].n_tokens:
            _insert(model, cache, blocks, start)
    return cache, end


def _check(model: RotaryModel, block: KVBlock, start: int) -> None:
    shape = (block.n_layers, block.n_kv_heads, block.head_dim)
    wanted = (model.n_layers, model.n_kv_heads, model.head_dim)
    if shape != wanted:
        raise CodecError(
            f"KV of {shape} layers, heads and dimensions does not fit {model.name}, "
            f"which has {wanted}"
        )
    if block.identity.model:  # KV without a name is its owner's affair
        block.identity.require(model.identity)
    if block.keys_rotated and block.position_start != start:
        raise CodecError(
            f"keys rotated for position {block.position_start} cannot be placed at {start}"
        )


def _check_window(
    model: RotaryModel, chain: Sequence[KVBlock], starts: Sequence[int], start: int, n_new: int
) -> None:
    """Masks of sliding layers count tokens, not positions; where these differ, all must be seen."""
    window = model.window_tokens
    n_behind = sum(block.n_tokens for block in chain)
    if window is None or n_behind + n_new <= window:
        return
    offset = starts[0] if starts else start
    for place, block in zip([*starts, start], [*chain, None], strict=True):
        if place != offset:
            raise ContextLengthError(
                f"{n_behind + n_new} tokens at positions that do not follow each other are too "
                f"many for {model.name}, whose sliding layers see {window}"
            )
        offset += 0 if block is None else block.n_tokens


def _insert(model: RotaryModel, cache: Any, blocks: Sequence[KVBlock], start: int) -> None:
    n_rows, first = len(blocks), blocks[0]
    places = torch.arange(start, start + first.n_tokens, device=model.device)
    if all(block is first for block in blocks):
        blocks = blocks[:1]  # rotated once
    for layer in range(model.n_layers):
        keys = torch.stack([block.keys[layer].to(model.device) for block in blocks])
        values = torch.stack([block.values[layer].to(model.device) for block in blocks])
        if not first.keys_rotated:
            keys = model.rope.rotate(keys, places, layer)
        cache.update(
            keys.to(model.dtype).expand(n_rows, -1, -1, -1),
            values.to(model.dtype).expand(n_rows, -1, -1, -1),
            layer,
        )
