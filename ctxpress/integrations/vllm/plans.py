"""Which requests the connector has a part in, and which chunks they are made of."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from ctxpress.cache.identity import KVIdentity
from ctxpress.integrations.vllm.background import OnceLog
from ctxpress.integrations.vllm.chunking import PromptChunk, parallel_chunks, prefix_chunks
from ctxpress.integrations.vllm.prompt import PARAMS_KEY, ParallelLayout, layout_of
from ctxpress.integrations.vllm.statistics import Counts

__all__ = ["Plan", "Planner"]

logger = logging.getLogger("vllm.ctxpress")


@dataclass(slots=True, kw_only=True)
class Plan:
    """A request: its chunks, and what became of them."""

    chunks: list[PromptChunk]
    kind: str  # prefix, parallel or encode
    begun_s: float = 0.0  # when the store was asked first, and last
    asked_s: float = 0.0
    sizes: list[int | None] | None = None  # None until the store has answered
    start: int = 0  # what vLLM had computed when it asked last
    block_ids: tuple[int, ...] = ()  # of what is, or was, loaded
    failed: bool = False
    counted: set[str] = field(default_factory=set)
    saved: int = 0  # chunks before this one were saved, or need not be


class Planner:
    """Makes plans. ``chunk_tokens`` is a multiple of ``block_size``.

    ``rotated``: keys of prefixes are stored with their positions. ``parallel_refused``: why
    documents cannot be used in parallel, empty where they can.
    """

    def __init__(
        self,
        identity: KVIdentity,
        counts: Counts,
        *,
        chunk_tokens: int,
        block_size: int,
        rotated: bool,
        parallel_refused: str,
    ) -> None:
        self._identity = identity
        self._counts = counts
        self._chunk_tokens = chunk_tokens
        self._block_size = block_size
        self._rotated = rotated
        self._parallel_refused = parallel_refused
        self._once = OnceLog(logger)

    def plan(self, request: Any) -> Plan | None:
        """What to look up; None where KV is no function of the model and the tokens alone."""
        ids = request.prompt_token_ids
        params = request.kv_transfer_params or {}
        if not ids or request.prompt_embeds is not None or request.pooling_params is not None:
            return None
        if request.lora_request is not None or request.mm_features:
            if PARAMS_KEY in params:
                self._refuse("lora or multimodal")
            return None
        try:
            layout = layout_of(params)
            if layout is not None:
                return self._parallel_plan(request, ids, layout)
        except ValueError as error:
            self._refuse("bad parameters", str(error))
            return None
        if request.cache_salt is not None or request.skip_reading_prefix_cache:
            return None
        chunks = prefix_chunks(self._identity, ids, self._chunk_tokens, rotated=self._rotated)
        return Plan(chunks=chunks, kind="prefix") if chunks else None

    def _parallel_plan(self, request: Any, ids: Any, layout: ParallelLayout) -> Plan | None:
        if self._parallel_refused:
            self._refuse("unsupported", self._parallel_refused)
            return None
        if not layout.encode and request.cache_salt is None:
            # Its blocks would pass for those of an ordinary prompt.
            self._refuse("bad parameters", "a request with documents needs a cache_salt")
            return None
        if not layout.encode and request.skip_reading_prefix_cache:
            self._refuse("skips the cache")  # it asks for log-probabilities of its prompt
            return None
        chunks = parallel_chunks(
            self._identity,
            ids,
            layout,
            chunk_tokens=self._chunk_tokens,
            block_size=self._block_size,
        )
        return Plan(chunks=chunks, kind="encode" if layout.encode else "parallel")

    def _refuse(self, reason: str, why: str = "") -> None:
        self._counts.add("parallel_computed", reason=reason)
        detail = f": {why}" if why else ""
        self._once.warn(reason, "documents are computed as a plain prompt (%s%s)", reason, detail)
