"""Keys turned to their positions and written to their place in one pass, on the CPU.

The same operations as :meth:`RotaryAngles.rotate` and a copy, in float32, in one loop without the
interpreter's lock. For bfloat16, which numpy has not, bits are shifted and rounded to nearest even.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import carray, uint32

from ctxpress.cache.codecs.entropy.compiling import compiled
from ctxpress.cache.codecs.entropy.vectors import bits_of_float, float_of_bits, halves_at
from ctxpress.engine.rope import RotaryAngles

__all__ = ["can_place", "place_keys", "place_layer"]

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
    cosines, sines = np.ascontiguousarray(cos.numpy()), np.ascontiguousarray(sin.numpy())
    if keys.dtype != torch.bfloat16:
        for one, other in zip(keys, place, strict=True):
            _place_float32(one.contiguous().numpy(), cosines, sines, other.numpy())
        return
    if keys.shape != place.shape or not keys.shape[1:] == cos.shape == sin.shape:
        raise ValueError(f"keys of {tuple(keys.shape)} for a place of {tuple(place.shape)}")
    if place.stride(2) != 1:
        raise ValueError("a head's numbers must lie next to each other")
    keys = keys.contiguous()
    _place_bfloat16(
        keys.data_ptr(), keys.stride(0), keys.stride(1),
        place.data_ptr(), place.stride(0), place.stride(1),
        keys.shape[0], cosines, sines,
    )  # fmt: skip


def place_layer(
    pair: tuple[torch.Tensor, torch.Tensor],
    angles: RotaryAngles,
    layer: int,
    dtype: torch.dtype,
    room: tuple[torch.Tensor, torch.Tensor] | None,
    *,
    rotated: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of a layer as attention meets them, ``(n_kv_heads, n_tokens, head_dim)``.

    ``pair``: both as they were kept. Keys are turned to the positions of ``angles`` unless they are
    ``rotated`` already. They are written to ``room`` where there is one, else they are tensors of
    their own, of ``dtype``.
    """
    keys, values = (tensor.to(angles.device) for tensor in pair)
    if room is not None and not rotated and can_place(keys, room[0]):
        place_keys(keys, *angles.layers[layer], room[0])
        with torch.inference_mode():  # a forward pass may have made the buffers in that mode
            room[1].copy_(values)
        return room
    if not rotated:
        keys = angles.rotate(keys, layer)
    if room is None:
        return keys.to(dtype), values.to(dtype)
    with torch.inference_mode():
        return room[0].copy_(keys), room[1].copy_(values)


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
def _place_bfloat16(
    keys: int,
    key_head: int,
    key_token: int,
    place: int,
    place_head: int,
    place_token: int,
    n_heads: int,
    cos: np.ndarray,
    sin: np.ndarray,
) -> None:
    """``keys`` and ``place`` are addresses; strides are in numbers.

    Rows are taken one by one, so that the compiler sees how each lies.
    """
    n_tokens, head_dim = cos.shape
    half = head_dim // 2
    for head in range(n_heads):
        for token in range(n_tokens):
            start = keys + 2 * (head * key_head + token * key_token)
            source = carray(halves_at(start), (head_dim,))
            start = place + 2 * (head * place_head + token * place_token)
            target = carray(halves_at(start), (head_dim,))
            c, s = cos[token], sin[token]
            for dim in range(half):
                first = float_of_bits(uint32(source[dim]) << uint32(16))
                second = float_of_bits(uint32(source[half + dim]) << uint32(16))
                turned = second * s[dim]
                target[dim] = _rounded(first * c[dim] - turned)
                turned = first * s[half + dim]
                target[half + dim] = _rounded(second * c[half + dim] + turned)


@compiled
def _rounded(number: float) -> int:
    """The bits of the nearest bfloat16, ties to even."""
    raw = bits_of_float(number)
    rounded = (raw + uint32(0x7FFF) + ((raw >> uint32(16)) & uint32(1))) >> uint32(16)
    is_nan = (raw & uint32(0x7FFFFFFF)) > uint32(0x7F800000)
    bits: int = uint32(_QUIET) if is_nan else uint32(rounded)
    return bits
