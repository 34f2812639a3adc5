"""Outcomes: what was decided for a block, remembered so that it is repeated, never re-decided.

An outcome holds ranges, not text, unless a stage wrote text of its own. Stored values are sealed
with the tenant's key: damaged, foreign or forged ones are misses (laws 7 and 8).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import orjson

from ctxpress.aside import aside
from ctxpress.cache.key import Namespace
from ctxpress.cache.store import Store
from ctxpress.document import Block, Kind, Range, Span
from ctxpress.errors import StoreError
from ctxpress.fates import Fate, decode_fates, encode_fates
from ctxpress.stage import Skip

__all__ = ["Outcome", "OutcomeMemory", "apply_outcome", "outcome_of"]

_VERSION = 3
_MAX_RANGES = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The decision about one block.

    ``kept`` are the ranges of the original that go forward, ``None`` for an untouched block;
    ``text`` is set only where a stage wrote text that is not made of ranges; ``kept`` then says
    what it stands for. ``skipped`` says why a block went untouched; ``shared`` that it was
    compressed by question-independent stages only. ``slot`` and ``dropped`` are those of the
    block. ``length`` is the original's, in characters. ``fates`` is what became of the documents in
    it, so that a repeated request is explained as the first one was; empty where all are kept.
    """

    length: int
    kept: tuple[Range, ...] | None = None
    text: str | None = None
    skipped: Skip | None = None
    shared: bool = False
    slot: int | None = None
    dropped: bool = False
    fates: tuple[Fate, ...] = ()

    def encode(self) -> bytes:
        """Canonical JSON bytes: ranges as gaps and lengths, which are short numbers."""
        flat: list[int] | None = None
        if self.kept is not None:
            flat, position = [], 0
            for start, end in self.kept:
                flat += (start - position, end - start)
                position = end
        return orjson.dumps(
            [
                _VERSION,
                self.length,
                flat,
                self.text,
                self.skipped,
                self.shared,
                self.slot,
                self.dropped,
                encode_fates(self.fates),
            ],
        )

    @classmethod
    def decode(cls, data: bytes, *, length: int) -> Outcome | None:
        """Read what :meth:`encode` wrote for a block of ``length`` characters.

        Anything else, other versions included, is ``None``: a miss.
        """
        try:
            version, stored, *fields = orjson.loads(data)
            if version != _VERSION or stored != length:
                return None
            flat, text, skipped, shared, slot, dropped, fates = fields
            if not isinstance(shared, bool) or not isinstance(dropped, bool):
                return None
            if slot is not None and (type(slot) is not int or slot < 0):
                return None
            if text is not None and not (isinstance(text, str) and text.strip()):
                return None
            return cls(
                length=length,
                kept=None if flat is None else _ranges(flat, length),
                text=text,
                skipped=None if skipped is None else Skip(skipped),
                shared=shared,
                slot=slot,
                dropped=dropped,
                fates=decode_fates(fates),
            )
        except (ValueError, TypeError):
            return None


def _ranges(flat: Any, length: int) -> tuple[Range, ...]:
    if not isinstance(flat, list) or len(flat) % 2 or not 0 < len(flat) <= _MAX_RANGES:
        raise ValueError("not a list of gaps and lengths")
    if not all(type(number) is int for number in flat):
        raise ValueError("not a list of integers")
    ranges: list[Range] = []
    position = 0
    for gap, size in zip(flat[::2], flat[1::2], strict=True):
        start, end = position + gap, position + gap + size
        if start < 0 or size <= 0 or end > length:
            raise ValueError("a range is out of bounds")
        ranges.append(Range(start, end))
        position = end
    return tuple(ranges)


def outcome_of(
    before: Block,
    after: Block,
    *,
    extractive: bool,
    skipped: Skip | None,
    shared: bool,
    fates: tuple[Fate, ...] = (),
) -> Outcome:
    """The outcome that turns ``before`` into ``after``."""
    length, slot = len(before.original), after.slot
    if after.dropped:
        return Outcome(length=length, shared=shared, dropped=True, fates=fates)
    if after.text == before.text:
        left = None if slot is not None else skipped or Skip.NO_SAVING
        return Outcome(length=length, skipped=left, shared=shared, slot=slot)
    text = None if extractive else after.text
    kept = after.kept or None if text is not None else after.kept
    return Outcome(length=length, kept=kept, text=text, shared=shared, slot=slot, fates=fates)


