"""The report: what was done to one request, and why not more (law 5)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from ctxpress.stage import Skip, StageReport

__all__ = ["DocumentReport", "Report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentReport:
    """What became of one document of the newest turn.

    ``pointer`` leads to the text or the array element that holds it. ``reason`` names the stage
    that dropped it, and why.
    """

    pointer: str
    id: str
    state: Literal["kept", "shortened", "dropped"]
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One per request: it feeds response headers, the log line and metrics.

    ``tokens_before`` and ``tokens_after`` count all text of the request in the target model's
    tokenizer; ``estimated`` says that they are calibrated estimates. In mode ``observe``
    ``tokens_after`` is what would have been sent, ``applied`` is ``False`` and the body went
    untouched. ``documents`` accounts for every document that stages could see. ``skipped`` is
    ``None`` when something was compressed. ``cache_risk_blocks`` counts blocks of earlier turns
    whose outcome the store no longer held.
    """

    pipeline: str | None
    tokens_before: int = 0
    tokens_after: int = 0
    estimated: bool = True
    counter: str = ""
    applied: bool = False
    elapsed_ms: float = 0.0
    stages: tuple[StageReport, ...] = ()
    skipped: Skip | None = None
    reason: str | None = None
    blocks: int = 0
    blocks_compressed: int = 0
    blocks_remembered: int = 0
    cache_risk_blocks: int = 0
    protected_tokens: int = 0
    documents: tuple[DocumentReport, ...] = ()

    @property
    def tokens_saved(self) -> int:
        """Tokens that are not sent (or would not be, in mode ``observe``)."""
        return self.tokens_before - self.tokens_after

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return {**asdict(self), "tokens_saved": self.tokens_saved}
