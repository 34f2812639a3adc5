"""Adapters for RAG frameworks: ``langchain``, ``llama_index``, ``haystack``; and for ``vllm``.

Each module needs its framework and says which command installs it; this package imports none.
"""

from __future__ import annotations

__all__: list[str] = []
