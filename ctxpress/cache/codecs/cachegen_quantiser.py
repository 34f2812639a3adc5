"""CacheGen's quantiser: a mean and a scale a channel, a scale a token, symbols channel by channel.

A value is ``(symbol - centre) * (channel scale * token scale) + mean``: float32 operations in this
order, each rounded by itself, the result limited to the dtype's finite range and rounded to it
once. So decoded values are the same bits on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ctxpress.cache.codecs.cachegen_scales import (
    LEAST_RUNG,
    MOST_RUNG,
    ladder,
    nearest_rungs,
    rungs_above,
)

__all__ = ["ChannelScales", "QuantisedTokens", "dequantise", "measure_channels", "quantise"]

# The product of two scales and a symbol stays a finite, normal float32.
LEAST_PRODUCT, MOST_PRODUCT = -500, 504
_LEAST_CHANNEL_RUNG = -240
MEAN_STEPS = 8  # a mean is a whole number of eighths of its channel's scale
MOST_MEAN = 127


@dataclass(frozen=True, slots=True, eq=False)
class ChannelScales:
    """``scales`` and ``means`` of channels, float32 ``(n_kv_heads, head_dim)``.

    ``rungs`` and ``mean_symbols``, int64 of the same shape, are how a section names them.
    """

    scales: torch.Tensor
    means: torch.Tensor
    rungs: np.ndarray | None = None
    mean_symbols: np.ndarray | None = None

    @classmethod
    def of_section(cls, rungs: np.ndarray, mean_symbols: np.ndarray) -> ChannelScales:
        """Scales on the ladder and means in eighths of them."""
        scales = ladder(rungs)
        means = mean_symbols.astype(np.float32) * scales * np.float32(1 / MEAN_STEPS)
        return cls(torch.from_numpy(scales), torch.from_numpy(means), rungs, mean_symbols)


@dataclass(frozen=True, slots=True, eq=False)
class QuantisedTokens:
    """Symbols of a run of tokens: uint8 ``(n_kv_heads * head_dim, n_tokens)``, 0 to ``2 * most``.

    ``token_rungs``: int64 ``(n_kv_heads, n_tokens)``.
    """

    symbols: np.ndarray
    token_rungs: np.ndarray
    most: int


def measure_channels(rows: torch.Tensor, *, with_means: bool, with_scales: bool) -> ChannelScales:
    """Means and mean absolute deviations of the channels of ``(n_kv_heads, n_tokens, head_dim)``.

    Without means they are 0, without scales all rungs are 0.
    """
    n_heads, n_tokens, head_dim = rows.shape
    shape = (n_heads, head_dim)
    if n_tokens == 0:
        nothing = np.zeros(shape, np.int64)
        return ChannelScales.of_section(nothing, nothing)
    means = torch.zeros(shape, device=rows.device)
    if with_means:
        # Divided first: a sum may overflow where no value does.
        means = (rows / n_tokens).sum(dim=1)
    if with_scales:
        deviation = ((rows - means.unsqueeze(1)).abs_() / n_tokens).sum(dim=1)
        rungs = nearest_rungs(deviation).clamp_(_LEAST_CHANNEL_RUNG, MOST_RUNG)
        rungs.clamp_min_(int(rungs.max()) - 255)
    else:
        rungs = torch.zeros(shape, dtype=torch.int64)
    found = rungs.cpu().numpy()
    steps = torch.from_numpy(ladder(found)).to(rows.device) / MEAN_STEPS
    symbols = (means / steps).round_().clamp_(-MOST_MEAN, MOST_MEAN)
    return ChannelScales.of_section(found, symbols.cpu().numpy().astype(np.int64))


def quantise(
    rows: torch.Tensor, channels: ChannelScales, most: int, *, least_rung: int = LEAST_RUNG
) -> QuantisedTokens:
    """Symbols of ``rows``, float32 ``(n_kv_heads, n_tokens, head_dim)``, at most ``most`` from 0.

    A token's scale is the least rung, ``least_rung`` or above, at which none of its values in a
    head lies beyond the outermost symbol.
    """
    n_heads, n_tokens, head_dim = rows.shape
    scales = channels.scales.to(rows.device).unsqueeze(1)
    units = (rows - channels.means.to(rows.device).unsqueeze(1)).div_(scales)
    largest = units.abs().amax(dim=2) if n_tokens else units.new_zeros(n_heads, 0)
    least_channel = 0 if channels.rungs is None else int(channels.rungs.min())
    rungs = rungs_above(largest / most).clamp_min_(max(least_rung, LEAST_PRODUCT - least_channel))
    if n_tokens:
        rungs.clamp_min_(int(rungs.max()) - 255)
    token_rungs = rungs.cpu().numpy()
    inverse = 1 / torch.from_numpy(ladder(token_rungs)).to(rows.device)
    units.mul_(inverse.unsqueeze(2)).round_().clamp_(-most, most).add_(most)
    symbols = units.to(torch.uint8).transpose(1, 2).reshape(n_heads * head_dim, n_tokens)
    return QuantisedTokens(symbols.cpu().numpy(), token_rungs, most)


def dequantise(tokens: QuantisedTokens, channels: ChannelScales, out: torch.Tensor) -> None:
    """Fill ``out``, ``(n_kv_heads, n_tokens, head_dim)`` of any float dtype and device."""
    n_heads, n_tokens, head_dim = out.shape
    if n_tokens == 0:
        return
    symbols = torch.from_numpy(tokens.symbols).to(out.device)
    values = symbols.view(n_heads, head_dim, n_tokens).transpose(1, 2).float() - tokens.most
    scales = channels.scales.to(out.device).unsqueeze(1)
    token_scales = torch.from_numpy(ladder(tokens.token_rungs)).to(out.device).unsqueeze(2)
    values *= scales * token_scales
    values += channels.means.to(out.device).unsqueeze(1)
    greatest = torch.finfo(out.dtype).max
    out.copy_(values.clamp_(-greatest, greatest))
