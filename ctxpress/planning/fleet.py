"""What a store must bear when many replicas load their contexts from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ctxpress.planning.constants import CodecCost
from ctxpress.planning.model_shape import ModelShape

__all__ = ["Fleet", "FleetNeed", "fleet_needs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What is assumed of a replica.

    ``requests_per_s`` of one replica, each with ``context_tokens`` of shared context.
    ``load_share``: of these contexts, those that the replica's own prefix cache does not hold.
    ``corpus_tokens``: different tokens of context that one replica adds to what the store holds.
    ``new_share``: of these contexts, those that nobody has stored yet.
    ``node_gbit_per_s`` and ``node_gb``: what one node of the store serves and holds.
    """

    requests_per_s: float = 1.0
    context_tokens: int = 8192
    load_share: float = 0.3
    corpus_tokens: int = 2_000_000
    new_share: float = 0.03
    node_gbit_per_s: float = 5.6
    node_gb: float = 64.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetNeed:
    """What so many replicas need of the store with one codec."""

    n_replicas: int
    codec: CodecCost
    read_gbit_per_s: float
    write_gbit_per_s: float
    memory_gb: float
    n_nodes: int


def fleet_needs(
    model: ModelShape, fleet: Fleet, codecs: tuple[CodecCost, ...], replicas: tuple[int, ...]
) -> tuple[FleetNeed, ...]:
    """The needs of every number of replicas with every codec."""
    needs = []
    for n_replicas in replicas:
        tokens_per_s = n_replicas * fleet.requests_per_s * fleet.context_tokens
        for codec in codecs:
            per_token = codec.stored_bytes(model.kv_bytes_per_token)
            gbit_per_s = tokens_per_s * per_token * 8 / 1e9
            read, write = gbit_per_s * fleet.load_share, gbit_per_s * fleet.new_share
            memory_gb = n_replicas * fleet.corpus_tokens * per_token / 1e9
            nodes = max((read + write) / fleet.node_gbit_per_s, memory_gb / fleet.node_gb)
            needs.append(
                FleetNeed(
                    n_replicas=n_replicas,
                    codec=codec,
                    read_gbit_per_s=read,
                    write_gbit_per_s=write,
                    memory_gb=memory_gb,
                    n_nodes=math.ceil(nodes),
                )
            )
    return tuple(needs)
