"""How texts are read where a sentence is not all: titles above them, scores and vectors of both."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ctxpress.relevance.scorer import Titled

__all__ = ["PASSAGE_SHARE", "head_of", "mixed", "unit_rows"]

FloatArray = npt.NDArray[np.float32]

PASSAGE_SHARE = 0.5
"""Part of a sentence's score that its passage's is: alone, it lacks what it refers to."""
_SHORTEST = 1e-9


def head_of(text: Titled) -> str:
    """What is read before the text, or before any part of it: its title on a line of its own."""
    title = (text.title or "").strip()
    return f"{title}\n" if title else ""


def mixed(own: FloatArray, passage: FloatArray) -> FloatArray:
    """Scores of sentences, (n,), from their own and those of the passages they stand in."""
    return np.asarray(PASSAGE_SHARE * passage + (1 - PASSAGE_SHARE) * own, np.float32)


def unit_rows(rows: FloatArray) -> FloatArray:
    """`rows`, vectors of shape (…, width), each of length 1; zeros stay zeros."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, _SHORTEST), np.float32)
