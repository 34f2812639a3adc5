"""What all stores refuse: too large values, times to live that are none."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ctxpress.errors import ConfigError, StoreError

__all__ = ["StoreLimits"]

_MAX_TTL_S = 10 * 366 * 86_400.0  # ten years; servers refuse numbers that overflow theirs


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Bounds of every operation: seconds it may take, bytes a value may have.

    :raises ConfigError: a bound is not above zero.
    """

    timeout_s: float
    max_value_bytes: int

    def __post_init__(self) -> None:
        if not (self.timeout_s > 0 and math.isfinite(self.timeout_s)):
            raise ConfigError("a store's timeout_ms must be above zero")
        if self.max_value_bytes < 1:
            raise ConfigError("a store's max_value_bytes must be above zero")

    def check_value(self, value: bytes) -> None:
        """:raises StoreError: ``value`` is larger than the cap."""
        if len(value) > self.max_value_bytes:
            raise StoreError(
                f"a value of {len(value)} bytes is above the store's cap of "
                f"{self.max_value_bytes} bytes (max_value_bytes)"
            )

    def check_ttl(self, ttl_s: float) -> float:
        """``ttl_s``, at most ten years.

        :raises ValueError: it is not above zero.
        """
        if not ttl_s > 0:
            raise ValueError(f"ttl_s must be above zero, not {ttl_s}")
        return min(ttl_s, _MAX_TTL_S)
