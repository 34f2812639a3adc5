"""The reference engine: rotary decoders of transformers whose KV can be taken out and put back.

Names load on first use, and torch with them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctxpress.engine.blocks import concatenated, rounded, split
    from ctxpress.engine.loading import RotaryModel, load_model, wrap_model
    from ctxpress.engine.prefilling import Prefilled, prefill, prefill_rows
    from ctxpress.engine.rope import RotaryPositions
    from ctxpress.engine.scoring import TokenScores, score_tokens

__all__ = [
    "Prefilled",
    "RotaryModel",
    "RotaryPositions",
    "TokenScores",
    "concatenated",
    "load_model",
    "prefill",
    "prefill_rows",
    "rounded",
    "score_tokens",
    "split",
    "wrap_model",
]

_HOME = {
    "Prefilled": "prefilling",
    "RotaryModel": "loading",
    "RotaryPositions": "rope",
    "TokenScores": "scoring",
    "concatenated": "blocks",
    "load_model": "loading",
    "prefill": "prefilling",
    "prefill_rows": "prefilling",
    "rounded": "blocks",
    "score_tokens": "scoring",
    "split": "blocks",
    "wrap_model": "loading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ctxpress.engine' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ctxpress.engine.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
