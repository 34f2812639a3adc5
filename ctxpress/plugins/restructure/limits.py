"""The tokens that documents may have, counted as they will stand in the request."""

from __future__ import annotations

from collections.abc import Sequence

from ctxpress.arrangement import Passage, passages_of
from ctxpress.document import ContextDocument
from ctxpress.stage import StageContext

__all__ = ["Limits"]


class Limits:
    """A part of the tokens that the documents had, and a request's hard budget for all text.

    `ratio` is that part. What is protected in pinned documents stays whatever is chosen, and counts
    for the hard budget only. `free_tokens` is what the choice of pieces begins with.
    """

    def __init__(self, passages: Sequence[Passage], ratio: float, context: StageContext) -> None:
        self._count = context.counter.count
        self._target = context.target_tokens
        total = sum(self._count(passage.text) for passage in passages)
        pinned = sum(
            self._count(passage.text[start:end])
            for passage in passages
            if passage.pinned
            for start, end in passage.fixed
        )
        free = max(0, total - pinned)
        share = int(ratio * free + 1e-6)  # the nudge undoes float error: all must be all
        self._most = total - free + share
        self.free_tokens = share if self._target is None else min(share, self._target)

    def excess(self, document: ContextDocument) -> int:
        """By how many tokens the documents, or all blocks, exceed what they may have."""
        tokens = sum(self._count(passage.text) for passage in passages_of(document))
        return max(tokens - self._most, self.hard_excess(document))

    def hard_excess(self, document: ContextDocument) -> int:
        """By how many tokens all blocks exceed the request's own budget; 0 where it has none."""
        if self._target is None:
            return 0
        return sum(self._count(block.text) for block in document.blocks) - self._target
