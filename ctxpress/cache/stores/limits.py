"""What all stores refuse: too large values, times to live that are none."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ctxpress.errors import ConfigError, StoreError

__all__ = ["StoreLimits"]

DEFAULT_MIN_BYTES_PER_S = 16.0 * 2**20  # an eighth of a gigabit a second
_MAX_TTL_S = 10 * 366 * 86_400.0  # ten years; servers refuse numbers that overflow theirs


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Bounds of every operation: seconds it may take, bytes a value may have.

    What moves many bytes may take longer than ``timeout_s`` by what they need at
    ``min_bytes_per_s``: small values fail as fast as ever, and large ones are not cut off.

    :raises ConfigError: a bound is not above zero.
    """

    timeout_s: float
    max_value_bytes: int
    min_bytes_per_s: float = DEFAULT_MIN_BYTES_PER_S

    def __post_init__(self) -> None:
        if not (self.timeout_s > 0 and math.isfinite(self.timeout_s)):
            raise ConfigError("a store's timeout_ms must be above zero")
        if self.max_value_bytes < 1:
            raise ConfigError("a store's max_value_bytes must be above zero")
        if not self.min_bytes_per_s > 0:
            raise ConfigError("a store's min_bytes_per_s must be above zero")

    def wait_s(self, size_bytes: int) -> float:
        """How many seconds an operation that moves ``size_bytes`` may take."""
        return self.timeout_s + size_bytes / self.min_bytes_per_s

    def check_value(self, value: bytes) -> None:
        """:raises StoreError: ``value`` is larger than the cap."""
        self.check_size(len(value))

    def check_size(self, size_bytes: int) -> None:
        """:raises StoreError: a value of ``size_bytes`` is larger than the cap."""
        if size_bytes > self.max_value_bytes:
            raise StoreError(
                f"a value of {size_bytes} bytes is above the store's cap of "
                f"{self.max_value_bytes} bytes (max_value_bytes)"
            )

    def check_range(self, start: int, size_bytes: int) -> None:
        """:raises ValueError: not a range of a value that this store may hold."""
        if start < 0 or size_bytes < 1:
            raise ValueError(f"not a range: {size_bytes} bytes from byte {start}")

    def check_ttl(self, ttl_s: float) -> float:
        """``ttl_s``, at most ten years.

        :raises ValueError: it is not above zero.
        """
        if not ttl_s > 0:
            raise ValueError(f"ttl_s must be above zero, not {ttl_s}")
        return min(ttl_s, _MAX_TTL_S)
