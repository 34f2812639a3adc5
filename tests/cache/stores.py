"""The table of stores that every conformance test runs over: one line makes a new one pass all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.redis_server import RedisServer

# A generous time-out: tests share their cores with whatever else runs.
PATIENT = "timeout_ms=5000"

URLS: dict[str, Callable[[Path, Callable[[], RedisServer]], str]] = {
    "memory": lambda folder, redis: f"memory://?{PATIENT}",
    "disk": lambda folder, redis: f"disk://{folder}/store?{PATIENT}",
    "redis": lambda folder, redis: f"{redis().url}?{PATIENT}",
    "unix": lambda folder, redis: f"{redis().unix_url}?{PATIENT}",
}
SHARED = ("disk", "redis", "unix")
