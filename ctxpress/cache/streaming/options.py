"""What can be done for each chunk of a context: load its KV at some level, or recompute it."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["ChunkOptions", "LevelOption", "check_number"]


def check_number(name: str, value: float, *, least: float = 0.0) -> float:
    """``value`` as a float.

    :raises ValueError: it is no finite number of at least ``least``; the message says which.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number, not {value!r}")
    if not (math.isfinite(value) and value >= least):
        raise ValueError(f"{name} must be finite and at least {least:g}, not {value!r}")
    return float(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelOption:
    """A chunk's KV at one level of compression, as a store holds it.

    ``level``: the codec's name, or the caller's. ``size_bytes``: of the container.
    ``quality_loss``: the relative rise of perplexity that the level costs, measured; a fraction.

    :raises ValueError: the name is empty, or a number is not finite and at least zero.
    """

    level: str
    size_bytes: int
    quality_loss: float

    def __post_init__(self) -> None:
        if not self.level:
            raise ValueError("a level needs a name")
        check_number(f"level {self.level!r}: size_bytes", self.size_bytes)
        check_number(f"level {self.level!r}: quality_loss", self.quality_loss)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkOptions:
    """One chunk: its length and the levels that are stored. Text can always be recomputed.

    ``levels`` may be empty: a chunk that no store holds is recomputed. Recomputing loses nothing
    and takes nothing from the link, since text travels with the request.

    :raises ValueError: ``n_tokens`` is below one, or two levels have one name.
    """

    n_tokens: int
    levels: tuple[LevelOption, ...] = ()

    def __post_init__(self) -> None:
        check_number("n_tokens", self.n_tokens, least=1)
        names = [option.level for option in self.levels]
        if len(set(names)) != len(names):
            raise ValueError(f"a chunk's levels must have different names, not {names}")
