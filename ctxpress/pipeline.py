"""A pipeline: stages in the configured order, with the laws enforced around them.

:meth:`Pipeline.run` decides what goes forward for every block of a request. Blocks whose outcome
is remembered repeat it; blocks of earlier turns without one go untouched; the rest, which are the
blocks of the newest turn that were never sent, go through the stages (``stage_runner``), and
their outcomes are remembered before the request leaves (law 3).
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ctxpress.aside import aside
from ctxpress.cache.key import Namespace
from ctxpress.conversation import Lookup, Place, lookups, untouched_keys
from ctxpress.counting import Counting
from ctxpress.document import Block, ContextDocument, Role
from ctxpress.elements import consistent
from ctxpress.errors import StageError, StoreError
from ctxpress.fates import fates_of
from ctxpress.memo import Memo
from ctxpress.outcomes import Outcome, OutcomeMemory, apply_outcome, outcome_of
from ctxpress.report import Report
from ctxpress.report_builder import summarise
from ctxpress.services import Services
from ctxpress.stage import Skip, StageContext, TokenCounter
from ctxpress.stage_runner import StageRunner
from ctxpress.work import BuiltStage, Work, free_text

__all__ = ["Pipeline", "PipelineResult", "PipelineSettings", "RunOptions"]

SHARED_PREFIX_MIN_TOKENS = 1024  # the shortest prefix that providers cache


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSettings:
    """The rules around the stages; see ``PipelineConfig`` for their meaning."""

    min_tokens: int = 0
    deadline_ms: float | Literal["auto"] = "auto"
    strict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What one request asks for.

    ``keep_ratio`` is for the whole pipeline, ``target_tokens`` a hard budget for all text that is
    being decided, protected text included. ``applied=False`` (mode ``observe``) computes the
    report, over a whole conversation as if it had been applied, and remembers the blocks as sent
    untouched, which is what happens to them. ``variant`` names what the request asked for by
    itself (a pipeline, a ratio); see ``conversation``.
    """

    keep_ratio: float | None = None
    target_tokens: int | None = None
    applied: bool = True
    variant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineResult:
    """The document to render and the report about it."""

    document: ContextDocument
    report: Report


@dataclass(slots=True)
class _Plan:
    """One request on its way through: mutable, local to :meth:`Pipeline.run`.

    ``outcomes`` are those that were remembered, ``settled`` those of the blocks decided now, by the
    index of the block.
    """

    document: ContextDocument
    blocks: list[Block]
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    settled: dict[int, Outcome] = field(default_factory=dict)
    cache_risk: int = 0
    fresh: list[Place] = field(default_factory=list)
    store_ok: bool = True


