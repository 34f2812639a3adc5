"""Which KV a vLLM makes: its model, its dtype, its release, its part of the heads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ctxpress.cache.identity import KVIdentity
from ctxpress.errors import MissingDependencyError, ModelError
from ctxpress.integrations.vllm.versions import release_of

__all__ = ["kv_identity", "shards"]

_FILES = (".json", ".safetensors")
# Where the Hugging Face cache keeps a commit of a repository.
_SNAPSHOT = re.compile(r"models--(?P<name>[^/]+)/snapshots/(?P<commit>[0-9a-f]{40})$")


def kv_identity(vllm_config: Any, version: str, rope: str) -> KVIdentity:
    """What KV of this vLLM belongs to, without ``tokens`` and ``shard``.

    Reads all weights of a model in a folder, which vLLM has read just now: 1 GB takes about a
    second. ``rope``: a line that says all about the rotary embedding.

    :raises ModelError: the model's files are not at hand.
    """
    model = vllm_config.model_config
    where = Path(model.model)
    folder = where if where.is_dir() else _cached(model.model, model.revision)
    found = _SNAPSHOT.search(str(folder.resolve()))
    files = f"{found['name']}@{found['commit']}" if found else f"folder:{_digest(folder)}"
    return KVIdentity(
        model=f"vllm-{release_of(version)}/{files}",
        revision=f"quantization={model.quantization or 'none'}",
        rope=rope,
        dtype=str(model.dtype).removeprefix("torch."),
    )


def shards(tensor_parallel_size: int) -> Iterator[str]:
    """The ``shard`` fields of all ranks."""
    for rank in range(tensor_parallel_size):
        yield f"{rank}/{tensor_parallel_size}"


def _cached(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except Exception as error:  # of the hub, of the file system: all mean "not at hand"
        raise ModelError(
            f"{name}: its files are not in the Hugging Face cache, and they say which KV is its "
            f"own; name a folder or a cached model ({type(error).__name__})"
        ) from error


def _digest(folder: Path) -> str:
    try:
        from blake3 import blake3
    except ImportError as error:
        raise MissingDependencyError(
            "the connector needs the package blake3: pip install 'ctxpress[vllm]'"
        ) from error
    paths = sorted(path for path in folder.iterdir() if path.suffix in _FILES and path.is_file())
    if not any(path.suffix == ".safetensors" for path in paths):
        raise ModelError(f"{folder}: has no *.safetensors, which say which KV is the model's own")
    whole = blake3()
    for path in paths:
        one = blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()
        whole.update(f"{path.name}\0{one}\0".encode())
    digest: str = whole.hexdigest()
    return digest[:32]
