"""Registers the stores that come with ctxpress; their code loads when one is made."""

from __future__ import annotations

from ctxpress.cache.store_kinds import BUILTIN_STORES
from ctxpress.hookspecs import RegisterStore, hookimpl


@hookimpl
def register_stores(register: RegisterStore) -> None:
    """See :mod:`ctxpress.hookspecs`."""
    for scheme, kind in BUILTIN_STORES.items():
        register(scheme, kind)
