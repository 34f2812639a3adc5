"""The built-in plugins: stages, one a module, scorers, codecs, stores. ``manager`` imports them."""

from __future__ import annotations

__all__ = ["BUILTIN_PLUGINS"]

BUILTIN_PLUGINS = (
    "ctxpress.plugins.codecs",
    "ctxpress.plugins.compact",
    "ctxpress.plugins.dedupe",
    "ctxpress.plugins.kv_reuse",
    "ctxpress.plugins.reorder",
    "ctxpress.plugins.repeat",
    "ctxpress.plugins.restructure",
    "ctxpress.plugins.scorers",
    "ctxpress.plugins.select",
    "ctxpress.plugins.stores",
    "ctxpress.plugins.token_classification",
)
