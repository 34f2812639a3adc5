"""What the connector's two halves tell each other: loads and saves, chunk by chunk.

The scheduler's half knows requests and blocks, the workers' half tensors. vLLM carries these
objects from one to the other with each step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorMetadata,
    KVConnectorWorkerMetadata,
)

from ctxpress.cache.chunk_key import CacheKey

__all__ = ["ChunkLoad", "ChunkSave", "Measured", "RequestLoad", "Transfers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkLoad:
    """A stored chunk, and where its tokens ``skip`` to ``skip + take`` go.

    ``first``: the place in the request of the chunk's first token; ``position``: its rotary
    position there. Keys are multiplied by ``key_scale``.
    """

    key: CacheKey
    n_tokens: int
    first: int
    position: int
    skip: int
    take: int
    key_scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLoad:
    """All that one request loads. ``block_ids``: of the whole request, from its first token on.

    ``whole``: parts of it are worth nothing, so an error of one is an error of all.
    """

    request_id: str
    block_ids: tuple[int, ...]
    chunks: tuple[ChunkLoad, ...]
    whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkSave:
    """Tokens ``first`` to ``first + n_tokens`` of a request, whose blocks hold their KV now.

    ``block_ids`` begins with the block that holds token ``first``.
    """

    key: CacheKey
    token_ids: tuple[int, ...]
    first: int
    block_ids: tuple[int, ...]


@dataclass(kw_only=True)
class Transfers(KVConnectorMetadata):  # type: ignore[misc]  # vLLM ships no types to mypy
    """The work of one step.

    ``prefill``: how many tokens the model computes in it, behind how many others; None where that
    says nothing about prefills. ``idle``: it computes nothing.
    """

    loads: list[RequestLoad] = field(default_factory=list)
    saves: list[ChunkSave] = field(default_factory=list)
    prefill: tuple[int, int] | None = None
    idle: bool = False


@dataclass(kw_only=True)
class Measured(KVConnectorWorkerMetadata):  # type: ignore[misc]  # as above
    """What things took in a worker, in milliseconds; for the scheduler's half, which decides by it.

    ``links``: bytes that were loaded together. ``decodes``: tokens. ``prefills``: tokens, and those
    before them.
    """

    links: list[tuple[int, float]] = field(default_factory=list)
    decodes: list[tuple[int, float]] = field(default_factory=list)
    prefills: list[tuple[int, int, float]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.links or self.decodes or self.prefills)

    def aggregate(self, other: Any) -> Measured:
        """Those of two workers."""
        return Measured(
            links=self.links + other.links,
            decodes=self.decodes + other.decodes,
            prefills=self.prefills + other.prefills,
        )
