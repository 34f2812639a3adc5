"""Work that is short for most requests and long for a few: on the event loop, or beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

__all__ = ["INLINE_SIZE", "aside"]

T = TypeVar("T")

INLINE_SIZE = 32_768  # bytes or characters: below this a thread costs more than most work


async def aside(executor: Executor | None, size: int, function: Callable[[], T]) -> T:
    """The result of ``function``, from a thread where ``size`` is large: the loop stays free."""
    if executor is None or size <= INLINE_SIZE:
        return function()
    return await asyncio.get_running_loop().run_in_executor(executor, function)
