"""Prompts put in place: KV that is known is used, what is not is computed and remembered.

Two ways. A *prefix* is reused where a prompt begins as an earlier one did: the answer is that of
computing everything. *Documents* are encoded each by itself behind the prompt's prefix and reused
in any combination (see :mod:`ctxpress.engine.parallel`), where the model was found to answer alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from ctxpress.cache.chunk_key import DEFAULT_CHUNK_TOKENS, CacheKey, chunk_keys
from ctxpress.cache.identity import KVIdentity
from ctxpress.cache.kv import KVBlock
from ctxpress.engine.arriving import ArrivingKV
from ctxpress.engine.attention import Row
from ctxpress.engine.edits import reencode
from ctxpress.engine.forward import run_rows
from ctxpress.engine.generation import PreparedPrompt, Work
from ctxpress.engine.kv_source import KVSource, WantedKV
from ctxpress.engine.loading import RotaryModel
from ctxpress.engine.parallel import Mixing, parallel_row, place_row, reserve, sequential_row
from ctxpress.engine.prompts import PromptPieces
from ctxpress.engine.sequence import SequenceKV
from ctxpress.engine.versions import DocumentVersions

__all__ = ["ContextBuilder"]

_Block = KVBlock | ArrivingKV


@dataclass(slots=True)
class _Counts:
    cached_tokens: int = 0
    computed_tokens: int = 0
    cached_documents: int = 0
    edited_documents: int = 0
    load: Mapping[str, Any] = field(default_factory=dict)


class ContextBuilder:
    """Makes preparations for prompts. Used in the engine's thread only.

    ``mixing``: T and S for documents in parallel; None computes them one behind the other.
    ``gate``: what reports of requests with documents say about why. ``versions``: makes the KV of
    documents that changed a little from what there is, approximately; None computes them.
    """

    def __init__(
        self,
        model: RotaryModel,
        source: KVSource,
        *,
        mixing: Callable[[], Mixing | None],
        gate: Mapping[str, Any] | None = None,
        versions: DocumentVersions | None = None,
        piece_tokens: int = 512,
        chunk_tokens: int = DEFAULT_CHUNK_TOKENS,
    ) -> None:
        self._model = model
        self._source = source
        self._mixing = mixing
        self._gate = dict(gate or {})
        self._versions = versions
        self._piece_tokens = piece_tokens
        self._chunk_tokens = chunk_tokens

    def prepare(self, pieces: PromptPieces, *, whole: bool = False) -> Work[PreparedPrompt]:
        """Put a prompt's context in place, a bounded piece of work between two yields.

        KV from a store may still be on its way then, layer by layer, and running the prompt raises
        ``KVLoadError`` where it does not come. With ``whole``, all that is used is here.

        :raises ContextLengthError: the prompt is longer than the model's window.
        """
        again: dict[str, Any] = {"loaded_again": True} if whole else {}
        mixing = self._mixing() if pieces.documents else None
        if mixing is not None:
            return (yield from self._beside(pieces, mixing, whole, again))
        flat = [*pieces.prefix, *(t for d in pieces.documents for t in d), *pieces.suffix]
        if pieces.documents:
            again = {"documents": len(pieces.documents), **self._gate, **again}
        return (yield from self._behind_prefix(flat, whole, again))

    def prefetch(self, pieces: PromptPieces) -> Work[PreparedPrompt]:
        """Compute and keep the KV of documents that no request has asked about yet."""
        counts = _Counts()
        yield from self._encoded(pieces, True, counts)
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

    def _behind_prefix(
        self, tokens: Sequence[int], whole: bool, about: Mapping[str, Any]
    ) -> Work[PreparedPrompt]:
        keys = self._whole_chunks(tokens)
        size = self._chunk_tokens
        runs = [
            WantedKV(key=key, n_tokens=size, context_tokens=index * size)
            for index, key in enumerate(keys)
        ]
        found, load = yield from self._found(runs, whole)
        n_found = len(found)
        while n_found and found[n_found - 1] is None:
            n_found -= 1
        row = sequential_row(self._model, []).row
        reserve(self._model, row, len(tokens))
        for index, block in enumerate(found[:n_found]):
            if block is not None:
                place_row(self._model, row, block, index * size)
            else:  # what is behind it is known, so its KV is the one that was computed before
                yield from self._run(row, tokens[index * size : (index + 1) * size], index * size)
        missing = [index for index, block in enumerate(found) if block is None]
        _release(found)
        yield from _begun([block for block in found if block is not None])
        n_held = n_found * size
        n_cached = n_held - size * sum(index < n_found for index in missing)

        def keep(row: Row) -> None:
            for index in missing:
                start = index * self._chunk_tokens
                stop = start + self._chunk_tokens
                self._source.put(
                    keys[index], self._block(row, start, stop, start, keys[index].identity)
                )

        return PreparedPrompt(
            row=row,
            tokens=tuple(tokens[n_held:]),
            position=n_held,
            n_prompt_tokens=len(tokens),
            n_cached_tokens=n_cached,
            report={"kv_reuse": "prefix", **about, "cached_tokens": n_cached, **load},
            keep=keep,
            # Where layers are still awaited, the time says nothing about computing.
            measured=None if any(map(_arrives, found)) else self._source.computed,
            late=partial(_late, found),
        )

    def _beside(
        self, pieces: PromptPieces, mixing: Mixing, whole: bool, about: Mapping[str, Any]
    ) -> Work[PreparedPrompt]:
        counts = _Counts()
        prefix, documents = yield from self._encoded(pieces, whole, counts)
        placed = parallel_row(self._model, prefix, documents, mixing)
        _release([prefix, *documents])
        yield from _begun([*([] if prefix is None else [prefix]), *documents])
        report: dict[str, Any] = {
            "kv_reuse": "parallel",
            "temperature": mixing.temperature,
            "scale": mixing.scale,
            **self._gate,
            **about,
            "documents": len(documents),
            "cached_documents": counts.cached_documents,
            "cached_tokens": counts.cached_tokens,
            **({} if self._versions is None else {"edited_documents": counts.edited_documents}),
            **counts.load,
        }
        return PreparedPrompt(
            row=placed.row,
            tokens=pieces.suffix,
            position=placed.next_position,
            n_prompt_tokens=pieces.n_tokens,
            n_cached_tokens=counts.cached_tokens,
            report=report,
            late=partial(_late, [*([] if prefix is None else [prefix]), *documents]),
        )

    def _encoded(
        self, pieces: PromptPieces, whole: bool, counts: _Counts
    ) -> Work[tuple[_Block | None, list[_Block]]]:
        """Prefix and documents, each by itself; what is missing is computed while others arrive."""
        model = self._model
        lengths = [len(pieces.prefix)] if pieces.prefix else []
        keys = chunk_keys(model.identity, pieces.prefix, chunk_tokens=max(lengths, default=1))
        before = keys[0].identity.tokens if keys else ""
        for document in pieces.documents:
            keys += chunk_keys(model.identity, document, chunk_tokens=len(document), before=before)
        texts = [*([pieces.prefix] if pieces.prefix else []), *pieces.documents]
        runs = [
            WantedKV(
                key=key,
                n_tokens=len(text),
                context_tokens=len(pieces.prefix) if index or not pieces.prefix else 0,
            )
            for index, (key, text) in enumerate(zip(keys, texts, strict=True))
        ]
        found, counts.load = yield from self._found(runs, whole)
        known = {key: block for key, block in zip(keys, found, strict=True) if block is not None}
        prefix: _Block | None = None
        if pieces.prefix:
            key, *keys = keys
            if key in known:
                counts.cached_tokens += len(pieces.prefix)
            else:
                known[key] = yield from self._compute(None, pieces.prefix, key)
                counts.computed_tokens += len(pieces.prefix)
            prefix = known[key]
        titles = pieces.titles or ("",) * len(pieces.documents)
        edited: dict[CacheKey, _Block] = {}
        for key, document, title in zip(keys, pieces.documents, titles, strict=True):
            if key in edited:
                continue
            if key in known:
                counts.cached_tokens += len(document)
                counts.cached_documents += 1
            else:
                block = yield from self._edited(prefix, before, title, document, key, counts)
                if block is not None:
                    edited[key] = block
                    continue
                known[key] = yield from self._compute(prefix, document, key)
                counts.computed_tokens += len(document)
            if self._versions is not None:
                self._versions.remember(before, title, document, key)
        return prefix, [edited[key] if key in edited else known[key] for key in keys]

    def _edited(
        self,
        prefix: _Block | None,
        before: str,
        title: str,
        tokens: Sequence[int],
        key: CacheKey,
        counts: _Counts,
    ) -> Work[KVBlock | None]:
        """The approximate KV of a document that is an edit of one that is known; else None."""
        if self._versions is None:
            return None
        (block,) = yield from self._versions.edited.get([key])
        if block is not None:
            counts.cached_tokens += len(tokens)
            counts.edited_documents += 1
            return block
        edit = self._versions.edit(before, title, tokens)
        (old,) = (yield from self._source.get([edit.old])) if edit is not None else (None,)
        if edit is None or old is None:
            return None
        if prefix is not None:
            yield from _begun([prefix])
        block = yield from reencode(
            self._model, prefix, old, tokens, edit.plan, piece_tokens=self._piece_tokens
        )
        self._versions.edited.put(key, block)
        counts.cached_tokens += edit.plan.reused_tokens
        counts.computed_tokens += edit.plan.computed_tokens
        counts.edited_documents += 1
        return block

    def _found(
        self, runs: Sequence[WantedKV], whole: bool
    ) -> Work[tuple[Sequence[_Block | None], Mapping[str, Any]]]:
        """What there is of ``runs``, and what the report says of how it came."""
        if whole:
            return (yield from self._source.get([run.key for run in runs])), {}
        arrivals = yield from self._source.arriving(runs)
        return arrivals.blocks, {"load": arrivals.report} if arrivals.report else {}

    def _run(self, row: Row, tokens: Sequence[int], start: int) -> Work[None]:
        """Run ``tokens`` from position ``start`` on, in pieces, and tell the source how long."""
        model, size = self._model, self._piece_tokens
        n_before = row.sequence.n_tokens
        for at in range(0, len(tokens), size):
            piece = tokens[at : at + size]
            begun_s = time.perf_counter()
            places = torch.arange(start + at, start + at + len(piece), device=model.device)
            ids = torch.tensor([list(piece)], device=model.device)
            run_rows(model.model, [row], ids, places[None])
            took_ms = (time.perf_counter() - begun_s) * 1000
            self._source.computed(len(piece), n_before + at, took_ms)
            yield None

    def _compute(
        self, prefix: _Block | None, tokens: Sequence[int], key: CacheKey
    ) -> Work[KVBlock]:
        model = self._model
        before = [] if prefix is None else [prefix]
        placed = sequential_row(model, before)
        yield from _begun(before)
        start = placed.next_position
        yield from self._run(placed.row, tokens, start)
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


def _release(blocks: Sequence[_Block | None]) -> None:
    """They are in their places."""
    for block in blocks:
        if isinstance(block, ArrivingKV):
            block.release()


def _begun(blocks: Sequence[_Block]) -> Work[None]:
    """Wait for the first layer of each; the others come while those before them compute."""
    for block in blocks:
        if isinstance(block, ArrivingKV) and not block.first_layer.done():
            yield block.first_layer


def _late(blocks: Sequence[_Block | None]) -> Future[Any] | None:
    """A layer that has not come yet."""
    arriving = (block for block in blocks if isinstance(block, ArrivingKV))
    return next((late for block in arriving if (late := block.late_layer) is not None), None)


def _arrives(block: _Block | None) -> bool:
    return isinstance(block, ArrivingKV)
