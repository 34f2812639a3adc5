"""Keys of a tenant, stores of bytes, compressed KV. Sees nothing of ctxpress but its errors.

Names load on first use: only those of tensors bring torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctxpress.cache.codec import create_codec, decode_container
    from ctxpress.cache.identity import KVIdentity
    from ctxpress.cache.kv import KVBlock
    from ctxpress.cache.store import create_store

__all__ = ["KVBlock", "KVIdentity", "create_codec", "create_store", "decode_container"]

_HOME = {
    "KVBlock": "kv",
    "KVIdentity": "identity",
    "create_codec": "codec",
    "create_store": "store",
    "decode_container": "codec",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ctxpress.cache' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ctxpress.cache.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
