"""The codecs of KV that come with ctxpress; their code loads when one is created."""

from __future__ import annotations

from ctxpress.cache.codec import BUILTIN_CODECS
from ctxpress.hookspecs import RegisterCodec, hookimpl

__all__ = ["register_codecs"]


@hookimpl
def register_codecs(register: RegisterCodec) -> None:
    """See `ctxpress.cache.codec`."""
    for name, factory in BUILTIN_CODECS.items():
        register(name, factory)