class Pipeline:
    """Stages, their order and their memory; safe for concurrent requests.

    What it shares with the other pipelines of a configuration are its ``services``.
    """

    def __init__(
        self,
        name: str,
        stages: Sequence[BuiltStage],
        services: Services,
        settings: PipelineSettings = PipelineSettings(),
    ) -> None:
        self.name = name
        self.settings = settings
        self._stages = tuple(stages)
        self._services = services
        store, near, executor = services.store, services.near, services.executor
        self._executor = executor
        self._memory = OutcomeMemory(store, near, ttl_s=services.ttl_s, executor=executor)
        memo = Memo(store, near, ttl_s=services.ttl_s, executor=executor)
        self._runner = StageRunner(self._stages, memo, executor)

    @property
    def stages(self) -> tuple[BuiltStage, ...]:
        """The stages, in order."""
        return self._stages

    @property
    def version(self) -> str:
        """A hash over all stages' fingerprints: changes whenever the pipeline's output could."""
        joined = "\n".join(stage.fingerprint for stage in self._stages)
        return hashlib.sha256(joined.encode()).hexdigest()[:16]

    @property
    def references(self) -> bool:
        """Whether documents may go as references, to an upstream that holds KV."""
        return any(stage.traits.references for stage in self._stages)

    async def run(
        self,
        document: ContextDocument,
        *,
        namespace: Namespace,
        counter: TokenCounter,
        options: RunOptions = RunOptions(),
    ) -> PipelineResult:
        """Decide what goes forward for every block of ``document``.

        :raises StageError: only where the pipeline is ``strict`` and a stage or the store failed.
        """
        started = time.monotonic()
        counting = Counting(counter, self._services.counts, self._executor)
        tokens_before = await counting.count([block.text for block in document.blocks])
        plan = _Plan(document=document, blocks=list(document.blocks))
        size = _size(document)
        known = await aside(
            self._executor,
            size,
            lambda: lookups(
                document, namespace, observed=not options.applied, variant=options.variant
            ),
        )
        await self._recall(plan, known, namespace, tokens_before)
        work = await self._prepare(plan, namespace, counting, tokens_before)
        context = self._context(counter, sum(tokens_before), options, started)
        try:
            reports = await self._runner.run(
                work,
                document.with_blocks(tuple(plan.blocks)),
                context,
                counting,
                namespace=namespace,
                strict=self.settings.strict,
            )
        finally:
            context.over.set()  # the client may have left: threads stop at their next checkpoint
        await self._settle(plan, work, {one.place.index: one for one in known}, namespace)
        if not options.applied:
            await self.remember_untouched(document, namespace=namespace, code=Skip.OBSERVE)
        result = document.with_blocks(tuple(consistent(plan.blocks, document.blocks)))
        tokens_after = await counting.count([block.text for block in result.blocks])
        report = await aside(
            self._executor,
            size,
            lambda: summarise(
                pipeline=self.name,
                counter=counter,
                before=document,
                after=result,
                tokens_before=tokens_before,
                tokens_after=tokens_after,
                work=work,
                stages=reports,
                remembered=plan.outcomes,
                settled=plan.settled,
                cache_risk=plan.cache_risk,
                elapsed_ms=(time.monotonic() - started) * 1000,
                min_tokens=self.settings.min_tokens,
                applied=options.applied,
                growing={stage.name for stage in self._stages if stage.traits.may_grow},
            ),
        )
        return PipelineResult(document=result if options.applied else document, report=report)

    async def remember_untouched(
        self, document: ContextDocument, *, namespace: Namespace, code: Skip
    ) -> None:
        """Remember that the newest turn's blocks went as they came (bypassed or observed)."""
        decided = [
            (key, Outcome(length=len(document.blocks[index].original), skipped=code))
            for index, key in untouched_keys(document, namespace)
        ]
        if decided:
            await self._memory.settle(namespace, decided)

    async def _recall(
        self,
        plan: _Plan,
        known: Sequence[Lookup],
        namespace: Namespace,
        tokens: Sequence[int],
    ) -> None:
        blocks, newest = plan.document.blocks, plan.document.last_turn
        keys = [(one.place.index, key) for one in known for key in (one.key, *one.others)]
        outcomes, plan.store_ok = await self._memory.recall(
            namespace,
            [key for _, key in keys],
            [len(blocks[index].original) for index, _ in keys],
        )
        for (index, _), outcome in zip(keys, outcomes, strict=True):
            if outcome is not None:
                plan.outcomes.setdefault(index, outcome)
        await aside(self._executor, _size(plan.document), lambda: _apply_remembered(plan))
        for one in known:
            index = one.place.index
            block, remembered = blocks[index], plan.outcomes.get(index)
            if remembered is not None:
                continue
            if block.turn == newest:
                plan.fresh.append(one.place)
            elif _was_eligible(block) and tokens[index] >= self.settings.min_tokens:
                plan.cache_risk += 1

    async def _prepare(
        self,
        plan: _Plan,
        namespace: Namespace,
        counting: Counting,
        tokens: Sequence[int],
    ) -> list[Work]:
        """The fresh blocks as work items: which are too small, which must not see the question."""
        blocks = plan.document.blocks
        # What a lossless stage may rewrite beside free text counts for lossless stages only.
        kinds = (False, True) if any(s.traits.lossless for s in self._stages) else (False,)
        closed = [await self._closed(plan, counting, lossless=kind) for kind in kinds]
        last_breakpoint = max((i for i, b in enumerate(blocks) if b.cache_breakpoint), default=-1)
        shared = await self._shared_prefixes(plan, namespace, tokens)
        marked = {block.element for block in blocks if block.cache_breakpoint}
        work: list[Work] = []
        for place in plan.fresh:
            block = blocks[place.index]
            if block.element in marked:  # a cached prefix ends there: it is not to move
                block = dataclasses.replace(block, element=None)
            item = Work(place=place, before=block, block=block)
            item.question = plan.document.question_of(block.turn)
            item.shared = place.index <= last_breakpoint or place.index in shared
            if not plan.store_ok:
                item.skipped = Skip.STORE_FAILED
            elif place.index in closed[-1]:
                item.skipped = closed[0].get(place.index, closed[-1][place.index])
            else:
                item.lossless_only = closed[0].get(place.index)
            work.append(item)
        return work

    async def _closed(self, plan: _Plan, counting: Counting, *, lossless: bool) -> dict[int, Skip]:
        """Fresh blocks that no stage, or no ``lossless`` one, may touch, and why."""
        fresh = {place.index: plan.document.blocks[place.index] for place in plan.fresh}
        texts = {index: free_text(block, lossless=lossless) for index, block in fresh.items()}
        closed = {index: Skip.PROTECTED for index, text in texts.items() if not text.strip()}
        if self.settings.min_tokens <= 0:
            return closed
        candidates = [index for index in fresh if index not in closed]
        counts = await counting.count([texts[index] for index in candidates])
        sizes: Counter[int] = Counter()
        for index, count in zip(candidates, counts, strict=True):
            sizes[fresh[index].message] += count
        for index in candidates:
            if sizes[fresh[index].message] < self.settings.min_tokens:
                closed[index] = Skip.BELOW_MIN_TOKENS
        return closed

    async def _shared_prefixes(
        self, plan: _Plan, namespace: Namespace, tokens: Sequence[int]
    ) -> set[int]:
        """Fresh blocks whose whole prefix was already sent with another continuation (law 3)."""
        if not any(s.traits.query_aware or s.traits.scope == "turn" for s in self._stages):
            return set()
        sizes, total = [], 0
        for count in tokens:
            total += count
            sizes.append(total)
        long = [p for p in plan.fresh if sizes[p.index] >= SHARED_PREFIX_MIN_TOKENS]
        if not long:
            return set()
        items = []
        for place in long:
            key = namespace.key("prefix", place.prefix)
            items.append((key, namespace.seal(key, place.message)))
        store = self._services.store
        try:
            held = await store.set_many_if_absent(items, ttl_s=self._services.ttl_s)
        except StoreError:
            return {place.index for place in long}
        return {
            place.index
            for place, (key, _), value in zip(long, items, held, strict=True)
            if namespace.open(key, value) != place.message
        }

    def _context(
        self, counter: TokenCounter, tokens: int, options: RunOptions, started: float
    ) -> StageContext:
        configured = self.settings.deadline_ms
        deadline_ms = auto_deadline_ms(tokens) if configured == "auto" else configured
        loop = asyncio.get_running_loop()

        def run(function: Callable[[], Any]) -> asyncio.Future[Any]:
            return loop.run_in_executor(self._services.stage_executor, function)

        return StageContext(
            counter=counter,
            executor=run,
            deadline_s=started + deadline_ms / 1000,
            keep_ratio=options.keep_ratio,
            target_tokens=options.target_tokens,
        )

    async def _settle(
        self, plan: _Plan, work: Sequence[Work], known: dict[int, Lookup], namespace: Namespace
    ) -> None:
        """Remember what was decided; adopt what a rival decided first."""
        if not work:
            return
        places_of = [known[item.place.index] for item in work]
        size = sum(len(item.before.original) for item in work)
        outcomes = await aside(self._executor, size, lambda: [_outcome(item) for item in work])
        keys = [one.key for one in places_of]
        settled, held = await self._memory.settle(namespace, list(zip(keys, outcomes, strict=True)))
        if self.settings.strict and not (held and plan.store_ok):
            raise StageError("the store could not be reached, so nothing could be remembered")
        await aside(self._executor, size, lambda: _apply_settled(plan, work, settled))
        # Later turns may come without this request's own wishes: the first variant stands for all.
        bases = [
            (one.base, outcome)
            for one, outcome in zip(places_of, settled, strict=True)
            if one.base != one.key
        ]
        if bases:
            await self._memory.settle(namespace, bases)


