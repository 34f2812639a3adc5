"""Means and steps of every channel, from a calibration: what ``cachegen-auto`` quantises with.

An error ``e`` in a channel costs about ``cost * e ** 2 / 2`` nats, where ``cost`` is the second
derivative of the loss, measured by the calibration. Uniform quantising with entropy coding spends a
given number of bits best where all steps are equal in units of ``1 / sqrt(cost)`` (Gish and Pierce,
1968), whatever the channels' variances are: cheap channels then fall silent by themselves.
"""

from __future__ import annotations

import numpy as np
import torch

from ctxpress.cache.calibration import Calibration
from ctxpress.cache.codecs.cachegen_quantiser import ChannelScales
from ctxpress.errors import CodecError

__all__ = ["CalibratedSteps", "step_for_bits"]

_KINDS = ("key", "value")
_STEP = "cachegen/step"
_DEFAULT_STEP = 0.05
_MOST_STEP = 8.0  # in standard deviations of the channel: beyond it, all symbols are 0 anyway


class CalibratedSteps:
    """Quantiser steps of a calibration's model.

    Arrays that it reads, each ``(n_layers, n_kv_heads, head_dim)`` float32 for ``key`` and
    ``value``: ``cachegen/key_mean``, ``cachegen/key_std``, ``cachegen/key_cost``; and optionally
    ``cachegen/step`` ``(1,)``, the step in units of ``1 / sqrt(cost)``.

    :raises CodecError: one is missing, of another shape, or holds what is no such number.
    """

    most = 63  # outermost symbol: tokens beyond it get a scale of their own

    def __init__(self, calibration: Calibration) -> None:
        arrays = calibration.arrays
        found = {}
        for kind in _KINDS:
            for what in ("mean", "std", "cost"):
                name = f"cachegen/{kind}_{what}"
                if name not in arrays:
                    raise CodecError(f"the calibration has no array {name!r}")
                found[kind, what] = arrays[name].astype(np.float32)
                if arrays[name].ndim != 3 or not np.isfinite(found[kind, what]).all():
                    raise CodecError(f"calibration array {name!r} is not (layer, head, channel)")
        self._shape = found["key", "mean"].shape
        if any(array.shape != self._shape for array in found.values()):
            raise CodecError("the calibration's arrays differ in shape")
        step = np.float32(arrays[_STEP].reshape(-1)[0]) if _STEP in arrays else _DEFAULT_STEP
        if not 0 < step < np.inf:
            raise CodecError(f"calibration array {_STEP!r} holds no step: {step}")
        self._means = [torch.from_numpy(found[kind, "mean"]) for kind in _KINDS]
        self._scales = [
            torch.from_numpy(_steps(float(step), found[kind, "cost"], found[kind, "std"]))
            for kind in _KINDS
        ]

    def require(self, n_layers: int, n_kv_heads: int, head_dim: int) -> None:
        """:raises CodecError: the calibration is of a model of another shape."""
        if (n_layers, n_kv_heads, head_dim) != self._shape:
            raise CodecError(
                f"the calibration is of {self._shape} layers, heads and channels, "
                f"the block of {(n_layers, n_kv_heads, head_dim)}"
            )

    def channels(self, layer: int, kind: int) -> ChannelScales:
        """The channels of ``layer``: those of keys where ``kind`` is 0, of values where it is 1."""
        return ChannelScales(self._scales[kind][layer], self._means[kind][layer])


def _steps(step: float, cost: np.ndarray, std: np.ndarray) -> np.ndarray:
    spread = np.clip(std, 2.0**-60, 2.0**60)
    wanted = step / np.sqrt(np.maximum(cost, 2.0**-100))
    steps: np.ndarray = np.clip(wanted, spread / 1024, spread * _MOST_STEP).astype(np.float32)
    return steps


def step_for_bits(std: np.ndarray, cost: np.ndarray, bits: float) -> float:
    """The step, in units of ``1 / sqrt(cost)``, at which channels take ``bits`` on average.

    ``std`` and ``cost``: of all channels, keys and values, of any one shape. Values count as
    Laplacian around their means, which is about right; what a step costs is told by measuring.
    Its result belongs into a calibration as ``cachegen/step``.
    """
    low, high = -120.0, 120.0  # of its base-2 logarithm
    for _ in range(60):
        middle = (low + high) / 2
        if _laplacian_bits(std / _steps(2.0**middle, cost, std)) > bits:
            low = middle
        else:
            high = middle
    return float(2.0**high)


def _laplacian_bits(deviations: np.ndarray) -> float:
    """Mean entropy of Laplacians of these standard deviations in steps, rounded to whole steps."""
    decay = np.exp(-np.sqrt(2) / np.clip(deviations, 1e-3, 1e6))  # from a symbol to the next
    outside = np.sqrt(decay)  # of being another symbol than 0
    zero = 1 - outside
    # Beyond 0 a symbol is geometric: a sign, then how often the decay succeeds.
    tail = outside * (
        1
        - np.log2(np.maximum(outside, 1e-300))
        - np.log2(1 - decay)
        - decay / (1 - decay) * np.log2(np.maximum(decay, 1e-300))
    )
    bits = tail - np.where(zero > 0, zero * np.log2(np.maximum(zero, 1e-300)), 0)
    return float(bits.mean())