def apply_outcome(block: Block, outcome: Outcome) -> Block:
    """``block`` as the outcome says; one span, since no stage sees it again."""
    if block.element is not None and outcome.dropped:
        return block.without_text()
    if block.element is not None and outcome.slot is not None:
        block = dataclasses.replace(block, slot=outcome.slot)
    if outcome.text is not None:
        text, kept = outcome.text, outcome.kept or ()
    elif outcome.kept is not None:
        kept = outcome.kept
        text = "".join(block.original[start:end] for start, end in kept)
        if not text.strip():
            return block
    else:
        return block
    return block.with_spans((Span(text=text, kind=Kind.OPAQUE, protected=True, kept=kept),))


class OutcomeMemory:
    """Outcomes in the shared store behind a near copy in this process.

    The near copy saves round trips and carries this process over a store that is away: what it
    sent, it sends again. ``ttl_s`` must be longer than providers keep their prompt caches.
    """

    def __init__(
        self, store: Store, near: Store, *, ttl_s: float, executor: Executor | None = None
    ) -> None:
        self._store = store
        self._near = near
        self._ttl_s = ttl_s
        self._executor = executor

    async def recall(
        self, namespace: Namespace, keys: Sequence[str], lengths: Sequence[int]
    ) -> tuple[list[Outcome | None], bool]:
        """The outcomes under ``keys``, and whether the shared store could be read."""
        values = await self._near.get_many(keys, ttl_s=self._ttl_s)
        missing = [i for i, value in enumerate(values) if value is None]
        reachable = True
        if missing:
            try:
                fetched = await self._store.get_many([keys[i] for i in missing], ttl_s=self._ttl_s)
            except StoreError:
                reachable = False
            else:
                for i, value in zip(missing, fetched, strict=True):
                    values[i] = value
        outcomes = await self._open_all(namespace, keys, values, lengths)
        found = [i for i in missing if outcomes[i] is not None]
        for i in found:
            sealed = values[i]
            if sealed is not None:
                await self._near.put(keys[i], sealed, ttl_s=self._ttl_s)
        return outcomes, reachable

    async def settle(
        self, namespace: Namespace, decided: Sequence[tuple[str, Outcome]]
    ) -> tuple[list[Outcome], bool]:
        """Store outcomes unless a rival was first; the outcomes that now hold, in order.

        When the shared store fails, every block goes untouched (law 3): that, too, is remembered
        here, so that this process repeats it. The second value says whether the store held.
        """
        keys = [key for key, _ in decided]
        lengths = [outcome.length for _, outcome in decided]
        items = await self._seal_all(namespace, decided)
        reachable = True
        held: Sequence[bytes | None]
        try:
            held = await self._store.set_many_if_absent(items, ttl_s=self._ttl_s)
        except StoreError:
            held, reachable = [None] * len(items), False
        # An unreadable rival value cannot be adopted and must not be overruled: untouched.
        adopted = [
            outcome or Outcome(length=length, skipped=Skip.STORE_FAILED)
            for outcome, length in zip(
                await self._open_all(namespace, keys, held, lengths), lengths, strict=True
            )
        ]
        # What another request of this process sends meanwhile goes before what the store says.
        sealed = await self._seal_all(namespace, list(zip(keys, adopted, strict=True)))
        near = await self._near.set_many_if_absent(sealed, ttl_s=self._ttl_s)
        settled = await self._open_all(namespace, keys, near, lengths)
        return [mine or other for mine, other in zip(settled, adopted, strict=True)], reachable

    async def _seal_all(
        self, namespace: Namespace, decided: Sequence[tuple[str, Outcome]]
    ) -> list[tuple[str, bytes]]:
        return await aside(
            self._executor,
            _work_size([outcome.length for _, outcome in decided]),
            lambda: [(key, namespace.seal(key, outcome.encode())) for key, outcome in decided],
        )

    async def _open_all(
        self,
        namespace: Namespace,
        keys: Sequence[str],
        values: Sequence[bytes | None],
        lengths: Sequence[int],
    ) -> list[Outcome | None]:
        return await aside(
            self._executor,
            _work_size([len(value or b"") for value in values]),
            lambda: [
                _open(namespace, key, value, length)
                for key, value, length in zip(keys, values, lengths, strict=True)
            ],
        )


def _work_size(lengths: Sequence[int]) -> int:
    """Characters or bytes, and something for every seal."""
    return sum(lengths) + 100 * len(lengths)


def _open(namespace: Namespace, key: str, value: bytes | None, length: int) -> Outcome | None:
    data = namespace.open(key, value)
    return None if data is None else Outcome.decode(data, length=length)
