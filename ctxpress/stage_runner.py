"""Runs stages over the blocks that are being decided: budgets, memo, law checks, fail-open."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import time
from collections import Counter
from collections.abc import Collection, Sequence, Set
from concurrent.futures import Executor
from dataclasses import dataclass, field

from ctxpress.aside import aside
from ctxpress.cache.key import Namespace
from ctxpress.counting import Counting
from ctxpress.document import ContextDocument, Source
from ctxpress.errors import CtxpressError, DeadlineError, LawError, StageError
from ctxpress.languages import Hidden, mask_languages, unmask
from ctxpress.laws import check_laws, restore_of
from ctxpress.memo import Memo
from ctxpress.stage import Skip, Stage, StageContext, StageReport, StageSkip, StageTraits
from ctxpress.work import Budget, BuiltStage, Work

__all__ = ["StageRunner"]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Tally:
    """Counts for one stage's report."""

    tokens_in: int = 0
    tokens_out: int = 0
    blocks: int = 0
    blocks_run: int = 0
    memo_hits: int = 0
    failures: int = 0
    skips: Counter[Skip] = field(default_factory=Counter)
    reasons: dict[Skip, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def skip(self, code: Skip, reason: str) -> None:
        self.skips[code] += 1
        self.reasons.setdefault(code, reason)


class StageRunner:
    """Applies stages in order to work items. Holds configuration only."""

    def __init__(self, stages: Sequence[BuiltStage], memo: Memo, executor: Executor) -> None:
        self._stages = tuple(stages)
        self._memo = memo
        self._executor = executor

    async def run(
        self,
        work: Sequence[Work],
        document: ContextDocument,
        context: StageContext,
        counting: Counting,
        *,
        namespace: Namespace,
        strict: bool,
    ) -> tuple[StageReport, ...]:
        """Run every stage over the items that are not skipped; items are updated in place.

        ``document``: the request with every block that is already decided as it is sent.

        :raises StageError: a stage failed and ``strict`` is set.
        """
        open_work = [item for item in work if item.skipped is None]
        being_decided = {item.place.index for item in open_work}
        reports = []
        for number, built in enumerate(self._stages):
            started = time.monotonic()
            open_work = [item for item in open_work if not item.block.dropped]
            offered = [item for item in open_work if item.may_be_given_to(built)]
            tally = _Tally(blocks=len(offered))
            blocks = [item.block for item in open_work]
            budget = Budget(self._stages, number, context, blocks, counting)
            for group in _groups(built.traits, offered):
                await self._apply(
                    built,
                    group,
                    await self._given(built.traits, group, document, being_decided),
                    dataclasses.replace(await budget.context_of(group), notes=tally.notes),
                    tally,
                    counting,
                    namespace=namespace,
                    strict=strict,
                )
            if await budget.exceeded([item.block for item in open_work]):
                tally.skip(Skip.OVER_BUDGET, _OVER_BUDGET_REASON)
            report = _report(built.name, tally, (time.monotonic() - started) * 1000)
            if tally.failures:  # one line a request, however many blocks it has
                logger.warning("stage %s was skipped: %s", built.name, report.reason)
            reports.append(report)
        return tuple(reports)

    async def _apply(
        self,
        built: BuiltStage,
        group: list[Work],
        given: ContextDocument,
        context: StageContext,
        tally: _Tally,
        counting: Counting,
        *,
        namespace: Namespace,
        strict: bool,
    ) -> None:
        traits, shared = built.traits, group[0].shared
        if shared and traits.query_aware and not traits.query_optional:
            tally.skip(Skip.SHARED_PREFIX, _SHARED_REASON)
            return
        try:
            after, memo_hit = await self._apply_checked(built, given, context, namespace)
            await self._adopt(built, group, after, tally, counting, context, strict=strict)
            tally.memo_hits += memo_hit
        except StageSkip as skip:
            if traits.may_grow:  # what saves nothing does not explain why nothing was saved
                for _ in group:
                    tally.skip(skip.code, skip.reason)
            else:
                self._skip(group, tally, skip.code, skip.reason)
        except Exception as error:
            if strict:
                raise _as_stage_error(built.name, error) from error
            code, reason = _failure(built.name, error)
            tally.failures += 1
            logger.debug("stage %s failed", built.name, exc_info=error)  # may quote the text
            self._skip(group, tally, code, reason)

    async def _given(
        self,
        traits: StageTraits,
        group: Sequence[Work],
        document: ContextDocument,
        being_decided: Set[int],
    ) -> ContextDocument:
        """What a stage is shown of the request: the group, its question, what was sent before it.

        Only what stands before the whole group counts as sent: nothing may depend on what follows
        it. A block of a shared prefix depends on itself alone (law 3).
        """
        first, shared = group[0], group[0].shared
        question = first.question if traits.query_aware and not shared else None
        earlier: tuple[str, ...] = ()
        if traits.scope == "turn" and not shared:
            before = [
                block
                for index, block in enumerate(document.blocks[: first.place.index])
                if index not in being_decided and block.spans
            ]
            size = sum(len(block.original) for block in before)
            earlier = await aside(
                self._executor, size, lambda: tuple(block.text for block in before)
            )
        return dataclasses.replace(
            document,
            blocks=tuple(item.block for item in group),
            question=question,
            earlier=earlier,
        )

    async def _apply_checked(
        self,
        built: BuiltStage,
        given: ContextDocument,
        context: StageContext,
        namespace: Namespace,
    ) -> tuple[ContextDocument, bool]:
        """The stage's lawful output, from the memo where it has been computed before."""
        key = None
        if built.traits.scope == "block":
            key = await self._memo.key(namespace, built.fingerprint, given, context)
            known = await self._memo.load(namespace, key, given)
            if known is not None:
                return known, True
        languages = built.traits.languages
        size = sum(len(block.original) for block in given.blocks)
        # Masks and checks are ours and go past the queue of stages: work that was done in time
        # must not miss its deadline behind work that has not begun.
        masked, hidden = await aside(self._executor, size, lambda: mask_languages(given, languages))
        context.checkpoint()
        remaining_s = context.deadline_s - time.monotonic()
        async with asyncio.timeout(remaining_s if math.isfinite(remaining_s) else None):
            result = await _apply_stage(built, masked, context)
        after = await aside(
            self._executor, size, lambda: _checked(masked, result, hidden, built.stage)
        )
        if key is not None:
            await self._memo.save(namespace, key, after)
        return after, False

    async def _adopt(
        self,
        built: BuiltStage,
        group: Sequence[Work],
        after: ContextDocument,
        tally: _Tally,
        counting: Counting,
        context: StageContext,
        *,
        strict: bool,
    ) -> None:
        counts_in = await counting.count([item.block.text for item in group])
        counts_out = await counting.count([block.text for block in after.blocks])
        reasons: dict[str, dict[Source, str]] = {}
        for pointer, source, reason in after.drop_reasons:
            reasons.setdefault(pointer, {})[source] = reason
        own_target = _own_target(built.traits, context)
        grown = _grown(built.traits, counts_in, counts_out)
        if grown and strict:
            size_in, size_out = (sum(c[n] for n in grown) for c in (counts_in, counts_out))
            raise LawError(f"{built.name}: {size_in} tokens grew to {size_out}")
        for number, (item, block) in enumerate(zip(group, after.blocks, strict=True)):
            tokens_in, tokens_out = counts_in[number], counts_out[number]
            if number in grown:
                self._skip([item], tally, Skip.INFLATED, _INFLATED_REASON)
                continue
            if built.traits.arranges:
                item.note_dropped(block, built, reasons.get(block.pointer, {}))
            if block.text != item.block.text:
                item.extractive = item.extractive and built.traits.extractive
            item.block = block
            if own_target is not None and tokens_out > own_target:
                tally.skip(Skip.OVER_BUDGET, _OVER_BUDGET_REASON)
            tally.blocks_run += 1
            tally.tokens_in += tokens_in
            tally.tokens_out += tokens_out

    def _skip(self, group: Sequence[Work], tally: _Tally, code: Skip, reason: str) -> None:
        for item in group:
            tally.skip(code, reason)
            item.stage_skips.append(code)


def _groups(traits: StageTraits, open_work: list[Work]) -> list[list[Work]]:
    """The blocks that a stage is given at a time.

    A block of a shared prefix is always given alone: what it becomes must not depend on others of
    this turn, with which other conversations do not go on (law 3).
    """
    if traits.scope == "block":
        return [[item] for item in open_work]
    together = [item for item in open_work if not item.shared]
    alone = [[item] for item in open_work if item.shared]
    return [*([together] if together else []), *alone]


def _grown(
    traits: StageTraits, counts_in: Sequence[int], counts_out: Sequence[int]
) -> Collection[int]:
    """Which blocks of a group hold more tokens than they may.

    What a stage that arranges did to documents stands or falls as a whole: with one block left as
    it was, two documents would want one place.
    """
    if traits.may_grow:
        return ()
    if traits.arranges:
        return range(len(counts_in)) if sum(counts_out) > sum(counts_in) else ()
    return {n for n, count in enumerate(counts_in) if counts_out[n] > count}


def _own_target(traits: StageTraits, context: StageContext) -> int | None:
    """The tokens that the stage's configuration gives each block, where no request overrides it."""
    asked = context.target_tokens is not None or context.keep_ratio is not None
    return None if asked else traits.target_tokens


def _checked(
    given: ContextDocument, result: ContextDocument, hidden: Hidden, stage: Stage
) -> ContextDocument:
    traits = stage.traits
    check_laws(
        given,
        result,
        extractive=traits.extractive,
        arranges=traits.arranges,
        restore=restore_of(stage),
    )
    return unmask(result, hidden)


async def _apply_stage(
    built: BuiltStage, document: ContextDocument, context: StageContext
) -> ContextDocument:
    """The stage's result; what is no ``Exception`` becomes one, for a library may call ``exit``.

    :raises StageError: the stage raised ``SystemExit``, a cancellation of its own, or the like.
    """
    try:
        return await built.stage.apply(document, context)
    except (Exception, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise  # the request ends, or its time does
        raise StageError(f"{built.name} raised {type(error).__name__}") from error


def _report(name: str, tally: _Tally, elapsed_ms: float) -> StageReport:
    code: Skip | None = None
    reason: str | None = None
    if tally.skips:
        code, times = tally.skips.most_common(1)[0]
        reason = f"{code}: {times} of {tally.blocks} blocks: {tally.reasons[code]}"
    return StageReport(
        stage=name,
        tokens_in=tally.tokens_in,
        tokens_out=tally.tokens_out,
        elapsed_ms=elapsed_ms,
        blocks=tally.blocks,
        blocks_run=tally.blocks_run,
        memo_hits=tally.memo_hits,
        skipped=code,
        reason=reason,
        notes=tuple(dict.fromkeys(tally.notes)),
    )


def _failure(stage: str, error: Exception) -> tuple[Skip, str]:
    """The skip that a failure becomes. The reason never quotes the error: it may hold text."""
    if isinstance(error, (DeadlineError, TimeoutError)):
        return Skip.DEADLINE, _DEADLINE_REASON
    if isinstance(error, LawError):
        return Skip.LAW_BROKEN, f"its result was thrown away: {error}"
    if isinstance(error, CtxpressError):
        return Skip.STAGE_FAILED, str(error)
    return Skip.STAGE_FAILED, f"{stage} raised {type(error).__name__}"


def _as_stage_error(stage: str, error: Exception) -> StageError:
    if isinstance(error, (DeadlineError, TimeoutError)):
        return DeadlineError(f"{stage}: the time budget ran out")
    if isinstance(error, StageError):
        return error
    return StageError(f"{stage}: {type(error).__name__}: {error}")


_SHARED_REASON = (
    "many conversations share this block as a cached prefix, so it must not depend on the question"
)
_DEADLINE_REASON = "the time budget ran out; raise deadline_ms or send smaller blocks"
_OVER_BUDGET_REASON = (
    "what must stay (protected text, code, forced words, at least one word) has more tokens than "
    "the budget by itself; raise target_tokens or protect less"
)
_INFLATED_REASON = "the result had more tokens than the text, so the text was kept"
