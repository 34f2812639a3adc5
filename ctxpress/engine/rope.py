"""Rotary positions put on keys, taken off and moved, with the model's own angles, in float32.

Half-split rotary embedding (Su et al. 2021, in the layout of Llama): ``(x[i], x[i + d/2])`` turns
by ``position * inv_freq[i]``. Some rope types also scale what they rotate (``attention_scaling`` of
YaRN). That factor stays on un-rotated keys, so that rotating only ever turns: taking off, putting
on and moving are inverses of each other for every type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ctxpress.errors import ModelError

__all__ = ["RotaryAngles", "RotaryPositions"]

_MOVING_TYPES = "dynamic, longrope"


class RotaryPositions:
    """The rotary embedding of one model, for all its layers.

    ``module``: transformers' rotary module of the decoder. ``layer_types``: one entry a layer
    where the module has frequencies of its own for each type of layer, as in Gemma 3.

    :raises ModelError: the frequencies change with the length of the text, so that a key cannot
        be moved by itself.
    """

    def __init__(self, module: Any, n_layers: int, layer_types: Sequence[str] | None) -> None:
        self._module = module
        by_type = isinstance(module.rope_type, Mapping)
        if by_type and (layer_types is None or len(layer_types) != n_layers):
            raise ModelError("the model names no type of rotary embedding for each layer")
        self._types: tuple[str, ...] = tuple(layer_types or ()) if by_type else ("",) * n_layers
        self._rope_types: dict[str, str] = {
            name: module.rope_type[name] if by_type else module.rope_type
            for name in dict.fromkeys(self._types)
        }
        for rope_type in self._rope_types.values():
            if "dynamic" in rope_type or rope_type == "longrope":
                raise ModelError(
                    f"rope type {rope_type!r} has angles that change with the length of the text, "
                    f"so KV cannot be moved ({_MOVING_TYPES} are not supported)"
                )

    @property
    def head_dim(self) -> int:
        """How many dimensions of a head are rotated."""
        return 2 * int(self._frequencies(self._types[0]).numel())

    def describe(self) -> str:
        """All that decides the angles, in one line of printable ASCII, for identities."""
        parameters = self._module.config.rope_parameters
        by_type = {name: parameters[name] if name else parameters for name in self._rope_types}
        parts = [
            f"{name}{':' if name else ''}"
            + ",".join(f"{key}={_plain(value)}" for key, value in sorted(values.items()))
            for name, values in by_type.items()
        ]
        return f"{self.head_dim} dims;" + ";".join(parts)

    def at(self, positions: torch.Tensor) -> RotaryAngles:
        """The angles of ``positions`` ``(n_tokens,)``, to rotate one layer after the other by."""
        angles = {name: self._angles(name, positions) for name in self._rope_types}
        return RotaryAngles(tuple(angles[name] for name in self._types), positions.device)

    def rotate(
        self, keys: torch.Tensor, positions: torch.Tensor, layer: int | None = None
    ) -> torch.Tensor:
        """Keys at ``positions``, in float32.

        ``keys``: un-rotated, ``(n_layers, …, n_tokens, head_dim)``, or ``(…, n_tokens, head_dim)``
        of one ``layer``. ``positions``: ``(n_tokens,)``, integers.
        """
        return self._turn(keys, positions, layer, backwards=False)

    def unrotate(
        self, keys: torch.Tensor, positions: torch.Tensor, layer: int | None = None
    ) -> torch.Tensor:
        """Keys without their ``positions``, in float32; see :meth:`rotate`."""
        return self._turn(keys, positions, layer, backwards=True)

    def move(self, keys: torch.Tensor, by_tokens: int, layer: int | None = None) -> torch.Tensor:
        """Rotated keys ``by_tokens`` further on, or back where negative, in float32."""
        places = torch.full((1,), abs(by_tokens), device=keys.device)
        return self._turn(keys, places, layer, backwards=by_tokens < 0)

    def _turn(
        self, keys: torch.Tensor, positions: torch.Tensor, layer: int | None, *, backwards: bool
    ) -> torch.Tensor:
        if layer is not None:
            return _turned(keys, *self._angles(self._types[layer], positions), backwards)
        if keys.shape[0] != len(self._types):
            raise ValueError(f"keys of {keys.shape[0]} layers; the model has {len(self._types)}")
        angles = {name: self._angles(name, positions) for name in self._rope_types}
        turned = torch.empty(keys.shape, dtype=torch.float32, device=keys.device)
        for index, name in enumerate(self._types):
            turned[index] = _turned(keys[index], *angles[name], backwards)
        return turned

    def _angles(self, name: str, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines ``(n_tokens, head_dim)``, as the model computes them, unscaled."""
        like = torch.zeros(1, dtype=torch.float32, device=positions.device)
        options = {"layer_type": name} if name else {}
        cos, sin = self._module(like, positions[None].to(torch.int64), **options)
        scaling = self._scaling(name)
        return cos[0] / scaling, sin[0] / scaling

    def _frequencies(self, name: str) -> torch.Tensor:
        found: torch.Tensor = getattr(self._module, f"{name}_inv_freq" if name else "inv_freq")
        return found

    def _scaling(self, name: str) -> float:
        attribute = f"{name}_attention_scaling" if name else "attention_scaling"
        return float(getattr(self._module, attribute))


@dataclass(frozen=True, slots=True)
class RotaryAngles:
    """Cosines and sines of each layer at some positions, both ``(n_tokens, head_dim)``."""

    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    device: torch.device

    def rotate(self, keys: torch.Tensor, layer: int) -> torch.Tensor:
        """Un-rotated keys ``(…, n_tokens, head_dim)`` of a layer at these positions, in float32."""
        return _turned(keys, *self.layers[layer], backwards=False)


def _plain(value: object) -> str:
    """Whether a file says 10000 or 10000.0 makes no difference."""
    return f"{value:.9g}" if isinstance(value, int | float) else str(value)


def _turned(
    keys: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, backwards: bool
) -> torch.Tensor:
    first, second = keys.to(torch.float32).chunk(2, dim=-1)
    cos_first, cos_second = cos.chunk(2, dim=-1)
    sin_first, sin_second = sin.chunk(2, dim=-1)
    sign = -1.0 if backwards else 1.0
    if keys.requires_grad:
        turned = (
            torch.addcmul(first * cos_first, second, sin_first, value=-sign),
            torch.addcmul(second * cos_second, first, sin_second, value=sign),
        )
        return torch.cat(turned, dim=-1)
    # In halves and in place, several times faster: it is on the way to every first token.
    result = torch.empty(keys.shape, dtype=torch.float32, device=keys.device)
    out_first, out_second = result.chunk(2, dim=-1)
    torch.mul(first, cos_first, out=out_first).addcmul_(second, sin_first, value=-sign)
    torch.mul(second, cos_second, out=out_second).addcmul_(first, sin_second, value=sign)
    return result
