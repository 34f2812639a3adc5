"""What is being decided in one request, and how its budget is shared out over stages and blocks."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ctxpress.conversation import Place
from ctxpress.counting import Counting
from ctxpress.document import Block, Source
from ctxpress.stage import Skip, Stage, StageContext, StageTraits

__all__ = ["Budget", "BuiltStage", "Work", "fingerprint", "free_text"]

MIN_KEEP_RATIO = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltStage:
    """A stage with the name it has in the configuration and its fingerprint.

    ``final``: it was registered as one that nothing may follow.
    """

    name: str
    stage: Stage
    fingerprint: str
    final: bool = False

    @property
    def traits(self) -> StageTraits:
        """What the stage promises."""
        return self.stage.traits


@dataclass(slots=True)
class Work:
    """A block being decided. ``before`` is the block as parsed, ``block`` as it is by now.

    ``skipped`` is set where no stage may touch the block, or why none did. ``shared`` forbids
    question-aware stages. ``extractive`` turns false once a stage wrote text of its own.
    ``lossless_only`` says why no other stage than a lossless one may touch it.
    ``stage_skips`` are the codes under which stages left the block as it was; ``dropped_by`` says
    of documents that left which stage dropped them, and why.
    """

    place: Place
    before: Block
    block: Block
    question: str | None = None
    shared: bool = False
    extractive: bool = True
    skipped: Skip | None = None
    lossless_only: Skip | None = None
    stage_skips: list[Skip] = field(default_factory=list)
    dropped_by: dict[Source, str] = field(default_factory=dict)

    def may_be_given_to(self, built: BuiltStage) -> bool:
        """Whether this is one of the blocks that a stage is offered."""
        return self.lossless_only is None or built.traits.lossless

    def note_dropped(self, after: Block, built: BuiltStage, reasons: Mapping[Source, str]) -> None:
        """Note why documents that are not in ``after`` any more went: ``reasons``, or the stage's.

        ``reasons`` are those that the stage gave for this block.
        """
        left = {span.source for span in after.spans if span.text.strip()}
        for span in self.block.spans:
            if span.source is not None and span.source not in left:
                reason = reasons.get(span.source, built.traits.drop_reason)
                self.dropped_by.setdefault(span.source, f"{built.name}: {reason}")


def fingerprint(name: str, identity: str, config_json: str) -> str:
    """Everything but the text that decides a stage's output, as one hash."""
    joined = "\0".join((name, identity, config_json))
    return hashlib.sha256(joined.encode()).hexdigest()


def free_text(block: Block, *, lossless: bool = False) -> str:
    """A block's unprotected text, as one string: a block may have a hundred thousand spans.

    With what a ``lossless`` stage may rewrite besides, where asked for.
    """
    return "".join(
        span.text
        for span in block.spans
        if not span.protected or (lossless and block.may_rewrite(span))
    )


def _loose_text(block: Block) -> str:
    """A block's text but for what must go forward."""
    return "".join(span.text for span in block.spans if not span.pinned)


class Budget:
    """Shares a request's own budget out over the stages, and over the blocks of each.

    A request's ``keep_ratio`` is for the whole pipeline. Stages that have a ratio take a share in
    proportion to its logarithm; the last of them takes whatever is left to reach the target, and
    alone answers for ``target_tokens``, which is shared out over blocks by their free text. A final
    stage is told its blocks' part of ``target_tokens`` too, since what it adds must fit. One object
    a stage: ``everything`` are all blocks as they are when the stage begins.
    """

    def __init__(
        self,
        stages: Sequence[BuiltStage],
        number: int,
        context: StageContext,
        everything: Sequence[Block],
        counting: Counting,
    ) -> None:
        self._stages = stages
        self._own = stages[number].traits.keep_ratio
        self._arranges = stages[number].traits.arranges
        self._final = stages[number].final
        self._last = all(stage.traits.keep_ratio is None for stage in stages[number + 1 :])
        self._context = context
        self._everything = everything
        self._counting = counting
        self._all_sizes: tuple[int, int] | None = None

    async def context_of(self, group: Sequence[Work]) -> StageContext:
        """The stage's context for ``group``, with its part of the budget."""
        ratio, target = self._context.keep_ratio, self._context.target_tokens
        if not self._final and (self._own is None or not self._last):
            target = None
        if self._own is None:
            ratio = None
        if target is not None:
            target = await self._target(target, [item.block for item in group])
        if ratio is not None and self._own is not None:
            if self._last:
                before = await self._free_tokens([item.before for item in group])
                now = await self._free_tokens([item.block for item in group])
                ratio = min(1.0, ratio * before / now) if now else 1.0
            else:
                ratio **= _part(self._stages, self._own)
            ratio = max(ratio, MIN_KEEP_RATIO)
        return dataclasses.replace(self._context, keep_ratio=ratio, target_tokens=target)

    async def exceeded(self, blocks: Sequence[Block]) -> bool:
        """Whether ``blocks``, all as the stage left them, have more tokens than a hard budget.

        Only asked of the stage that answers for the budget; protected text alone may exceed it.
        """
        budget = self._context.target_tokens
        if budget is None or self._own is None or not self._last:
            return False
        return await self._counting.total([block.text for block in blocks]) > budget

    async def _target(self, budget: int, group: Sequence[Block]) -> int:
        """The group's part of ``budget``: its protected text, and its share of what that leaves."""
        if self._all_sizes is None:
            self._all_sizes = await self._sizes(self._everything)
        all_free, all_protected = self._all_sizes
        free, protected = await self._sizes(group)
        left = max(0, budget - all_protected)
        return protected + (left * free // all_free if all_free else 0)

    async def _sizes(self, blocks: Sequence[Block]) -> tuple[int, int]:
        """Tokens that may leave, and those that must stay.

        What is protected as a part of a document may leave with it, where a stage drops documents.
        """
        if self._arranges:
            free = await self._counting.total([_loose_text(block) for block in blocks])
        else:
            free = await self._free_tokens(blocks)
        return free, await self._counting.total([block.text for block in blocks]) - free

    async def _free_tokens(self, blocks: Sequence[Block]) -> int:
        return await self._counting.total([free_text(block) for block in blocks])


def _part(stages: Sequence[BuiltStage], own: float) -> float:
    """A stage's share of the pipeline's logarithmic ratio; equal shares where all keep all."""
    ratios = [s.traits.keep_ratio for s in stages if s.traits.keep_ratio is not None]
    total = sum(math.log(ratio) for ratio in ratios)
    return math.log(own) / total if total else 1 / len(ratios)
