"""Loading KV or computing it again, whichever puts a context in place sooner.

A fast model on a fast device next to a slow store is better off computing. So what is stored is
weighed each time: the bytes against the link as measured, decoding against the tokens, both beside
what computing takes here, by the planner of ``ctxpress.cache.streaming``. Link, decoder and model
work side by side, so often the best is a mix of both.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from ctxpress.cache.streaming.link import LinkMeter
from ctxpress.cache.streaming.planner import solve
from ctxpress.cache.streaming.rates import DecodeMeter, PrefillMeter, PrefillModel
from ctxpress.cache.streaming.schedule import TEXT, Problem, finish_ms

__all__ = ["LoadDecision", "LoadPolicy", "StoredRun"]

# Guesses that the first measurements replace. They favour loading: what was stored was once worth
# computing, and a load that turns out slow is measured at once.
_LINK_BYTES_PER_MS = 125_000.0  # 1 Gbit/s
_DECODE_MS_PER_TOKEN = 0.005
_PREFILL = PrefillModel(fixed_ms=10.0, ms_per_token=1.0, ms_per_token_pair=1e-5)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run of tokens that can be computed behind ``context_tokens``, or loaded.

    ``size_bytes``: of its container; None where no store has it.
    """

    n_tokens: int
    context_tokens: int
    size_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadDecision:
    """Which runs to load, and until when all would be in place: so, loading all, computing all."""

    load: tuple[bool, ...]
    expected_ms: float
    load_ms: float
    compute_ms: float


class LoadPolicy:
    """Measures, and decides by what was measured. Safe from any thread."""

    def __init__(
        self,
        *,
        link: LinkMeter | None = None,
        decode: DecodeMeter | None = None,
        prefill: PrefillMeter | None = None,
    ) -> None:
        self._link = link or LinkMeter(prior_bytes_per_ms=_LINK_BYTES_PER_MS)
        self._decode = decode or DecodeMeter(default_ms_per_token=_DECODE_MS_PER_TOKEN)
        self._prefill = prefill or PrefillMeter(_PREFILL)
        self._lock = threading.Lock()

    def decide(self, level: str, runs: Sequence[StoredRun]) -> LoadDecision:
        """What puts all ``runs`` in place soonest; KV of ``level`` is stored."""
        with self._lock:
            problem = self._problem(level, runs)
            choices = solve(problem).choices
            stored = any(run.size_bytes is not None for run in runs)
            if stored and all(choice == TEXT for choice in choices):
                self._link.age()  # a link that was slow once is tried again some day
        return LoadDecision(
            load=tuple(choice != TEXT for choice in choices),
            expected_ms=finish_ms(problem, choices),
            load_ms=finish_ms(problem, problem.fastest),
            compute_ms=finish_ms(problem, [TEXT] * len(problem)),
        )

    def transferred(self, n_bytes: int, ms: float) -> None:
        """Runs that were loaded together were ``n_bytes``, and the last byte came after ``ms``."""
        with self._lock:
            self._link.observe(n_bytes, ms)

    def decoded(self, level: str, n_tokens: int, ms: float) -> None:
        """Decoding a run of ``n_tokens`` took ``ms``."""
        with self._lock:
            self._decode.observe(level, n_tokens, ms)

    def computed(self, n_tokens: int, context_tokens: int, ms: float) -> None:
        """Computing ``n_tokens`` behind ``context_tokens`` took ``ms``."""
        with self._lock:
            self._prefill.observe(n_tokens, context_tokens, ms)

    def _problem(self, level: str, runs: Sequence[StoredRun]) -> Problem:
        n_stored = sum(run.size_bytes is not None for run in runs)
        rate = self._link.estimate().over(n_stored)
        decode_ms = self._decode.ms_per_token(level)
        model = self._prefill.model
        return Problem(
            link_ms=0.0,
            decoder_ms=0.0,
            compute_ms=0.0,
            deadline_ms=0.0,  # nothing can be done by then, so the quickest plan is asked for
            prefills=[model.ms(run.n_tokens, run.context_tokens) for run in runs],
            transfers=[
                [] if run.size_bytes is None else [run.size_bytes / rate if rate else math.inf]
                for run in runs
            ],
            decodes=[[] if run.size_bytes is None else [decode_ms * run.n_tokens] for run in runs],
            losses=[[] if run.size_bytes is None else [0.0] for run in runs],
            ready=[None] * len(runs),
        )
