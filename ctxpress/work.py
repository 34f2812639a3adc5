"""What is being decided in one request, and how its budget is shared out over stages and blocks."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ctxpress.conversation import Place
from ctxpress.counting import Counting
from ctxpress.document import Block
from ctxpress.stage import Skip, Stage, StageContext, StageTraits

__all__ = ["BuiltStage", "Work", "fingerprint", "free_texts", "share_out"]

MIN_KEEP_RATIO = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltStage:
    """A stage with the name it has in the configuration and its fingerprint."""

    name: str
    stage: Stage
    fingerprint: str

    @property
    def traits(self) -> StageTraits:
        """What the stage promises."""
        return self.stage.traits


@dataclass(slots=True)
class Work:
    """A block being decided. ``before`` is the block as parsed, ``block`` as it is by now.

    ``skipped`` is set where no stage may touch the block, or why none did. ``shared`` forbids
    question-aware stages. ``extractive`` turns false once a stage wrote text of its own.
    """

    place: Place
    before: Block
    block: Block
    question: str | None = None
    shared: bool = False
    extractive: bool = True
    skipped: Skip | None = None
    reasons: list[str] = field(default_factory=list)


def fingerprint(name: str, identity: str, config_json: str) -> str:
    """Everything but the text that decides a stage's output, as one hash."""
    joined = "\0".join((name, identity, config_json))
    return hashlib.sha256(joined.encode()).hexdigest()


def free_texts(block: Block) -> list[str]:
    """A block's unprotected texts."""
    return [span.text for span in block.spans if not span.protected]


async def share_out(
    stages: Sequence[BuiltStage],
    number: int,
    context: StageContext,
    group: Sequence[Work],
    everything: Sequence[Block],
    counting: Counting,
) -> StageContext:
    """The context of stage ``number`` for ``group``: its part of the request's own budget.

    A request's ``keep_ratio`` is for the whole pipeline. Stages that have a ratio take a share in
    proportion to its logarithm; the last of them takes whatever is left to reach the target, and
    alone answers for ``target_tokens``, which is shared out over blocks by their free text:
    ``everything`` holds all blocks as they were when the stage began.
    """
    own = stages[number].traits.keep_ratio
    if own is None:
        return dataclasses.replace(context, keep_ratio=None, target_tokens=None)
    last = all(stage.traits.keep_ratio is None for stage in stages[number + 1 :])
    target_tokens = None
    if last and context.target_tokens is not None:
        blocks = [item.block for item in group]
        target_tokens = await _target(context.target_tokens, blocks, everything, counting)
    ratio = context.keep_ratio
    if ratio is not None:
        if last:
            before = await _free_tokens([item.before for item in group], counting)
            now = await _free_tokens([item.block for item in group], counting)
            ratio = min(1.0, ratio * before / now) if now else 1.0
        else:
            ratio **= _part(stages, own)
        ratio = max(ratio, MIN_KEEP_RATIO)
    return dataclasses.replace(context, keep_ratio=ratio, target_tokens=target_tokens)


async def _free_tokens(blocks: Sequence[Block], counting: Counting) -> int:
    return await counting.total([text for block in blocks for text in free_texts(block)])


def _part(stages: Sequence[BuiltStage], own: float) -> float:
    """A stage's share of the pipeline's logarithmic ratio; equal shares where all keep all."""
    ratios = [s.traits.keep_ratio for s in stages if s.traits.keep_ratio is not None]
    total = sum(math.log(ratio) for ratio in ratios)
    return math.log(own) / total if total else 1 / len(ratios)


async def _target(
    budget: int, group: Sequence[Block], everything: Sequence[Block], counting: Counting
) -> int:
    """The group's part of ``budget``: its protected text, and its share of what that leaves."""

    async def sizes(blocks: Sequence[Block]) -> tuple[int, int]:
        free = await _free_tokens(blocks, counting)
        return free, await counting.total([block.text for block in blocks]) - free

    all_free, all_protected = await sizes(everything)
    free, protected = await sizes(group)
    left = max(0, budget - all_protected)
    return protected + (left * free // all_free if all_free else 0)
