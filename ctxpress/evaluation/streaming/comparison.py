"""Runs all policies through the same requests and counts: late, lost, loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ctxpress.cache.streaming import (
    Caution,
    DecodeMeter,
    LinkMeter,
    PrefillMeter,
    StreamingController,
)
from ctxpress.evaluation.streaming.oracle import best_outcome
from ctxpress.evaluation.streaming.rules import Rule, RulePolicy, always, paper_rule, released_rule
from ctxpress.evaluation.streaming.setting import Setting
from ctxpress.evaluation.streaming.traces import TraceFactory
from ctxpress.evaluation.streaming.world import Outcome, World, run_policy

__all__ = ["CONTROLLER", "ORACLE", "PUBLISHED", "StreamingRow", "compare"]

ORACLE = "oracle"
CONTROLLER = "controller"
UNINSURED = "controller, stress 1"
RELEASED, PUBLISHED = "released rule", "published rule"
TEXT = "all text"
TIGHTENING = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)

Runner = Callable[[World], Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamingRow:
    """A policy on one kind of trace; ``slo_ms`` is ``None`` for all SLOs together.

    ``violations`` is a share; ``quality_loss`` the mean of relative perplexity lost.
    """

    trace: str
    policy: str
    slo_ms: float | None
    requests: int
    violations: float
    quality_loss: float
    ttft_ms: float
    transferred_bytes: float
    text_share: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def compare(
    setting: Setting,
    traces: Mapping[str, TraceFactory],
    slos_ms: Sequence[float],
    *,
    requests: int,
    seed: int,
    caution: Caution,
    on_request: Callable[[], None] = lambda: None,
) -> list[StreamingRow]:
    """A row for each kind of trace, policy and SLO, and one for all SLOs together.

    The rules are also run as if their SLO were tighter, until they are late no more often than
    the controller: of these the one with the least loss stands as ``…, as punctual``.
    """
    runners = _runners(setting, caution)
    rows = []
    for trace, factory in traces.items():
        outcomes: dict[str, dict[float, list[Outcome]]] = {
            name: {slo_ms: [] for slo_ms in slos_ms} for name in runners
        }
        for slo_ms in slos_ms:
            for number in range(seed, seed + requests):
                world = setting.world(trace, factory, slo_ms=slo_ms, seed=number)
                for name, run in runners.items():
                    outcomes[name][slo_ms].append(run(world))
                on_request()
        for name, found in _with_punctual(outcomes).items():
            everything = [one for row in found.values() for one in row]
            rows.append(_row(trace, name, None, everything))
            rows += [_row(trace, name, slo_ms, found[slo_ms]) for slo_ms in slos_ms]
    return rows


def _runners(setting: Setting, caution: Caution) -> dict[str, Runner]:
    runners: dict[str, Runner] = {
        ORACLE: best_outcome,
        CONTROLLER: lambda world: run_policy(world, _controller(setting, world, caution)),
    }
    if caution.stress > 1.0:
        bold = Caution(**{**asdict(caution), "stress": 1.0})
        runners[UNINSURED] = lambda world: run_policy(world, _controller(setting, world, bold))
    for name, rule in ((PUBLISHED, paper_rule), (RELEASED, released_rule)):
        runners[name] = _rule(setting, rule)
        for factor in TIGHTENING:
            runners[f"{name} x{factor}"] = _rule(setting, rule, factor)
    for row in setting.levels.rows:
        runners[f"always {row.codec}"] = _rule(setting, always(row.codec))
    runners[TEXT] = _rule(setting, always(""))
    return runners


def _controller(setting: Setting, world: World, caution: Caution) -> StreamingController:
    return StreamingController(
        world.chunks,
        slo_ms=world.slo_ms,
        now_ms=0.0,
        link=LinkMeter(prior_bytes_per_ms=setting.prior_bytes_per_ms),
        decode=DecodeMeter(default_ms_per_token=setting.decode_ms_per_token),
        prefill=PrefillMeter(setting.prefill),
        caution=caution,
    )


def _rule(setting: Setting, rule: Rule, factor: float = 1.0) -> Runner:
    lengths = setting.chunk_lengths
    prefill_ms = [
        setting.prefill.ms(length, sum(lengths[:index])) for index, length in enumerate(lengths)
    ]

    def run(world: World) -> Outcome:
        policy = RulePolicy(
            world.chunks,
            rule,
            slo_ms=factor * world.slo_ms,
            prior_bytes_per_ms=setting.prior_bytes_per_ms,
            prefill_ms=prefill_ms,
        )
        return run_policy(world, policy)

    return run


def _with_punctual(
    outcomes: dict[str, dict[float, list[Outcome]]],
) -> dict[str, dict[float, list[Outcome]]]:
    """Replace tightened rules by the best of those that are as punctual as the controller."""
    limit = _late(outcomes[CONTROLLER])
    found = {name: rows for name, rows in outcomes.items() if " x" not in name}
    for rule in (PUBLISHED, RELEASED):
        tight = [rows for name, rows in outcomes.items() if name.startswith(f"{rule} x")]
        punctual = [rows for rows in [found[rule], *tight] if _late(rows) <= limit]
        if punctual:
            found[f"{rule}, as punctual"] = min(punctual, key=_lost)
        else:
            found[f"{rule}, most punctual"] = min(
                [found[rule], *tight], key=lambda rows: (_late(rows), _lost(rows))
            )
    return found


def _late(rows: Mapping[float, Sequence[Outcome]]) -> float:
    return float(np.mean([one.violated for row in rows.values() for one in row]))


def _lost(rows: Mapping[float, Sequence[Outcome]]) -> float:
    return float(np.mean([one.quality_loss for row in rows.values() for one in row]))


def _row(
    trace: str, policy: str, slo_ms: float | None, outcomes: Sequence[Outcome]
) -> StreamingRow:
    return StreamingRow(
        trace=trace,
        policy=policy,
        slo_ms=slo_ms,
        requests=len(outcomes),
        violations=float(np.mean([one.violated for one in outcomes])),
        quality_loss=float(np.mean([one.quality_loss for one in outcomes])),
        ttft_ms=float(np.mean([one.ttft_ms for one in outcomes])),
        transferred_bytes=float(np.mean([one.transferred_bytes for one in outcomes])),
        text_share=float(np.mean([one.text_share for one in outcomes])),
    )
