"""Prompts put in place: KV that is known is used, what is not is computed and remembered.

Two ways. A *prefix* is reused where a prompt begins as an earlier one did: the answer is that of
computing everything. *Documents* are encoded each by itself behind the prompt's prefix and reused
in any combination (see :mod:`ctxpress.engine.parallel`), where the model was found to answer alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from ctxpress.cache.chunk_key import DEFAULT_CHUNK_TOKENS, CacheKey, chunk_keys
from ctxpress.cache.identity import KVIdentity
from ctxpress.cache.kv import KVBlock
from ctxpress.engine.attention import Row
from ctxpress.engine.forward import run_rows
from ctxpress.engine.generation import PreparedPrompt, Work
from ctxpress.engine.loading import RotaryModel
from ctxpress.engine.parallel import Mixing, parallel_row, sequential_row
from ctxpress.engine.prompts import PromptPieces
from ctxpress.engine.sequence import SequenceKV

__all__ = ["ContextBuilder", "KVSource"]


class KVSource(Protocol):
    """Where KV may be that was computed before: this worker's memory, a store, both."""

    def get(self, keys: Sequence[CacheKey]) -> Work[list[KVBlock | None]]:
        """The blocks of ``keys``; yields what it waits for, returns None for what is not there."""

    def put(self, key: CacheKey, block: KVBlock) -> None:
        """Keep a block; does not wait and never fails."""


@dataclass(slots=True)
class _Counts:
    cached_tokens: int = 0
    computed_tokens: int = 0
    cached_documents: int = 0


