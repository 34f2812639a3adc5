"""Which of several equal backends a request goes to: the one that most likely holds its KV.

Rendezvous hashing (Thaler and Ravishankar, 1998): every document ranks all backends by a hash of
both, and votes for its first with its length. The same documents find the same backend again,
whichever proxy asks, and where a backend comes or goes only its own documents move.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

__all__ = ["Replicas"]

DOWN_S = 5.0


class Replicas:
    """The base URLs of one upstream, and which of them failed lately. For one event loop."""

    def __init__(self, bases: Sequence[str]) -> None:
        self.bases = tuple(bases)
        self._down_until: dict[str, float] = {}

    def order(self, votes: Sequence[tuple[str, int]]) -> list[str]:
        """All backends, best first, those that failed lately last.

        ``votes``: keys (digests of documents, or of a prefix) and their weights.
        """
        if len(self.bases) == 1:
            return list(self.bases)
        scores: dict[str, float] = defaultdict(float)
        tie = b"".join(sorted(key.encode() for key, _ in votes))
        for key, weight in votes:
            scores[max(self.bases, key=partial(_rank, key.encode()))] += weight
        now = time.monotonic()
        return sorted(
            self.bases,
            key=lambda base: (
                self._down_until.get(base, 0) > now,
                -scores[base],
                -_rank(tie, base),
            ),
        )

    def failed(self, base: str) -> None:
        """Ask others first for a while."""
        self._down_until[base] = time.monotonic() + DOWN_S

    def answered(self, base: str) -> None:
        """It is well."""
        self._down_until.pop(base, None)


def _rank(key: bytes, base: str) -> int:
    digest = hashlib.blake2b(key + b"\0" + base.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
