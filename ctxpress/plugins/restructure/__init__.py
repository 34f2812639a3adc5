"""Restructure (Refiner): the documents' sentences that help with the question, best group first.

`config` are the options, `stage` puts it together. The backend `extractive` has sentences scored
(`ctxpress.relevance`) and groups documents that agree (`linking`); `headings` are printed above
them where that is wanted. What stays are `pieces`, chosen within the budget (`fitting`, `limits`).
The backend `llm` asks a language model (`llm`), parses its sections tolerantly (`sections`) and
takes only what stands in the documents (`alignment`).
"""

from __future__ import annotations

from ctxpress.hookspecs import RegisterStage, hookimpl
from ctxpress.plugins.restructure.config import RestructureConfig
from ctxpress.plugins.restructure.factory import create_restructure_stage
from ctxpress.plugins.restructure.stage import RestructureStage

__all__ = ["RestructureConfig", "RestructureStage", "register_stages"]


@hookimpl
def register_stages(register: RegisterStage) -> None:
    """Register `restructure`."""
    register("restructure", create_restructure_stage, RestructureConfig)
