"""A KV connector for vLLM: compressed KV shared by replicas, and documents used in any combination.

``vllm serve … --kv-transfer-config '{"kv_connector": "CtxpressConnector",
"kv_connector_module_path": "ctxpress.integrations.vllm", "kv_role": "kv_both",
"kv_load_failure_policy": "recompute", "kv_connector_extra_config": {"store": "redis://…",
"codec": "cachegen-3"}}'``, see ``docs/vllm.md``. Names load on first use: prompts are built
without torch or vLLM.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctxpress.integrations.vllm.connector import CtxpressConnector
    from ctxpress.integrations.vllm.prompt import (
        ParallelLayout,
        VllmPrompt,
        build_document_prompt,
        build_prompt,
        layout_of,
    )

_HOME = {
    "CtxpressConnector": "connector",
    "ParallelLayout": "prompt",
    "VllmPrompt": "prompt",
    "build_document_prompt": "prompt",
    "build_prompt": "prompt",
    "layout_of": "prompt",
}
__all__ = [
    "CtxpressConnector",
    "ParallelLayout",
    "VllmPrompt",
    "build_document_prompt",
    "build_prompt",
    "layout_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ctxpress.integrations.vllm' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ctxpress.integrations.vllm.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
