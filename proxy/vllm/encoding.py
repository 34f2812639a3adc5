"""Documents that vLLM has not read yet: each is encoded by one ordinary request, once.

The connector stores what that request computed, so that every replica finds it. This proxy
remembers which documents it has had encoded; what it forgets is merely encoded again, and what
the store forgets is noticed by the answer's count of cached tokens.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from array import array
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

from ctxpress.config import ParallelConfig
from ctxpress.prompt_pieces import PromptPieces

__all__ = ["DocumentEncoder", "document_keys"]

Encode = Callable[[tuple[int, ...]], Awaitable[bool]]

_MAX_KNOWN = 200_000
_MAX_WAITING = 1024
_FORGET_AGAIN_S = 60.0


class DocumentEncoder:
    """Which documents are encoded already; has others encoded, a few at a time. For one loop."""

    def __init__(self, config: ParallelConfig) -> None:
        self._config = config
        self._slots = asyncio.Semaphore(config.documents_at_a_time)
        self._tasks: dict[bytes, asyncio.Task[bool]] = {}
        self._known: OrderedDict[bytes, float] = OrderedDict()  # when each was encoded

    async def ensure(
        self,
        documents: Sequence[tuple[int, ...]],
        keys: Sequence[bytes],
        encode: Encode,
    ) -> bool:
        """Wait until all documents of a prompt are encoded; whether they are, in time.

        ``encode(document)`` has one encoded and says whether it was. Requests that wait for the
        same document share one encoding. Those that are not in time go on being encoded.
        """
        now = time.monotonic()
        missing = {
            key: document
            for key, document in zip(keys, documents, strict=True)
            if self._known.get(key, -float("inf")) + self._config.remember_s <= now
        }
        if not missing:
            return True
        if len(self._tasks.keys() | missing.keys()) > _MAX_WAITING:
            return False
        tasks = {self._task(document, key, encode) for key, document in missing.items()}
        done, pending = await asyncio.wait(tasks, timeout=self._config.encode_timeout_ms / 1000)
        return not pending and all(not task.cancelled() and task.result() for task in done)

    def forget(self, keys: Sequence[bytes]) -> None:
        """These were not found in the store after all; those just encoded stay, for a minute."""
        now = time.monotonic()
        for key in keys:
            if self._known.get(key, now) + _FORGET_AGAIN_S < now:
                del self._known[key]

    async def aclose(self) -> None:
        """Stop encoding."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _task(self, document: tuple[int, ...], key: bytes, encode: Encode) -> asyncio.Task[bool]:
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(self._run(document, key, encode))
            task.add_done_callback(lambda _: self._tasks.pop(key, None))
        return task

    async def _run(self, document: tuple[int, ...], key: bytes, encode: Encode) -> bool:
        async with self._slots:
            done = await encode(document)
        if done:
            self._known[key] = time.monotonic()
            self._known.move_to_end(key)
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
        return done


def document_keys(model: str, pieces: PromptPieces) -> list[bytes]:
    """What each document's KV depends on, as a digest: the model, the prefix, its own tokens."""
    start = hashlib.sha256(model.encode("utf-8", "surrogatepass") + b"\0")
    start.update(array("I", pieces.prefix).tobytes())
    start.update(b"\0")
    keys = []
    for document in pieces.documents:
        own = start.copy()
        own.update(array("I", document).tobytes())
        keys.append(own.digest())
    return keys