def _size(document: ContextDocument) -> int:
    """Characters of text, and something for every block."""
    return sum(100 + len(block.original) for block in document.blocks)


def _apply_remembered(plan: _Plan) -> None:
    for index, outcome in plan.outcomes.items():
        plan.blocks[index] = apply_outcome(plan.document.blocks[index], outcome)


def _outcome(item: Work) -> Outcome:
    skipped = item.skipped or next(iter(item.stage_skips), None)
    return outcome_of(
        item.before,
        item.block,
        extractive=item.extractive,
        skipped=skipped,
        shared=item.shared,
        fates=fates_of(item.before, item.block, item.dropped_by),
    )


def _apply_settled(plan: _Plan, work: Sequence[Work], settled: Sequence[Outcome]) -> None:
    for item, outcome in zip(work, settled, strict=True):
        if outcome.skipped is Skip.STORE_FAILED:
            item.skipped = Skip.STORE_FAILED
        # As parsed: a rival may have moved what was not to move here, and was first.
        index = item.place.index
        plan.settled[index] = outcome
        plan.blocks[index] = apply_outcome(plan.document.blocks[index], outcome)


def _was_eligible(block: Block) -> bool:
    """Whether a block of an earlier turn may have gone out compressed: a cautious guess."""
    return block.role in (Role.USER, Role.TOOL)


def auto_deadline_ms(tokens: int) -> float:
    """The ``auto`` time budget: three quarters of a second, plus 0.25 ms a token, at most 30 s.

    About three times what the bundled classifier needs on two idle CPU cores, and room for the
    requests that arrived just before: a busy machine still compresses, and a stuck one does not
    hold a request up for long.
    """
    return min(750.0 + 0.25 * tokens, 30_000.0)
