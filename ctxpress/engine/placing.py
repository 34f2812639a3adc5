"""Keys turned to their positions and written to their place in one pass, on the CPU.

The same operations as :meth:`RotaryAngles.rotate` and a copy, in float32, in one loop without the
interpreter's lock. For bfloat16, which numpy has not, bits are shifted and rounded to nearest even.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import float32, uint32

from ctxpress.cache.codecs.entropy.compiling import compiled
from ctxpress.engine.rope import RotaryAngles

__all__ = ["can_place", "place_keys", "placed_keys"]

_QUIET = uint32(0x7FC0)


def can_place(keys: torch.Tensor, place: torch.Tensor) -> bool:
    """Whether :func:`place_keys` knows these tensors: on the CPU, both bfloat16 or float32."""
    known = (torch.bfloat16, torch.float32)
    return keys.dtype == place.dtype and keys.dtype in known and keys.device.type == "cpu"


def place_keys(
    keys: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, place: torch.Tensor
) -> None:
    """Write ``keys``, un-rotated ``(n_kv_heads, n_tokens, head_dim)``, rotated into ``place``.

    ``cos``, ``sin``: ``(n_tokens, head_dim)``, float32. ``place`` may have any strides between
    heads and tokens.
    """
    angles = np.ascontiguousarray(cos.numpy()), np.ascontiguousarray(sin.numpy())
    halves = keys.dtype == torch.bfloat16
    for one, other in zip(keys, place, strict=True):
        if halves:
            _place_bfloat16(_bits(one), *angles, _bits(other))
        else:
            _place_float32(one.contiguous().numpy(), *angles, other.numpy())


def placed_keys(keys: torch.Tensor, angles: RotaryAngles, dtype: torch.dtype) -> torch.Tensor:
    """Un-rotated keys ``(n_layers, n_kv_heads, n_tokens, head_dim)``, rotated, in ``dtype``.

    Bit by bit what :func:`place_keys` gives where that is used for single layers.
    """
    place = torch.empty(keys.shape, dtype=dtype, device=keys.device)
    for layer, (one, other) in enumerate(zip(keys, place, strict=True)):
        if can_place(one, other):
            place_keys(one, *angles.layers[layer], other)
        else:
            other.copy_(angles.rotate(one, layer))
    return place


def _bits(tensor: torch.Tensor) -> np.ndarray:
    found: np.ndarray = tensor.contiguous().view(torch.int16).numpy().view(np.uint16)
    return found


@compiled
def _place_float32(keys: np.ndarray, cos: np.ndarray, sin: np.ndarray, place: np.ndarray) -> None:
    n_tokens, head_dim = keys.shape
    half = head_dim // 2
    for token in range(n_tokens):
        for dim in range(half):
            first, second = keys[token, dim], keys[token, half + dim]
            turned = second * sin[token, dim]
            place[token, dim] = first * cos[token, dim] - turned
            turned = first * sin[token, half + dim]
            place[token, half + dim] = second * cos[token, half + dim] + turned


@compiled
def _place_bfloat16(keys: np.ndarray, cos: np.ndarray, sin: np.ndarray, place: np.ndarray) -> None:
    n_tokens, head_dim = keys.shape
    half = head_dim // 2
    wide = np.empty(head_dim, np.uint32)
    values = wide.view(np.float32)
    turned = np.empty(head_dim, np.float32)
    bits = turned.view(np.uint32)
    for token in range(n_tokens):
        for dim in range(head_dim):
            wide[dim] = uint32(keys[token, dim]) << uint32(16)
        for dim in range(half):
            part = float32(values[half + dim] * sin[token, dim])
            turned[dim] = values[dim] * cos[token, dim] - part
            part = float32(values[dim] * sin[token, half + dim])
            turned[half + dim] = values[half + dim] * cos[token, half + dim] + part
        for dim in range(head_dim):
            raw = bits[dim]
            rounded = (raw + uint32(0x7FFF) + ((raw >> uint32(16)) & uint32(1))) >> uint32(16)
            is_nan = (raw & uint32(0x7FFFFFFF)) > uint32(0x7F800000)
            place[token, dim] = _QUIET if is_nan else rounded
