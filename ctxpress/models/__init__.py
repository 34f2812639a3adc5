"""The bundled token classifier: weights, card, and loading with ONNX Runtime (no torch).

Nothing is read at import; onnxruntime itself is imported by `load_bundled_scorer`.
"""

from ctxpress.models.bundle import load_bundled_scorer, load_bundled_tokenizer
from ctxpress.models.language import detect_language
from ctxpress.models.scorer import OnnxTokenScorer, TokenScorer, TokenScores

__all__ = [
    "OnnxTokenScorer",
    "TokenScorer",
    "TokenScores",
    "detect_language",
    "load_bundled_scorer",
    "load_bundled_tokenizer",
]
