"""CacheGen's quantiser: a mean and a scale a channel, a scale a token, symbols channel by channel.

A value is ``(symbol - centre) * (channel scale * token scale) + mean``: float32 operations in this
order, each rounded by itself, the result limited to the dtype's finite range and rounded to it
once. So decoded values are the same bits on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ctxpress.cache.codecs import cachegen_kernels as kernels
from ctxpress.cache.codecs.cachegen_parsing import LEAST_PRODUCT
from ctxpress.cache.codecs.cachegen_scales import (
    LEAST_RUNG,
    all_rungs,
    ladder,
    nearest_rungs,
    rungs_above,
)

__all__ = ["ChannelScales", "QuantisedTokens", "dequantise", "measure_channels", "quantise"]

_LEAST_CHANNEL_RUNG = -240
MEAN_STEPS = 8  # a mean is a whole number of eighths of its channel's scale
MOST_MEAN = 127


@dataclass(frozen=True, slots=True, eq=False)
class ChannelScales:
    """``scales`` and ``means`` of channels, float32 ``(n_kv_heads, head_dim)``.

    ``rungs`` and ``mean_symbols``, int64 of the same shape, are how a section names them.
    """

    scales: np.ndarray
    means: np.ndarray
    rungs: np.ndarray | None = None
    mean_symbols: np.ndarray | None = None

    @classmethod
    def of_section(cls, rungs: np.ndarray, mean_symbols: np.ndarray) -> ChannelScales:
        """Scales on the ladder and means in eighths of them."""
        scales = ladder(rungs)
        means = mean_symbols.astype(np.float32) * scales * np.float32(1 / MEAN_STEPS)
        return cls(scales, means, rungs, mean_symbols)


@dataclass(frozen=True, slots=True, eq=False)
class QuantisedTokens:
    """Symbols of a run of tokens: uint8 ``(n_kv_heads * head_dim, n_tokens)``, 0 to ``2 * most``.

    ``token_rungs``: int64 ``(n_kv_heads, n_tokens)``.
    """

    symbols: np.ndarray
    token_rungs: np.ndarray
    most: int

    def of_tokens(self, places: np.ndarray) -> QuantisedTokens:
        """Those of the tokens at ``places``, in that order."""
        symbols = np.ascontiguousarray(self.symbols[:, places])
        return QuantisedTokens(symbols, self.token_rungs[:, places], self.most)


def measure_channels(
    rows: np.ndarray, first: int, *, with_means: bool, with_scales: bool
) -> ChannelScales:
    """Means and mean absolute deviations of channels over tokens from ``first`` on.

    ``rows``: float32 ``(n_kv_heads, n_tokens, head_dim)``. Without means they are 0, without scales
    all rungs are 0.
    """
    n_heads, n_tokens, head_dim = rows.shape
    rungs = np.zeros((n_heads, head_dim), np.int64)
    symbols = rungs
    if n_tokens > first and with_means:
        means = kernels.channel_means(rows, first)
    else:
        means = np.zeros((n_heads, head_dim), np.float32)
    if n_tokens > first and with_scales:
        rungs = nearest_rungs(kernels.channel_deviations(rows, first, means))
        # A channel that hardly varies still has to name its mean.
        least = rungs_above(np.abs(means) * np.float32(MEAN_STEPS / MOST_MEAN))
        rungs = np.maximum(np.maximum(rungs, least), _LEAST_CHANNEL_RUNG)
        rungs = np.maximum(rungs, int(rungs.max()) - 255)
    if with_means:
        steps = ladder(rungs) / np.float32(MEAN_STEPS)
        symbols = np.clip(np.rint(means / steps), -MOST_MEAN, MOST_MEAN).astype(np.int64)
    return ChannelScales.of_section(rungs, symbols)


def quantise(
    rows: np.ndarray,
    tokens: tuple[int, int],
    channels: ChannelScales,
    most: int,
    *,
    least_rung: int = LEAST_RUNG,
) -> QuantisedTokens:
    """Symbols of ``tokens``, from the first up to the second, at most ``most`` from 0.

    ``rows``: float32 ``(n_kv_heads, n_tokens, head_dim)``. A token's scale is the least rung,
    ``least_rung`` or above, at which none of its values in a head lies beyond the outermost symbol.
    """
    least_channel = 0 if channels.rungs is None else int(channels.rungs.min())
    least = max(least_rung, LEAST_PRODUCT - least_channel)
    symbols, rungs = kernels.quantised(
        rows, *tokens, channels.means, channels.scales, most, least, all_rungs()
    )
    return QuantisedTokens(symbols, rungs, most)


def dequantise(tokens: QuantisedTokens, channels: ChannelScales, out: torch.Tensor) -> None:
    """Fill ``out``, ``(n_kv_heads, n_tokens, head_dim)`` of any float dtype and device.

    The same operations as ``cachegen_decoding.fill_rounded``, so the same bits.
    """
    if out.numel() == 0:
        return
    n_heads, n_tokens, head_dim = out.shape
    place = out.device
    symbols = torch.from_numpy(tokens.symbols).to(place).view(n_heads, head_dim, n_tokens)
    values = symbols.transpose(1, 2).to(torch.float32) - tokens.most
    scales = torch.from_numpy(channels.scales).to(place).unsqueeze(1)
    values *= scales * torch.from_numpy(ladder(tokens.token_rungs)).to(place).unsqueeze(2)
    values += torch.from_numpy(channels.means).to(place).unsqueeze(1)
    greatest = torch.finfo(out.dtype).max
    out.copy_(values.clamp_(-greatest, greatest))
