"""Plain ways to make KV smaller, for the tables beside our codecs.

Each codes what CacheGen's released code would: K and V with heads merged, a scale a token and
layer, 31 levels in early layers and 15 in later ones (level 2 of its published tables).
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ctxpress.cache.kv import KVBlock

__all__ = ["Baseline", "Coded", "baselines", "level_2_symbols", "restored"]


@dataclass(frozen=True)
class Coded:
    """What came out; ``overhead_bytes`` are those of tables and the like."""

    parts: Any
    total_bytes: int
    overhead_bytes: int


@dataclass(frozen=True)
class Baseline:
    """A way to code KV. ``decode`` gives tensors in the dtype of the block."""

    name: str
    encode: Callable[[KVBlock], Coded]
    decode: Callable[[Coded, KVBlock], tuple[torch.Tensor, torch.Tensor]]
    missing: str = field(default="")


def levels_of(n_layers: int, early: int) -> np.ndarray:
    """Levels of each layer: 31 in the first ``early`` of 32, 15 behind."""
    return np.where(np.arange(n_layers) * 32 < early * n_layers, 31, 15)


def level_2_symbols(block: KVBlock) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Symbols ``(2 * n_layers, n_tokens, channels)``, K before V; scales; levels of each layer."""
    merged = torch.cat([block.keys, block.values]).transpose(1, 2).flatten(2).float()
    levels = np.concatenate([levels_of(block.n_layers, 10), levels_of(block.n_layers, 2)])
    half = torch.tensor(levels // 2)[:, None, None]
    scales = merged.abs().amax(-1, keepdim=True).clamp(min=1e-30)
    symbols = torch.round(merged * (half / scales) + half).to(torch.uint8)
    return symbols.numpy(), scales.numpy(), levels


def restored(
    symbols: np.ndarray, scales: np.ndarray, levels: np.ndarray, like: KVBlock
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values in the shape and dtype of ``like``."""
    half = torch.tensor(levels // 2)[:, None, None]
    merged = (torch.from_numpy(symbols).float() - half) / half * torch.from_numpy(scales)
    shape = (2 * like.n_layers, like.n_tokens, like.n_kv_heads, like.head_dim)
    both = merged.to(like.keys.dtype).view(shape).transpose(1, 2).contiguous()
    return both[: like.n_layers], both[like.n_layers :]


def baselines() -> list[Baseline]:
    """zstd of halves, zstd of symbols, and a range coder with tables of each channel."""
    return [
        Baseline("zstd -1, fp16 as it is", _encode_halves, _decode_halves),
        Baseline("zstd -1, symbols as they lie", _encode_symbols, _decode_symbols),
        Baseline(
            "range coder, table a channel (constriction)",
            _encode_channels,
            _decode_channels,
            "" if _has("constriction") else "pip install constriction",
        ),
    ]


def _has(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _encode_halves(block: KVBlock) -> Coded:
    import zstandard

    both = torch.cat([block.keys, block.values]).to(torch.float16).contiguous()
    planes = both.view(torch.uint8).view(-1, 2).T.contiguous()  # low bytes, then high bytes
    data = zstandard.ZstdCompressor(level=1).compress(planes.numpy().tobytes())
    return Coded(data, len(data), 0)


def _decode_halves(coded: Coded, like: KVBlock) -> tuple[torch.Tensor, torch.Tensor]:
    import zstandard

    data = bytearray(zstandard.ZstdDecompressor().decompress(coded.parts))
    planes = torch.frombuffer(data, dtype=torch.uint8).view(2, -1).T.contiguous()
    both = planes.view(torch.float16).view(2 * like.n_layers, *like.keys.shape[1:])
    return both[: like.n_layers].to(like.keys.dtype), both[like.n_layers :].to(like.keys.dtype)


def _encode_symbols(block: KVBlock) -> Coded:
    import zstandard

    symbols, scales, levels = level_2_symbols(block)
    data = zstandard.ZstdCompressor(level=1).compress(symbols.tobytes())
    kept = scales.astype(np.float16)
    return Coded((data, kept, levels, symbols.shape), len(data) + kept.nbytes, 0)


def _decode_symbols(coded: Coded, like: KVBlock) -> tuple[torch.Tensor, torch.Tensor]:
    import zstandard

    data, scales, levels, shape = coded.parts
    plain = bytearray(zstandard.ZstdDecompressor().decompress(data))
    symbols = np.frombuffer(plain, np.uint8).reshape(shape)
    return restored(symbols, scales.astype(np.float32), levels, like)


def _encode_channels(block: KVBlock) -> Coded:
    import constriction

    symbols, scales, levels = level_2_symbols(block)
    streams, tables = [], []
    for rows, n_levels in zip(symbols, levels, strict=True):
        for channel in np.ascontiguousarray(rows.T).astype(np.int32):
            counts = np.bincount(channel, minlength=n_levels) + 0.02  # no symbol is impossible
            table = counts.astype(np.float32)
            model = constriction.stream.model.Categorical(table, perfect=False)
            coder = constriction.stream.queue.RangeEncoder()
            coder.encode(channel, model)
            streams.append(coder.get_compressed())
            tables.append(table)
    kept = scales.astype(np.float16)
    overhead = sum(2 * len(table) for table in tables) + 4 * len(streams)  # as 16-bit tables
    total = sum(stream.nbytes for stream in streams) + kept.nbytes + overhead
    return Coded((streams, tables, kept, levels, symbols.shape), total, overhead)


def _decode_channels(coded: Coded, like: KVBlock) -> tuple[torch.Tensor, torch.Tensor]:
    import constriction

    streams, tables, scales, levels, shape = coded.parts
    symbols = np.empty((shape[0], shape[2], shape[1]), np.uint8)
    for place, (stream, table) in enumerate(zip(streams, tables, strict=True)):
        model = constriction.stream.model.Categorical(table, perfect=False)
        decoder = constriction.stream.queue.RangeDecoder(stream)
        symbols[divmod(place, shape[2])] = decoder.decode(model, shape[1])
    merged = np.ascontiguousarray(symbols.transpose(0, 2, 1))
    return restored(merged, scales.astype(np.float32), levels, like)
