"""Keys of a tenant, stores of bytes, compressed KV. Sees nothing of ctxpress but its errors.

Names load on first use: only those of tensors bring torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctxpress.cache.chunk_key import CacheKey, KVLevel, chunk_keys, tokens_digest
    from ctxpress.cache.chunks import KVStore, create_kv_store
    from ctxpress.cache.codec import create_codec, decode_container
    from ctxpress.cache.identity import KVIdentity
    from ctxpress.cache.key import Namespace, load_secret, state_dir
    from ctxpress.cache.kv import KVBlock
    from ctxpress.cache.store import create_store

_HOME = {
    "CacheKey": "chunk_key",
    "KVBlock": "kv",
    "KVIdentity": "identity",
    "KVLevel": "chunk_key",
    "KVStore": "chunks",
    "Namespace": "key",
    "chunk_keys": "chunk_key",
    "create_codec": "codec",
    "create_kv_store": "chunks",
    "create_store": "store",
    "decode_container": "codec",
    "load_secret": "key",
    "state_dir": "key",
    "tokens_digest": "chunk_key",
}
__all__ = [
    "CacheKey",
    "KVBlock",
    "KVIdentity",
    "KVLevel",
    "KVStore",
    "Namespace",
    "chunk_keys",
    "create_codec",
    "create_kv_store",
    "create_store",
    "decode_container",
    "load_secret",
    "state_dir",
    "tokens_digest",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ctxpress.cache' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ctxpress.cache.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
