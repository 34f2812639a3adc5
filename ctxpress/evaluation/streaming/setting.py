"""What is simulated: a model's KV, levels and their cost, machines, and requests drawn from it."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from ctxpress.cache.streaming import ChunkOptions, LevelOption, PrefillModel
from ctxpress.errors import ConfigError
from ctxpress.evaluation.streaming.traces import TraceFactory
from ctxpress.evaluation.streaming.world import World

__all__ = ["LevelCost", "LevelSet", "Setting", "read_levels", "shipped_levels"]

SIZE_SPREAD = 0.03  # relative standard deviations from chunk to chunk
DECODE_SPREAD = 0.05
PREFILL_SPREAD = 0.03
# Attention of a token to one before it, beside all weights, in Llama-3.1-8B: 4 x 32 layers x 4096
# against 2 x 8e9 operations.
PAIR_SHARE = 4 * 32 * 4096 / 16e9


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelCost:
    """A level: bits for a value of KV, everything included, and the relative loss of perplexity."""

    codec: str
    bits_per_value: float
    perplexity_change: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelSet:
    """Levels, and where their numbers come from."""

    source: str
    rows: tuple[LevelCost, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"source": self.source, "rows": [asdict(row) for row in self.rows]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A context of Llama-3.1-8B's shape on one machine with one link.

    ``kv_bytes_per_token`` is of fp16 KV; ``decode_bytes_per_ms`` of such KV that comes out.
    """

    n_tokens: int = 24_576
    chunk_tokens: int = 1_536
    kv_bytes_per_token: int = 131_072
    levels: LevelSet
    prefill_tokens_per_s: float = 7_680.0
    decode_bytes_per_ms: float = 8e6
    prior_bytes_per_ms: float = 125_000.0

    @property
    def prefill(self) -> PrefillModel:
        """How long recomputing takes: weights, and attention that grows with the context."""
        ms_per_token = 1000.0 / self.prefill_tokens_per_s
        return PrefillModel(
            fixed_ms=2.0, ms_per_token=ms_per_token, ms_per_token_pair=PAIR_SHARE * ms_per_token
        )

    @property
    def decode_ms_per_token(self) -> float:
        """How long decoding a token's KV takes."""
        return self.kv_bytes_per_token / self.decode_bytes_per_ms

    @property
    def chunk_lengths(self) -> list[int]:
        """Tokens of each chunk; the last one may be shorter."""
        full, rest = divmod(self.n_tokens, self.chunk_tokens)
        return [self.chunk_tokens] * full + ([rest] if rest else [])

    def world(self, trace: str, factory: TraceFactory, *, slo_ms: float, seed: int) -> World:
        """The request number ``seed``; sizes and times vary a little from chunk to chunk."""
        # Not hash(): that differs from process to process.
        generator = np.random.default_rng([seed, zlib.crc32(trace.encode())])
        lengths = self.chunk_lengths
        sizes = generator.normal(1.0, SIZE_SPREAD, len(lengths))
        chunks = tuple(
            ChunkOptions(
                n_tokens=length,
                levels=tuple(
                    LevelOption(
                        level=row.codec,
                        size_bytes=self._size_bytes(row, length, float(size)),
                        quality_loss=max(row.perplexity_change, 0.0),
                    )
                    for row in self.levels.rows
                ),
            )
            for length, size in zip(lengths, sizes, strict=True)
        )
        drawn = factory(generator, len(chunks), slo_ms)
        decodes = generator.lognormal(0.0, DECODE_SPREAD, len(chunks))
        prefills = generator.lognormal(0.0, PREFILL_SPREAD, len(chunks))
        before = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        return World(
            chunks=chunks,
            trace=drawn,
            decode_ms=tuple(
                {
                    row.codec: float(noise) * length * self.decode_ms_per_token
                    for row in self.levels.rows
                }
                for length, noise in zip(lengths, decodes, strict=True)
            ),
            prefill_ms=tuple(
                float(noise) * self.prefill.ms(length, int(start))
                for length, start, noise in zip(lengths, before, prefills, strict=True)
            ),
            slo_ms=slo_ms,
        )

    def _size_bytes(self, row: LevelCost, n_tokens: int, size: float) -> int:
        return int(max(size, 0.5) * n_tokens * self.kv_bytes_per_token * row.bits_per_value / 16)


def shipped_levels() -> LevelSet:
    """The levels that ship with ctxpress."""
    file = resources.files("ctxpress.evaluation.streaming").joinpath("levels.json")
    return _parsed("levels.json", file.read_text("utf-8"), None)


def read_levels(path: Path, names: Sequence[str] | None = None) -> LevelSet:
    """Levels from what ``ctxpress eval kv --json`` printed, or from ``--record``.

    ``names``: the codecs wanted. (default: all that are stored and not exact)

    :raises ConfigError: the file cannot be read, or holds no such levels.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    return _parsed(str(path), text, names)


def _parsed(place: str, text: str, names: Sequence[str] | None) -> LevelSet:
    try:
        value = json.loads(text)
    except ValueError:
        raise ConfigError(f"{place}: not JSON") from None
    rows = value.get("rows") if isinstance(value, dict) else None
    if not isinstance(rows, list):
        raise ConfigError(f"{place}: no rows; give what `ctxpress eval kv --json` prints")
    levels = [
        _level(place, row) for row in rows if isinstance(row, dict) and "bits_per_value" in row
    ]
    chosen = [
        level for level in levels if (level.codec in names if names else level.codec != "raw")
    ]
    for name in names or ():
        if name not in {level.codec for level in levels}:
            raise ConfigError(f"{place}: no row of codec {name!r}")
    if not chosen:
        raise ConfigError(f"{place}: no codec's row has bits_per_value")
    source = value.get("source") or f"`ctxpress eval kv` on the model `{value.get('model', '?')}`"
    return LevelSet(
        source=str(source), rows=tuple(sorted(chosen, key=lambda level: level.bits_per_value))
    )


def _level(place: str, row: dict[str, Any]) -> LevelCost:
    codec = row.get("codec")
    bits, change = row.get("bits_per_value"), row.get("perplexity_change")
    if not isinstance(codec, str) or not codec:
        raise ConfigError(f"{place}: a row names no codec")
    for name, number in (("bits_per_value", bits), ("perplexity_change", change)):
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ConfigError(f"{place}: {codec}: {name} must be a number, not {number!r}")
        if not math.isfinite(number) or (name == "bits_per_value" and number <= 0):
            raise ConfigError(f"{place}: {codec}: {name} is {number}")
    return LevelCost(codec=codec, bits_per_value=float(bits), perplexity_change=float(change))  # type: ignore[arg-type]
