"""Which of several equal backends a request goes to: the one that most likely holds its KV.

Rendezvous hashing (Thaler and Ravishankar, 1998): every document ranks all backends by a hash of
both, and votes for its first with its length. The same documents find the same backend again,
whichever proxy asks, and where a backend comes or goes only its own documents move.

Where requests may be spread, loads are bounded (Mirrokni, Thorup and Zadimoghaddam, 2018, for
rendezvous hashing): a backend that runs much more than its share is asked after the others, so that
one prompt that everybody sends does not keep one backend busy and the others idle.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

__all__ = ["Replicas"]

DOWN_S = 5.0
# Of requests running here, against an equal share; fewer than a few are never too many.
_LOAD_FACTOR = 1.25
_LIGHT_LOAD = 8


class Replicas:
    """The base URLs of one upstream, and which of them failed lately. For one event loop.

    ``spread``: whether a backend with much more to do than its share is asked after the others.
    """

    def __init__(self, bases: Sequence[str], *, spread: bool = False) -> None:
        self.bases = tuple(bases)
        self._spread = spread
        self._down_until: dict[str, float] = {}
        self._running: dict[str, int] = dict.fromkeys(self.bases, 0)

    def order(self, votes: Sequence[tuple[str, int]]) -> list[str]:
        """All backends, best first; then those with too much to do, and those that failed lately.

        ``votes``: keys (digests of documents, or of a prefix) and their weights.
        """
        if len(self.bases) == 1:
            return list(self.bases)
        scores: dict[str, float] = defaultdict(float)
        tie = b"".join(sorted(key.encode() for key, _ in votes))
        for key, weight in votes:
            scores[max(self.bases, key=partial(_rank, key.encode()))] += weight
        now, bound = time.monotonic(), self._bound()
        return sorted(
            self.bases,
            key=lambda base: (
                self._down_until.get(base, 0) > now,
                self._running[base] >= bound,
                -scores[base],
                -_rank(tie, base),
            ),
        )

    def taken(self, base: str) -> None:
        """It has one request more, until :meth:`left`."""
        self._running[base] += 1

    def left(self, base: str) -> None:
        """A request that was counted by :meth:`taken` is over."""
        self._running[base] -= 1

    def failed(self, base: str) -> None:
        """Ask others first for a while."""
        self._down_until[base] = time.monotonic() + DOWN_S

    def answered(self, base: str) -> None:
        """It is well."""
        self._down_until.pop(base, None)

    def _bound(self) -> float:
        """How many requests are too many for one of them."""
        if not self._spread:
            return math.inf
        share = (sum(self._running.values()) + 1) / len(self.bases)
        return max(_LIGHT_LOAD, math.ceil(_LOAD_FACTOR * share))


def _rank(key: bytes, base: str) -> int:
    digest = hashlib.blake2b(key + b"\0" + base.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
