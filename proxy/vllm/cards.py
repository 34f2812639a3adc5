"""Which models a vLLM serves, and how long their windows are (``GET /v1/models``)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from .reasons import NotParallelError, PlainPath

__all__ = ["ModelCard", "ModelCards"]

_FRESH_S = 300.0
_FAILED_S = 1.0


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model: its name and its window in tokens. Adapters (LoRA) are none."""

    name: str
    max_tokens: int


class ModelCards:
    """The models of one upstream, asked for when they are needed and remembered for a while."""

    def __init__(self) -> None:
        self._cards: dict[str, ModelCard] = {}
        self._until = 0.0
        self._lock = asyncio.Lock()

    async def of(self, name: str | None, fetch: Callable[[], Awaitable[Any]]) -> ModelCard:
        """The card of the model that a request names; without a name the only one.

        ``fetch()`` gives the JSON of the list, or None where it cannot be had.

        :raises NotParallelError: the list cannot be had, or the model is not in it or an adapter.
        """
        if time.monotonic() >= self._until:
            async with self._lock:
                if time.monotonic() >= self._until:
                    await self._renew(fetch)
        if not self._cards:
            raise NotParallelError(PlainPath.UNAVAILABLE, "the list of models cannot be had")
        if name is None and len(self._cards) == 1:
            return next(iter(self._cards.values()))
        card = self._cards.get(name or "")
        if card is None:
            raise NotParallelError(PlainPath.MODEL, "not a model of its own in the list of models")
        return card

    async def _renew(self, fetch: Callable[[], Awaitable[Any]]) -> None:
        value = await fetch()
        if value is None:  # what was known stays known
            self._until = time.monotonic() + _FAILED_S
            return
        self._cards = _cards(value)
        self._until = time.monotonic() + _FRESH_S


def _cards(value: Any) -> dict[str, ModelCard]:
    rows = value.get("data") if isinstance(value, dict) else None
    found = {}
    for row in rows if isinstance(rows, list) else []:
        if not isinstance(row, dict) or row.get("parent") is not None:
            continue
        name, tokens = row.get("id"), row.get("max_model_len")
        if isinstance(name, str) and type(tokens) is int and tokens > 0:
            found[name] = ModelCard(name, tokens)
    return found
