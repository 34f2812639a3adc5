"""ctxpress: plugin-based prompt and context compression for any LLM API.

::

    import ctxpress

    result = ctxpress.compress(text, keep_ratio=0.5)
    result.text, result.tokens_before, result.tokens_after, result.kept

Names load on first use: importing the package loads no model, no torch, no client library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctxpress.document import Range
    from ctxpress.errors import CtxpressError
    from ctxpress.report import Report
    from ctxpress.results import (
        Citation,
        CompressedDocument,
        CompressedDocuments,
        CompressedMessageList,
        CompressedText,
        Document,
    )
    from ctxpress.sdk import (
        Pipeline,
        acompress,
        acompress_documents,
        acompress_messages,
        compress,
        compress_documents,
        compress_messages,
    )
    from ctxpress.stage import StageReport

__all__ = [
    "Citation",
    "CompressedDocument",
    "CompressedDocuments",
    "CompressedMessageList",
    "CompressedText",
    "CtxpressError",
    "Document",
    "Pipeline",
    "Range",
    "Report",
    "StageReport",
    "acompress",
    "acompress_documents",
    "acompress_messages",
    "compress",
    "compress_documents",
    "compress_messages",
]

_HOME = {
    "Citation": "results",
    "CompressedDocument": "results",
    "CompressedDocuments": "results",
    "CompressedMessageList": "results",
    "CompressedText": "results",
    "CtxpressError": "errors",
    "Document": "results",
    "Pipeline": "sdk",
    "Range": "document",
    "Report": "report",
    "StageReport": "stage",
    "acompress": "sdk",
    "acompress_documents": "sdk",
    "acompress_messages": "sdk",
    "compress": "sdk",
    "compress_documents": "sdk",
    "compress_messages": "sdk",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("ctxpress")
    if name not in _HOME:
        raise AttributeError(f"module 'ctxpress' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ctxpress.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
