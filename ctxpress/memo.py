"""The memo of stage results: a repeated block costs a look-up instead of a model run.

Keyed by the block's content and everything else that decides the result, so replicas that share
a store agree byte for byte. Values are sealed; anything unreadable is a miss.
"""

from __future__ import annotations

import hashlib
import logging
from concurrent.futures import Executor
from typing import Any

import orjson

from ctxpress.aside import aside
from ctxpress.cache.key import Namespace
from ctxpress.cache.store import Store
from ctxpress.document import Block, ContextDocument, Kind, Range, Source, Span
from ctxpress.errors import StoreError
from ctxpress.stage import StageContext

__all__ = ["Memo", "content_digest", "memo_key"]

logger = logging.getLogger(__name__)

_VERSION = 3


def memo_key(
    namespace: Namespace, fingerprint: str, given: ContextDocument, context: StageContext
) -> str:
    """The key of a stage's result on ``given`` (one block) under ``context``."""
    hasher = hashlib.sha256()
    settings = [
        _VERSION,
        fingerprint,
        context.counter.identity,
        context.keep_ratio,
        context.target_tokens,
        given.model,
    ]
    hasher.update(orjson.dumps(settings))
    hasher.update(content_digest(given))
    return namespace.key("memo", hasher.digest())


def content_digest(document: ContextDocument) -> bytes:
    """A hash over all that a stage sees of ``document``: texts, spans, and what is protected."""
    hasher = hashlib.sha256()
    _update(hasher, document.question or "")
    for block in document.blocks:
        _update(hasher, block.original)
        for span in block.spans:
            # `repr`, since a title given in Python may hold what JSON cannot.
            look = [str(span.kind), span.protected, span.detachable, _flat(span), _source(span)]
            _update(hasher, repr(look))
            _update(hasher, span.text)
    return hasher.digest()


class Memo:
    """Stage results in this process and in the shared store. Store failures only cost time."""

    def __init__(
        self, store: Store, near: Store, *, ttl_s: float, executor: Executor | None = None
    ) -> None:
        self._store = store
        self._near = near
        self._ttl_s = ttl_s
        self._executor = executor

    async def key(
        self, namespace: Namespace, fingerprint: str, given: ContextDocument, context: StageContext
    ) -> str:
        """:func:`memo_key`, off the loop where the text is long."""
        size = sum(len(block.original) for block in given.blocks)
        return await aside(
            self._executor, size, lambda: memo_key(namespace, fingerprint, given, context)
        )

    async def load(
        self, namespace: Namespace, key: str, given: ContextDocument
    ) -> ContextDocument | None:
        """The remembered result for ``given``, or ``None``."""
        value = await self._near.get(key)
        if value is None:
            try:
                value = await self._store.get(key)
            except StoreError as error:
                logger.debug("memo look-up failed: %s", error)
                return None
            if value is not None:
                await self._near.put(key, value, ttl_s=self._ttl_s)
        if value is None:
            return None
        return await aside(
            self._executor, len(value), lambda: _read(namespace.open(key, value), given)
        )

    async def save(self, namespace: Namespace, key: str, after: ContextDocument) -> None:
        """Remember a result."""
        size = sum(len(block.original) for block in after.blocks)
        try:
            sealed = await aside(self._executor, size, lambda: namespace.seal(key, _written(after)))
        except orjson.JSONEncodeError:
            return  # a lone surrogate in a title
        try:
            await self._near.put(key, sealed, ttl_s=self._ttl_s)
            await self._store.put(key, sealed, ttl_s=self._ttl_s)
        except StoreError as error:
            logger.debug("memo not stored: %s", error)


def _written(after: ContextDocument) -> bytes:
    return orjson.dumps([_VERSION, [_encode(block) for block in after.blocks]])


def _read(data: bytes | None, given: ContextDocument) -> ContextDocument | None:
    if data is None:
        return None
    try:
        version, stored = orjson.loads(data)
        if version != _VERSION or len(stored) != len(given.blocks):
            return None
        blocks = [_decode(*pair) for pair in zip(given.blocks, stored, strict=True)]
    except (ValueError, TypeError, IndexError):
        return None
    return given.with_blocks(tuple(blocks))


def _encode(block: Block) -> list[Any]:
    spans: list[Any] = []
    for span in block.spans:
        made_of = "".join(block.original[start:end] for start, end in span.kept)
        text = None if made_of == span.text else span.text
        spans.append([span.kind, span.protected, span.detachable, _flat(span), text, _source(span)])
    return spans


def _decode(block: Block, stored: Any) -> Block:
    spans = []
    length = len(block.original)
    for kind, protected, detachable, flat, text, source in stored:
        kept = tuple(Range(a, b) for a, b in zip(flat[::2], flat[1::2], strict=True))
        if any(not (0 <= start < end <= length) for start, end in kept):
            raise ValueError("a range is out of bounds")
        if text is None:
            text = "".join(block.original[start:end] for start, end in kept)
        spans.append(
            Span(
                text=text,
                kind=Kind(kind),
                protected=bool(protected),
                detachable=bool(detachable),
                kept=kept,
                source=None if source is None else _read_source(*source),
            )
        )
    return block.with_spans(tuple(spans))


def _flat(span: Span) -> list[int]:
    return [edge for piece in span.kept for edge in piece]


def _source(span: Span) -> list[Any] | None:
    source = span.source
    if source is None:
        return None
    return [source.id, source.title, source.start, source.score, source.row]


def _read_source(name: str, title: str | None, start: int, score: float | None, row: int) -> Source:
    return Source(id=name, title=title, start=start, score=score, row=row)


def _update(hasher: Any, text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    hasher.update(len(data).to_bytes(8, "big"))
    hasher.update(data)
