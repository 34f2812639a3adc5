"""The nearest valid name, for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean"]


def did_you_mean(wrong: str, valid: Iterable[str]) -> str:
    """``; did you mean 'x'?``, or the valid names where none is near; empty if there are none."""
    names = sorted(valid)
    near = difflib.get_close_matches(wrong, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; valid: {', '.join(names)}" if names else ""
