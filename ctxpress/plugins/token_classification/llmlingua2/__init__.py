"""LLMLingua-2, output for output what the `llmlingua` 0.2.2 library makes of it.

`chunks` cuts contexts, `encoder` scores them, `words` joins tokens, `filter` chooses, `compressor`
is the whole. None of it is meant to be better than the library: that is mode `native`.
"""

from __future__ import annotations

from ctxpress.plugins.token_classification.llmlingua2.compressor import LLMLingua2Compressor
from ctxpress.plugins.token_classification.llmlingua2.encoder import ChunkEncoder
from ctxpress.plugins.token_classification.llmlingua2.options import (
    LLMLingua2Options,
    LLMLingua2Result,
)

__all__ = ["ChunkEncoder", "LLMLingua2Compressor", "LLMLingua2Options", "LLMLingua2Result"]
