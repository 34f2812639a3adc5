"""How texts with titles are read by models that take plain strings, and sentences among them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ctxpress.relevance.scorer import Titled

__all__ = ["PASSAGE_SHARE", "head_of", "mixed"]

FloatArray = npt.NDArray[np.float32]

PASSAGE_SHARE = 0.5
"""Part of a sentence's score that its passage's is: alone, it lacks what it refers to."""


def head_of(text: Titled) -> str:
    """What is read before the text, or before any part of it: its title on a line of its own."""
    title = (text.title or "").strip()
    return f"{title}\n" if title else ""


def mixed(own: FloatArray, passage: FloatArray) -> FloatArray:
    """Scores of sentences, (n,), from their own and those of the passages they stand in."""
    return np.asarray(PASSAGE_SHARE * passage + (1 - PASSAGE_SHARE) * own, np.float32)
