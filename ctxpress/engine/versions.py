"""Which documents are edits of earlier ones, and their approximate KV.

A document that is known by its title, behind the same prefix, and shares most of its tokens with
the version that was last encoded exactly, is re-encoded from that one (see ``edits``). Only exact
versions are edited from, so errors do not add up over edits; and what edits give is kept apart,
in this worker only, so that nobody else takes it for the KV of that text.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from ctxpress.cache.chunk_key import CacheKey
from ctxpress.engine.edits import EditPlan, plan_edit
from ctxpress.engine.kv_memory import KVMemory

__all__ = ["DocumentVersions", "Edit"]

_MOST_DOCUMENTS = 4096
_LEAST_SHARE = 0.5  # of the new tokens that must be old ones


@dataclass(frozen=True, slots=True)
class Edit:
    """The KV to edit, and how."""

    old: CacheKey
    plan: EditPlan


class DocumentVersions:
    """The last exact version of each document. For one thread.

    ``edited``: what came of edits. ``max_bytes``: how much of that is kept.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self.edited = KVMemory(max_bytes)
        self._last: OrderedDict[tuple[str, str], tuple[CacheKey, tuple[int, ...]]] = OrderedDict()

    def remember(self, before: str, title: str, tokens: Sequence[int], key: CacheKey) -> None:
        """``tokens`` behind the tokens of digest ``before`` were encoded exactly, as ``key``."""
        if not title:
            return
        self._last[before, title] = key, tuple(tokens)
        self._last.move_to_end((before, title))
        if len(self._last) > _MOST_DOCUMENTS:
            self._last.popitem(last=False)

    def edit(self, before: str, title: str, tokens: Sequence[int]) -> Edit | None:
        """How to make the KV of ``tokens`` from an earlier version; None where that is no use."""
        last = self._last.get((before, title))
        if last is None:
            return None
        key, old = last
        plan = plan_edit(old, tokens)
        if plan.reused_tokens <= _LEAST_SHARE * len(tokens):
            return None
        return Edit(key, plan)
