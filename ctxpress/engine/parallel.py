"""Adaptive Parallel Encoding: documents encoded each by itself, used together in any combination.

"APE: Faster and Longer Context-Augmented Generation via Adaptive Parallel Encoding" (arXiv
2502.05431). A shared prefix of P tokens stands first. Every document is encoded behind the prefix
alone, at positions P, P + 1, …; the question stands at P + (length of the longest document). So a
document's KV depends on the prefix and on itself, and can be kept and used beside any others.
How much weight documents get is corrected by T and S; see :mod:`ctxpress.engine.attention`.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

import torch

from ctxpress.cache.chunk_key import tokens_digest
from ctxpress.cache.kv import KVBlock
from ctxpress.engine.arriving import ArrivingKV, LayerKV
from ctxpress.engine.attention import ContextPlan, Row
from ctxpress.engine.forward import run_rows
from ctxpress.engine.loading import RotaryModel
from ctxpress.engine.placing import place_layer
from ctxpress.engine.sequence import SequenceKV
from ctxpress.errors import CodecError, ContextLengthError

__all__ = [
    "Mixing",
    "PlacedRow",
    "encode_behind",
    "parallel_row",
    "place_row",
    "reserve",
    "sequential_row",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """T and S: how documents that were encoded in parallel are weighed. 1 and 1 change nothing."""

    temperature: float = 1.0
    scale: float = 1.0

    @classmethod
    def by_temperature(cls, temperature: float) -> Mixing:
        """S = 1/T: scaling the documents' keys by 1/T is all there is to it.

        The form that an engine without a log-sum-exp of its own can run.
        """
        return cls(temperature=temperature, scale=1.0 / temperature)


@dataclass(frozen=True, slots=True)
class PlacedRow:
    """A row with its context in place, and the position of the next token."""

    row: Row
    next_position: int


def encode_behind(
    model: RotaryModel, prefix: KVBlock | None, prefix_ids: Sequence[int], tokens: Sequence[int]
) -> KVBlock:
    """The un-rotated KV of ``tokens``, run behind the prefix alone.

    :raises ContextLengthError: prefix and tokens are longer than the model's window.
    :raises ValueError: there are no tokens.
    """
    if not tokens:
        raise ValueError("a document needs at least one token")
    sequence, start = _sequence(model, _some(prefix), [0] if prefix else [])
    _check_length(model, start + len(tokens))
    places = torch.arange(start, start + len(tokens), device=model.device)
    ids = torch.tensor([list(tokens)], device=model.device)
    run_rows(model.model, [Row(sequence)], ids, places[None])
    keys, values = sequence.slice(sequence.n_tokens - len(tokens), sequence.n_tokens)
    before = tokens_digest(prefix_ids) if prefix_ids else ""
    return KVBlock(
        keys=model.rope.unrotate(keys, places).to(keys.dtype),
        values=values,
        position_start=start,
        identity=replace(model.identity, tokens=tokens_digest(tokens, before=before)),
    )


def parallel_row(
    model: RotaryModel,
    prefix: KVBlock | ArrivingKV | None,
    documents: Sequence[KVBlock | ArrivingKV],
    mixing: Mixing,
) -> PlacedRow:
    """Documents side by side behind the prefix, all from position P on.

    What is still on its way is waited for where a layer of it is first read, and raises
    ``KVLoadError`` there if it does not come.

    :raises CodecError: a block does not fit the model.
    :raises ContextLengthError: the longest document reaches beyond the model's window.
    """
    start = 0 if prefix is None else prefix.n_tokens
    blocks = [*_some(prefix), *documents]
    places = [*([0] if prefix else []), *[start] * len(documents)]
    sequence, end = _sequence(model, blocks, places)
    held = sum(block.n_tokens for block in documents)
    if not held:
        return PlacedRow(Row(sequence), end)
    if model.window_tokens is not None and start + held >= model.window_tokens:
        raise ContextLengthError(
            f"{start + held} tokens of documents in parallel are too many for {model.name}, "
            f"whose sliding layers see {model.window_tokens}"
        )
    plan = ContextPlan(
        start=start,
        stop=start + held,
        temperature=mixing.temperature,
        scale=mixing.scale,
    )
    return PlacedRow(Row(sequence, plan), end)


def sequential_row(model: RotaryModel, blocks: Sequence[KVBlock | ArrivingKV]) -> PlacedRow:
    """Blocks that were computed one behind the other, at the positions that they say.

    :raises CodecError, ContextLengthError: see :func:`parallel_row`.
    """
    sequence, end = _sequence(model, blocks, [block.position_start for block in blocks])
    return PlacedRow(Row(sequence), end)


def place_row(model: RotaryModel, row: Row, block: KVBlock | ArrivingKV, place: int) -> None:
    """Append a block to a row, its first token at position ``place``.

    :raises CodecError, ContextLengthError: see :func:`parallel_row`.
    """
    _check_fit(model, block, place)
    _check_length(model, place + block.n_tokens)
    positions = torch.arange(place, place + block.n_tokens, device=model.device)
    angles = model.rope.at(positions)
    rooms = [row.sequence.room(layer, block.n_tokens) for layer in range(model.n_layers)]
    if isinstance(block, ArrivingKV):
        loads = block.placed(angles, model.dtype, rooms)
    else:
        rotated = block.keys_rotated
        loads = [
            _here(place_layer(pair, angles, layer, model.dtype, rooms[layer], rotated=rotated))
            for layer, pair in enumerate(zip(block.keys, block.values, strict=True))
        ]
    row.sequence.append_later(block.n_tokens, loads)


def reserve(model: RotaryModel, row: Row, n_tokens: int) -> None:
    """Room in an empty row for ``n_tokens``, which those who bring them may write to."""
    row.sequence.reserve(
        n_tokens,
        n_kv_heads=model.n_kv_heads,
        head_dim=model.head_dim,
        dtype=model.dtype,
        device=model.device,
        memory=model.row_memory,
    )


def _here(pair: LayerKV) -> Future[LayerKV]:
    done: Future[LayerKV] = Future()
    done.set_result(pair)
    return done


def _some(prefix: KVBlock | ArrivingKV | None) -> list[KVBlock | ArrivingKV]:
    return [] if prefix is None else [prefix]


def _sequence(
    model: RotaryModel, blocks: Sequence[KVBlock | ArrivingKV], places: Sequence[int]
) -> tuple[SequenceKV, int]:
    row, end = Row(SequenceKV(model.n_layers)), 0
    if blocks:
        reserve(model, row, sum(block.n_tokens for block in blocks))
    for block, place in zip(blocks, places, strict=True):
        place_row(model, row, block, place)
        end = max(end, place + block.n_tokens)
    return row.sequence, end


def _check_fit(model: RotaryModel, block: KVBlock | ArrivingKV, place: int) -> None:
    shape = (block.n_layers, block.n_kv_heads, block.head_dim)
    wanted = (model.n_layers, model.n_kv_heads, model.head_dim)
    if shape != wanted:
        raise CodecError(
            f"KV of {shape} layers, heads and dimensions does not fit {model.name}, "
            f"which has {wanted}"
        )
    if block.identity.model:
        block.identity.require(replace(model.identity, tokens=""))
    if block.keys_rotated and block.position_start != place:
        raise CodecError(
            f"keys rotated for position {block.position_start} cannot be placed at {place}"
        )


def _check_length(model: RotaryModel, n_positions: int) -> None:
    if n_positions > model.max_tokens:
        raise ContextLengthError(
            f"{n_positions} positions are too many for {model.name}, "
            f"whose window holds {model.max_tokens}"
        )
