"""Heavy things that several stages share: a model is loaded once, however many use it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

__all__ = ["Resources"]

T = TypeVar("T")


class Resources:
    """Loaded models by key, for the lifetime of one plugin manager. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: dict[Hashable, Any] = {}

    def get(self, key: Hashable, load: Callable[[], T]) -> T:
        """What ``load`` returned the first time ``key`` was asked for.

        Whatever ``load`` raises goes to the caller, and the next call tries again.
        """
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = load()
            value: T = self._loaded[key]
            return value
