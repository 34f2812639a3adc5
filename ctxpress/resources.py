"""Heavy things that several stages share: a model is loaded once, however many use it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

from ctxpress.errors import ConfigError
from ctxpress.relevance.scorer import RelevanceScorer

__all__ = ["CreateScorer", "Resources"]

T = TypeVar("T")

CreateScorer = Callable[[str, Mapping[str, Any]], RelevanceScorer]


def _no_scorers(name: str, options: Mapping[str, Any]) -> RelevanceScorer:
    raise ConfigError(f"no relevance scorer is called {name!r}: no plugin manager is here")


class Resources:
    """Loaded models by key, for the lifetime of one plugin manager. Thread-safe.

    ``create_scorer(name, options)`` is the relevance scorer that a plugin registered under this
    name, loaded once per name and options. It raises ``ConfigError`` where there is none, or where
    an option is wrong. Factories may call it and :meth:`get` while they are loading.
    """

    def __init__(self, create_scorer: CreateScorer = _no_scorers) -> None:
        self._lock = threading.RLock()
        self._loaded: dict[Hashable, Any] = {}
        self._loading: set[Hashable] = set()
        self.create_scorer = create_scorer

    def get(self, key: Hashable, load: Callable[[], T]) -> T:
        """What ``load`` returned the first time ``key`` was asked for.

        Whatever ``load`` raises goes to the caller, and the next call tries again.

        :raises ConfigError: ``load`` asks for ``key`` itself, which would never end.
        """
        with self._lock:
            if key not in self._loaded:
                if key in self._loading:
                    raise ConfigError(f"{key!r} needs itself to be loaded")
                self._loading.add(key)
                try:
                    self._loaded[key] = load()
                finally:
                    self._loading.discard(key)
            value: T = self._loaded[key]
            return value
