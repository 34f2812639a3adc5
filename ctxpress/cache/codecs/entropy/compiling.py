"""How loops are compiled: on first use, kept on disk, without the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

__all__ = ["compiled"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """``function`` as machine code of the types that it is first called with."""
    found: _Function = njit(nogil=True, cache=True)(function)
    return found
