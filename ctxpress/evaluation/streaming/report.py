"""What was simulated as tables, and as a picture of lateness against quality lost."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ctxpress.evaluation.plots import drawing
from ctxpress.evaluation.streaming.comparison import CONTROLLER, ORACLE, StreamingRow

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = ["plot_streaming", "streaming_tables"]

_PANEL_INCHES = (5.2, 4.0)
_STYLES = (
    ("#0072B2", "D"), ("#CC79A7", "v"), ("#E69F00", "^"), ("#009E73", "P"), ("#56B4E9", "X"),
    ("#999999", "<"), ("#777777", ">"), ("#555555", "h"), ("#333333", "p"), ("#000000", "x"),
)  # fmt: skip


def streaming_tables(rows: Sequence[StreamingRow]) -> str:
    """All SLOs together, a table a kind of trace; then the controller by SLO, beside the oracle."""
    parts = []
    for trace in dict.fromkeys(row.trace for row in rows):
        own = [row for row in rows if row.trace == trace]
        together = [row for row in own if row.slo_ms is None]
        header = ["policy", "late", "quality loss", "mean TTFT", "loaded", "recomputed"]
        lines = [_line(header), "|" + "---|" * len(header)]
        lines += [_line([_named(row.policy), *_cells(row)]) for row in together]
        parts.append(
            f"**Trace `{trace}`**, {together[0].requests:,} requests\n\n" + "\n".join(lines)
        )
    parts.append("**By SLO**\n\n" + _by_slo(rows))
    return "\n\n".join(parts)


def plot_streaming(rows: Sequence[StreamingRow], path: Path) -> None:
    """Late requests against quality lost, a panel a kind of trace, a point a policy.

    :raises ValueError: there are no rows.
    :raises ConfigError, MissingDependencyError: see :func:`ctxpress.evaluation.plots.drawing`.
    :raises OSError: the file cannot be written.
    """
    together = [row for row in rows if row.slo_ms is None]
    if not together:
        raise ValueError("there is nothing to draw")
    traces = list(dict.fromkeys(row.trace for row in together))
    policies = [name for name in dict.fromkeys(row.policy for row in together) if name != ORACLE]
    width = min(2, len(traces))
    height = -(-len(traces) // width)
    with drawing(path, (_PANEL_INCHES[0] * width, _PANEL_INCHES[1] * height + 0.8)) as figure:
        panels = figure.subplots(height, width, squeeze=False).flatten()
        handles: dict[str, Artist] = {}
        for trace, axes in itertools.zip_longest(traces, panels):
            if trace is None:
                axes.set_axis_off()
                continue
            _panel(axes, [row for row in together if row.trace == trace], policies)
            drawn, labels = axes.get_legend_handles_labels()
            handles.update(zip(labels, drawn, strict=True))
        figure.legend(
            list(handles.values()), list(handles),
            loc="outside lower center", ncols=3, frameon=False, fontsize=9.5,
        )  # fmt: skip


def _panel(axes: Axes, rows: Sequence[StreamingRow], policies: Sequence[str]) -> None:
    for row in rows:
        colour, marker = (
            ("#D55E00", "*")
            if row.policy == ORACLE
            else _STYLES[policies.index(row.policy) % len(_STYLES)]
        )
        size = {ORACLE: 240, CONTROLLER: 110}.get(row.policy, 60)
        axes.scatter(
            [100 * row.quality_loss], [100 * row.violations],
            color=colour, marker=marker, s=size, label=row.policy, zorder=3, clip_on=False,
        )  # fmt: skip
    axes.set_title(f"trace {rows[0].trace}", fontsize=12)
    axes.set_xlabel("quality loss (% of perplexity)")
    axes.set_ylabel("requests later than their SLO (%)")
    axes.set_ylim(0, 105)
    axes.set_xlim(left=0)
    axes.grid(True, color="#DDDDDD", linewidth=0.7)


def _by_slo(rows: Sequence[StreamingRow]) -> str:
    slos = list(dict.fromkeys(row.slo_ms for row in rows if row.slo_ms is not None))
    header = ["trace", *(f"{slo_ms:,.0f} ms" for slo_ms in slos)]
    lines = [_line(header), "|" + "---|" * len(header)]
    for trace in dict.fromkeys(row.trace for row in rows):
        cells = [f"`{trace}`"]
        for slo_ms in slos:
            found = {row.policy: row for row in rows if row.trace == trace and row.slo_ms == slo_ms}
            own, best = found[CONTROLLER], found[ORACLE]
            cells.append(
                f"{100 * own.violations:.1f} % late (oracle {100 * best.violations:.1f}), "
                f"{100 * own.quality_loss:.2f} % lost ({100 * best.quality_loss:.2f})"
            )
        lines.append(_line(cells))
    return "\n".join(lines)


def _cells(row: StreamingRow) -> list[str]:
    return [
        f"{100 * row.violations:.1f} %",
        f"{100 * row.quality_loss:.3f} %",
        f"{row.ttft_ms:,.0f} ms",
        f"{row.transferred_bytes / 1e6:,.0f} MB",
        f"{100 * row.text_share:.0f} %",
    ]


def _named(policy: str) -> str:
    return f"**{policy}**" if policy == CONTROLLER else policy


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
