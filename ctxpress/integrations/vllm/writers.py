"""Who else writes into the store: deployments whose KV does not fit are named at start.

Keys hold the whole identity, so that KV of another model, release or part of the heads is never
found, let alone used. This page of the store is what lets an operator see why nothing is found.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass

from ctxpress.cache.key import Namespace
from ctxpress.cache.store import Store
from ctxpress.errors import StoreError
from ctxpress.integrations.vllm.statistics import Counts

__all__ = ["Deployment", "announce"]

logger = logging.getLogger("vllm.ctxpress")

_PURPOSE = "vllm-writers"
_MOST = 64
_MAX_BYTES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """All that must be equal for two replicas to share KV."""

    vllm: str
    model: str
    dtype: str
    rope: str
    tensor_parallel_size: int
    chunk_tokens: int
    codec: str


async def announce(
    store: Store, namespace: Namespace, mine: Deployment, counts: Counts, *, ttl_s: float
) -> None:
    """Add ``mine`` to the store's list; log how the others differ, each difference once.

    A list that is lost, late or damaged is begun anew: it explains, and decides nothing.
    """
    key = namespace.key(_PURPOSE)
    try:
        rows = _parsed(namespace.open(key, await store.get(key)))
        others = [row for row in rows if row != asdict(mine)]
        for what in sorted({name for row in others for name in _differences(mine, row)}):
            counts.add("foreign_writers", reason=what)
            theirs = sorted({str(row[what]) for row in others} - {str(getattr(mine, what))})
            logger.warning(
                "the store also holds KV of %s %s; this one has %s and computes its own",
                what.replace("_", " "),
                ", ".join(theirs),
                getattr(mine, what),
            )
        data = json.dumps([*others[1 - _MOST :], asdict(mine)]).encode()
        await store.put(key, namespace.seal(key, data), ttl_s=ttl_s)
    except StoreError as error:
        logger.warning("the store cannot be reached yet: %s", error)


def _differences(mine: Deployment, row: dict[str, object]) -> list[str]:
    return [name for name, value in asdict(mine).items() if row[name] != value]


def _parsed(data: bytes | None) -> list[dict[str, object]]:
    if data is None or len(data) > _MAX_BYTES:
        return []
    try:
        rows = json.loads(data)
    except ValueError:
        return []
    names = set(Deployment.__dataclass_fields__)
    if not isinstance(rows, list):
        return []
    return [row for row in rows if isinstance(row, dict) and set(row) == names]