class ContextBuilder:
    """Makes preparations for prompts. Used in the engine's thread only.

    ``mixing``: T and S for documents in parallel; None computes them one behind the other.
    """

    def __init__(
        self,
        model: RotaryModel,
        source: KVSource,
        *,
        mixing: Callable[[], Mixing | None],
        piece_tokens: int = 512,
        chunk_tokens: int = DEFAULT_CHUNK_TOKENS,
    ) -> None:
        self._model = model
        self._source = source
        self._mixing = mixing
        self._piece_tokens = piece_tokens
        self._chunk_tokens = chunk_tokens

    def prepare(self, pieces: PromptPieces) -> Work[PreparedPrompt]:
        """Put a prompt's context in place, a bounded piece of work between two yields.

        :raises ContextLengthError: the prompt is longer than the model's window.
        """
        mixing = self._mixing() if pieces.documents else None
        if mixing is None:
            flat = [*pieces.prefix, *(t for d in pieces.documents for t in d), *pieces.suffix]
            return (yield from self._behind_prefix(flat))
        return (yield from self._beside(pieces, mixing))

    def prefetch(self, pieces: PromptPieces) -> Work[PreparedPrompt]:
        """Compute and keep the KV of documents that no request has asked about yet."""
        counts = _Counts()
        prefix = yield from self._prefix(pieces.prefix, counts)
        for document in pieces.documents:
            yield from self._document(prefix, pieces.prefix, document, counts)
        return PreparedPrompt(
            row=Row(SequenceKV(self._model.n_layers)),
            tokens=(),
            position=0,
            n_prompt_tokens=len(pieces.prefix) + sum(map(len, pieces.documents)),
            n_cached_tokens=counts.cached_tokens,
            report={
                "documents": len(pieces.documents),
                "cached_documents": counts.cached_documents,
                "cached_tokens": counts.cached_tokens,
                "computed_tokens": counts.computed_tokens,
            },
        )

    def _behind_prefix(self, tokens: Sequence[int]) -> Work[PreparedPrompt]:
        keys = self._whole_chunks(tokens)
        found = yield from self._source.get(keys)
        blocks: list[KVBlock] = []
        for block in found:
            if block is None:
                break
            blocks.append(replace(block, position_start=len(blocks) * self._chunk_tokens))
        placed = sequential_row(self._model, blocks)
        n_held = len(blocks) * self._chunk_tokens

        def keep(row: Row) -> None:
            for index in range(len(blocks), len(keys)):
                start = index * self._chunk_tokens
                self._source.put(
                    keys[index],
                    self._block(
                        row, start, start + self._chunk_tokens, start, keys[index].identity
                    ),
                )

        return PreparedPrompt(
            row=placed.row,
            tokens=tuple(tokens[n_held:]),
            position=n_held,
            n_prompt_tokens=len(tokens),
            n_cached_tokens=n_held,
            report={"kv_reuse": "prefix", "cached_tokens": n_held},
            keep=keep,
        )

    def _beside(self, pieces: PromptPieces, mixing: Mixing) -> Work[PreparedPrompt]:
        counts = _Counts()
        prefix = yield from self._prefix(pieces.prefix, counts)
        documents = []
        for document in pieces.documents:
            documents.append((yield from self._document(prefix, pieces.prefix, document, counts)))
        placed = parallel_row(self._model, prefix, documents, mixing)
        report: dict[str, Any] = {
            "kv_reuse": "parallel",
            "temperature": mixing.temperature,
            "scale": mixing.scale,
            "documents": len(documents),
            "cached_documents": counts.cached_documents,
            "cached_tokens": counts.cached_tokens,
        }
        return PreparedPrompt(
            row=placed.row,
            tokens=pieces.suffix,
            position=placed.next_position,
            n_prompt_tokens=pieces.n_tokens,
            n_cached_tokens=counts.cached_tokens,
            report=report,
        )

    def _prefix(self, tokens: Sequence[int], counts: _Counts) -> Work[KVBlock | None]:
        if not tokens:
            return None
        (key,) = chunk_keys(self._model.identity, tokens, chunk_tokens=len(tokens))
        (block,) = yield from self._source.get([key])
        if block is None:
            block = yield from self._compute(None, tokens, key)
            counts.computed_tokens += len(tokens)
        else:
            counts.cached_tokens += len(tokens)
        return block

    def _document(
        self,
        prefix: KVBlock | None,
        prefix_tokens: Sequence[int],
        tokens: Sequence[int],
        counts: _Counts,
    ) -> Work[KVBlock]:
        before = "" if prefix is None else prefix.identity.tokens
        (key,) = chunk_keys(self._model.identity, tokens, chunk_tokens=len(tokens), before=before)
        (block,) = yield from self._source.get([key])
        if block is None:
            block = yield from self._compute(prefix, tokens, key)
            counts.computed_tokens += len(tokens)
        else:
            counts.cached_tokens += len(tokens)
            counts.cached_documents += 1
        return block

    def _compute(
        self, prefix: KVBlock | None, tokens: Sequence[int], key: CacheKey
    ) -> Work[KVBlock]:
        model = self._model
        placed = sequential_row(model, [] if prefix is None else [prefix])
        start = placed.next_position
        for at in range(0, len(tokens), self._piece_tokens):
            piece = tokens[at : at + self._piece_tokens]
            places = torch.arange(start + at, start + at + len(piece), device=model.device)
            ids = torch.tensor([list(piece)], device=model.device)
            run_rows(model.model, [placed.row], ids, places[None])
            yield None
        block = self._block(placed.row, start, start + len(tokens), start, key.identity)
        self._source.put(key, block)
        return block

    def _block(
        self, row: Row, start: int, stop: int, position: int, identity: KVIdentity
    ) -> KVBlock:
        keys, values = row.sequence.slice(start, stop)
        places = torch.arange(position, position + stop - start, device=keys.device)
        return KVBlock(
            keys=self._model.rope.unrotate(keys, places).to(keys.dtype),
            values=values,
            position_start=position,
            identity=identity,
        )

    def _whole_chunks(self, tokens: Sequence[int]) -> list[CacheKey]:
        """Keys of the full chunks that leave at least one token to compute."""
        n_chunks = (len(tokens) - 1) // self._chunk_tokens
        whole = tokens[: n_chunks * self._chunk_tokens]
        return chunk_keys(self._model.identity, whole, chunk_tokens=self._chunk_tokens)
