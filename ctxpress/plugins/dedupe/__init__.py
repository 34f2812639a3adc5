"""Deduplication: what a text says again, or says after another, need not be sent again.

`words` reads texts as numbered words, `facts` says which of them may not differ, `overlap` finds
texts that have most of their words in common. `documents` and `sentences` (from `text_runs`)
decide what repeats what, `cutting` takes it out, `stage` puts these together.
"""

from __future__ import annotations

from ctxpress.hookspecs import RegisterStage, hookimpl
from ctxpress.plugins.dedupe.config import DedupeConfig
from ctxpress.plugins.dedupe.stage import DedupeStage

__all__ = ["DedupeConfig", "DedupeStage", "register_stages"]


@hookimpl
def register_stages(register: RegisterStage) -> None:
    """Register `dedupe`."""
    register("dedupe", lambda config, resources: DedupeStage(config), DedupeConfig)
