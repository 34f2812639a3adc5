"""Waiting for asynchronous work in synchronous code."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["wait"]

T = TypeVar("T")


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` to its end on a loop of its own, in a thread where a loop is running already.

    Context variables of the caller (a trace, a tenant) are seen by ``work`` either way.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    context = contextvars.copy_context()
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(context.run, lambda: asyncio.run(work)).result()
