"""The built-in plugins: stages and scorers. Names only; ``manager`` imports them."""

from __future__ import annotations

__all__ = ["BUILTIN_PLUGINS"]

BUILTIN_PLUGINS = (
    "ctxpress.plugins.scorers",
    "ctxpress.plugins.reorder",
    "ctxpress.plugins.select",
    "ctxpress.plugins.token_classification",
)
