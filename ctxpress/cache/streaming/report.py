"""What became of each chunk, beside what was planned for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["TEXT_NAME", "ChunkReport", "StreamingReport"]

TEXT_NAME = "text"


@dataclass(slots=True, kw_only=True)
class ChunkReport:
    """One chunk. Times are milliseconds; ``None`` where that did not happen.

    ``first_planned`` and ``done`` are level names or ``text``. ``abandoned`` names levels whose
    transfer was given up for something quicker, ``failed`` what went wrong with others.
    """

    n_tokens: int
    first_planned: str = TEXT_NAME
    done: str = ""
    quality_loss: float = 0.0
    transferred_bytes: int = 0
    wasted_bytes: int = 0
    transfer_ms: float | None = None
    predicted_transfer_ms: float | None = None
    decode_ms: float | None = None
    predicted_decode_ms: float | None = None
    prefill_ms: float | None = None
    predicted_prefill_ms: float | None = None
    abandoned: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class StreamingReport:
    """One context: its objective, what was predicted, what came of it.

    ``predicted_ms`` is from the start to the context in place, by the first plan, ``actual_ms``
    what it was; both without what comes after, such as the prefill of the question.
    """

    slo_ms: float
    predicted_ms: float = 0.0
    predicted_loss: float = 0.0
    actual_ms: float = 0.0
    plans: int = 0
    chunks: list[ChunkReport] = field(default_factory=list)

    @property
    def met(self) -> bool:
        """Whether the context was in place in time."""
        return self.actual_ms <= self.slo_ms

    @property
    def quality_loss(self) -> float:
        """The mean over tokens."""
        tokens = sum(chunk.n_tokens for chunk in self.chunks)
        total = sum(chunk.n_tokens * chunk.quality_loss for chunk in self.chunks)
        return total / tokens if tokens else 0.0

    @property
    def transferred_bytes(self) -> int:
        """Everything that came over the link, what was thrown away included."""
        return sum(chunk.transferred_bytes + chunk.wasted_bytes for chunk in self.chunks)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            **asdict(self),
            "met": self.met,
            "quality_loss": self.quality_loss,
            "transferred_bytes": self.transferred_bytes,
        }
