"""A store of KV as the source of a context: what it holds as options, its sections as pieces."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from ctxpress.cache.streaming.options import ChunkOptions, LevelOption

if TYPE_CHECKING:
    from ctxpress.cache.chunk_key import KVLevel
    from ctxpress.cache.chunks import KVStore
    from ctxpress.cache.kv_report import KVReport
    from ctxpress.cache.sealed_kv import StoredKV

__all__ = ["StoreSource"]


class StoreSource:
    """Chunks that ``KVStore.find`` found, in order; see ``fetch.KVSource``.

    ``report`` counts reads and misses, as the store's methods do.
    """

    def __init__(
        self,
        store: KVStore,
        found: Sequence[Mapping[KVLevel, StoredKV]],
        *,
        report: KVReport | None = None,
    ) -> None:
        self._store = store
        self._found = [{str(level): stored for level, stored in one.items()} for one in found]
        self._report = report

    def options(
        self, n_tokens: Sequence[int], quality_losses: Mapping[str, float]
    ) -> list[ChunkOptions]:
        """What a controller is given: by chunk its tokens, and the levels that are there.

        ``quality_losses``: by codec, as measured; levels of other codecs are left out.

        :raises ValueError: not one length a chunk, or a number makes no sense.
        """
        return [
            ChunkOptions(
                n_tokens=length,
                levels=tuple(
                    LevelOption(
                        level=name,
                        size_bytes=stored.container_bytes,
                        quality_loss=quality_losses[stored.level.codec],
                    )
                    for name, stored in levels.items()
                    if stored.level.codec in quality_losses
                ),
            )
            for length, levels in zip(n_tokens, self._found, strict=True)
        ]

    async def open(self, chunk: int, level: str) -> AsyncGenerator[memoryview, None]:
        """The container, its header first; each section is checked before it is handed on.

        :raises KVMissError: the rest cannot be had.
        """
        stored = self._found[chunk][level]
        yield memoryview(stored.header_data)
        async with aclosing(self._store.fetch(stored, report=self._report)) as sections:
            async for _, section in sections:
                yield section
