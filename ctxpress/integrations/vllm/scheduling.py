"""The connector's half in vLLM's scheduler: what is stored, what to load, what to save.

It sees requests and block ids, never tensors. vLLM calls it between the steps of the model, so
nothing here waits: the store is asked in the background, and a request waits for the answer
while others go on.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from ctxpress.cache.chunk_key import CacheKey
from ctxpress.engine.load_policy import LoadPolicy, StoredRun
from ctxpress.integrations.vllm.background import OnceLog
from ctxpress.integrations.vllm.chunking import PromptChunk
from ctxpress.integrations.vllm.lookups import Lookups
from ctxpress.integrations.vllm.plans import Plan, Planner
from ctxpress.integrations.vllm.statistics import Counts
from ctxpress.integrations.vllm.transfers import (
    ChunkLoad,
    ChunkSave,
    Measured,
    RequestLoad,
    Transfers,
)

__all__ = ["SchedulerSide"]

logger = logging.getLogger("vllm.ctxpress")  # under vLLM's own, whose handler prints it

_FEWEST_PREFILL_TOKENS = 32  # steps with fewer say nothing about prefills
_IDLE_WAIT_S = 0.002
_ASK_AGAIN_S = 0.02
_RECENT_SAVES = 65_536
_RECENT_S = 60.0  # by then a save has been written, or was dropped


class SchedulerSide:
    """See the module. ``policy`` weighs loading against computing; None loads always."""

    def __init__(
        self,
        planner: Planner,
        lookups: Lookups,
        counts: Counts,
        *,
        level: str,
        block_size: int,
        policy: LoadPolicy | None,
        lookup_timeout_ms: float,
        document_wait_ms: float,
    ) -> None:
        self._planner = planner
        self._lookups = lookups
        self._counts = counts
        self._level = level
        self._block_size = block_size
        self._policy = policy
        self._lookup_timeout_s = lookup_timeout_ms / 1000
        self._document_wait_s = document_wait_ms / 1000
        self._once = OnceLog(logger)
        self._plans: dict[str, Plan | None] = {}
        self._requests: dict[str, Any] = {}
        self._loads: list[RequestLoad] = []
        self._documents_awaited = False
        self._loading: dict[str, tuple[int, ...]] = {}  # blocks; requests that are gone too
        self._invalid: set[int] = set()
        self._recent: OrderedDict[CacheKey, float] = OrderedDict()

    def matched(self, request: Any, n_computed: int) -> int | None:
        """How many tokens behind the ``n_computed`` ones can be loaded; None where it isn't known.

        May be asked again and again, and always answers the same.
        """
        plan = self._plan_of(request)
        if plan is None or plan.failed:
            return 0
        if not self._answered(request.request_id, plan):
            return None
        if plan.kind == "encode":
            return 0
        if self._may_still_come(request.request_id, plan):
            return None
        return self._loadable(plan, request, n_computed)

    def allocated(self, request: Any, block_ids: Sequence[int], n_external: int) -> None:
        """vLLM has made room for what :meth:`matched` said. ``block_ids``: all of the request."""
        if n_external <= 0:
            return
        plan = self._plans[request.request_id]
        if plan is None:
            return
        start, stop = plan.start, plan.start + n_external
        plan.block_ids = tuple(block_ids[: stop // self._block_size])
        self._loading[request.request_id] = plan.block_ids
        self._loads.append(
            RequestLoad(
                request_id=request.request_id,
                block_ids=plan.block_ids,
                chunks=tuple(_part(c, start) for c in plan.chunks if start < c.end <= stop),
                whole=plan.kind == "parallel",
            )
        )

    def step(self, output: Any) -> Transfers:
        """The work that goes with a step of the model."""
        transfers = Transfers(loads=self._loads, idle=not output.total_num_scheduled_tokens)
        self._loads = []
        new, cached = output.scheduled_new_reqs, output.scheduled_cached_reqs
        computed = {one.req_id: one.num_computed_tokens for one in new}
        computed.update(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        for request_id, n_before in computed.items():
            done = n_before + output.num_scheduled_tokens[request_id]
            transfers.saves.extend(self._saves(request_id, done, output))
        transfers.prefill = _prefill(computed, output.num_scheduled_tokens)
        if transfers.idle:
            # Else vLLM's loop comes back as fast as it can, on the core that others work on.
            self._lookups.wait(_IDLE_WAIT_S)
            if self._documents_awaited:
                time.sleep(_IDLE_WAIT_S)
        self._documents_awaited = False
        return transfers

    def learned(self, output: Any) -> None:
        """What came back from the workers with a step: failed blocks, finished loads, timings."""
        self._invalid |= output.invalid_block_ids or set()
        for request_id in output.finished_recving or ():
            block_ids = self._loading.pop(request_id, ())
            plan = self._plans.get(request_id)
            if plan is not None and self._invalid.intersection(block_ids):
                plan.failed = True
                plan.sizes = [None] * len(plan.chunks)  # what is computed now replaces it
            self._invalid.difference_update(block_ids)
        measured = output.kv_connector_worker_meta
        if self._policy is None or not isinstance(measured, Measured):
            return
        for n_bytes, ms in measured.links:
            self._policy.transferred(n_bytes, ms)
        for n_tokens, ms in measured.decodes:
            self._policy.decoded(self._level, n_tokens, ms)
        for n_tokens, context_tokens, ms in measured.prefills:
            self._policy.computed(n_tokens, context_tokens, ms)

    def failed_whole(self, request_ids: Sequence[str]) -> set[int]:
        """All blocks of those of ``request_ids`` whose documents in parallel did not come."""
        found: set[int] = set()
        for request_id in request_ids:
            plan = self._plans.get(request_id)
            if plan is not None and plan.failed and plan.kind == "parallel":
                found.update(plan.block_ids)
        return found

    def finished(self, request_id: str) -> None:
        """Forget a request."""
        self._plans.pop(request_id, None)
        self._requests.pop(request_id, None)
        self._lookups.drop(request_id)

    def _plan_of(self, request: Any) -> Plan | None:
        request_id = request.request_id
        if request_id not in self._plans:
            self._plans[request_id] = self._planner.plan(request)
            self._requests[request_id] = request
        return self._plans[request_id]

    def _answered(self, request_id: str, plan: Plan) -> bool:
        """Whether it is known what the store has of the plan; asks, where nobody did."""
        if plan.sizes is not None:
            return True
        now = time.monotonic()
        if not plan.begun_s:
            plan.begun_s = now
            self._ask(request_id, plan, now)
            self._counts.add("lookups", reason=plan.kind)
            return False
        plan.sizes = self._lookups.answer(request_id)
        if plan.sizes is None:
            if now - plan.asked_s < self._lookup_timeout_s:
                return False
            plan.sizes = [None] * len(plan.chunks)
            self._counts.add("lookups_failed", reason="late")
            self._once.warn("late", "the store did not answer in time; prompts are computed")
        self._lookups.drop(request_id)
        return True

    def _may_still_come(self, request_id: str, plan: Plan) -> bool:
        """Whether a document is missing that may be on its way into the store; asks again.

        Whoever sends documents in parallel has had them encoded just before, here or elsewhere,
        and what is stored behind an answer comes a little later than the answer.
        """
        if plan.kind != "parallel" or all(size is not None for size in plan.sizes or ()):
            return False
        now = time.monotonic()
        if now - plan.begun_s >= self._document_wait_s:
            return False
        if now - plan.asked_s >= _ASK_AGAIN_S:
            plan.sizes = None
            self._ask(request_id, plan, now)
        self._documents_awaited = True
        return True

    def _ask(self, request_id: str, plan: Plan, now: float) -> None:
        plan.asked_s = now
        self._lookups.begin(request_id, [chunk.key for chunk in plan.chunks])

    def _loadable(self, plan: Plan, request: Any, n_computed: int) -> int:
        if plan.kind == "parallel":
            if any(size is None for size in plan.sizes or ()):
                self._count_once(plan, "parallel_computed", "a document is not stored")
                return 0
            stop = plan.chunks[-1].end
        else:
            stop = self._prefix_stop(plan, request)
        plan.start = n_computed
        n_loaded = stop - n_computed
        if n_loaded <= 0:
            return 0
        if not self._worth_it(plan, n_computed, stop):
            self._count_once(plan, "loads_refused", plan.kind)
            return 0
        return n_loaded

    def _prefix_stop(self, plan: Plan, request: Any) -> int:
        """Where what is stored ends; one token at least is left to compute."""
        stop = 0
        for chunk, size in zip(plan.chunks, plan.sizes or (), strict=False):
            if size is None or chunk.end >= request.num_tokens:
                break
            stop = chunk.end
        return stop

    def _worth_it(self, plan: Plan, n_computed: int, stop: int) -> bool:
        if self._policy is None:
            return True
        runs = [
            StoredRun(n_tokens=c.take, context_tokens=c.context_tokens, size_bytes=size)
            for c, size in zip(plan.chunks, plan.sizes or (), strict=True)
            if n_computed < c.end <= stop
        ]
        decision = self._policy.decide(self._level, runs)
        return decision.load_ms <= decision.compute_ms

    def _count_once(self, plan: Plan, name: str, reason: str) -> None:
        """vLLM may ask many times about a request that waits for room."""
        if name not in plan.counted:
            plan.counted.add(name)
            self._counts.add(name, reason=reason)

    def _saves(self, request_id: str, done: int, output: Any) -> list[ChunkSave]:
        plan = self._plans.get(request_id)
        if plan is None or plan.kind == "parallel" or plan.saved >= len(plan.chunks):
            return []
        if plan.chunks[plan.saved].end > done:
            return []
        state = output.kv_connector_block_state
        block_ids = state.get_block_ids(request_id)[0]
        ids = self._requests[request_id].prompt_token_ids
        found = []
        for chunk in plan.chunks[plan.saved :]:
            if chunk.end > done:
                break
            stored = plan.sizes is not None and plan.sizes[plan.saved] is not None
            plan.saved += 1
            if stored or self._saved_just_now(chunk.key):
                continue
            begin, end = chunk.first // self._block_size, -(-chunk.end // self._block_size)
            found.append(
                ChunkSave(
                    key=chunk.key,
                    token_ids=tuple(ids[chunk.first : chunk.end]),
                    first=chunk.first,
                    block_ids=tuple(block_ids[begin:end]),
                )
            )
        return found

    def _saved_just_now(self, key: CacheKey) -> bool:
        """Whether another request has the same chunk under way; remembers this one."""
        now = time.monotonic()
        saved_s = self._recent.get(key)
        if saved_s is not None and now - saved_s < _RECENT_S:
            return True
        self._recent[key] = now
        self._recent.move_to_end(key)
        while len(self._recent) > _RECENT_SAVES:
            self._recent.popitem(last=False)
        return False


def _part(chunk: PromptChunk, start: int) -> ChunkLoad:
    """What of a chunk stands behind token ``start``; what is before it is in place already."""
    skip = max(0, start - chunk.first)
    return ChunkLoad(
        key=chunk.key,
        n_tokens=chunk.n_tokens,
        first=chunk.first,
        position=chunk.position,
        skip=skip,
        take=chunk.take - skip,
        key_scale=chunk.key_scale,
    )


def _prefill(computed: dict[str, int], scheduled: dict[str, int]) -> tuple[int, int] | None:
    """Tokens of a step that is mostly one prefill, and how many stand before them."""
    total = sum(scheduled.values())
    if total < _FEWEST_PREFILL_TOKENS:
        return None
    request_id = max(scheduled, key=lambda one: scheduled[one])
    if scheduled[request_id] < 0.9 * total:
        return None
    return total, computed.get(request_id, 0)
