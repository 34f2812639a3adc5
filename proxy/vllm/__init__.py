"""Documents in parallel inside vLLM: what the proxy does for upstreams of ``kind: vllm``."""

from __future__ import annotations

from .parallel import ParallelDocuments, ParallelRequest
from .reasons import NotParallelError, PlainPath

__all__ = ["NotParallelError", "ParallelDocuments", "ParallelRequest", "PlainPath"]
