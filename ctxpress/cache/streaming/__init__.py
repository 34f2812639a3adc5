"""Loading a context's KV in time: which chunks from the store, at which level, which from text.

::

    link = LinkMeter(prior_bytes_per_ms=125_000)  # 1 Gbit/s; shared by all requests of a store
    controller = StreamingController(chunks, slo_ms=800, now_ms=clock(), link=link, …)
    report = await fetch_context(controller, source, decode=…, prefill=…, clock=clock)

Nothing here imports torch, and only ``fetch.py`` waits for anything.
"""

from __future__ import annotations

from ctxpress.cache.streaming.controller import (
    Plan,
    PlannedChunk,
    StreamingController,
    Transfer,
)
from ctxpress.cache.streaming.fetch import KVSource, fetch_context
from ctxpress.cache.streaming.link import LinkEstimate, LinkMeter
from ctxpress.cache.streaming.options import ChunkOptions, LevelOption
from ctxpress.cache.streaming.prudence import Caution
from ctxpress.cache.streaming.rates import DecodeMeter, PrefillMeter, PrefillModel
from ctxpress.cache.streaming.report import TEXT_NAME, ChunkReport, StreamingReport
from ctxpress.cache.streaming.stored import StoreSource

__all__ = [
    "TEXT_NAME",
    "Caution",
    "ChunkOptions",
    "ChunkReport",
    "DecodeMeter",
    "KVSource",
    "LevelOption",
    "LinkEstimate",
    "LinkMeter",
    "Plan",
    "PlannedChunk",
    "PrefillMeter",
    "PrefillModel",
    "StoreSource",
    "StreamingController",
    "StreamingReport",
    "Transfer",
    "fetch_context",
]
