"""What codecs cost as a table, and as a picture of size against perplexity lost."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ctxpress.evaluation.kv_quality import KVMeasure
from ctxpress.evaluation.plots import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["kv_table", "plot_kv_quality"]

_INCHES = (11.5, 4.8)
_LEAST_DIVERGENCE = 1e-7  # what a logarithmic axis shows of none
_FAMILY = re.compile(r"^[a-z]+")
_STYLES = (
    ("#0072B2", "o", "-"), ("#D55E00", "s", "-"), ("#009E73", "D", "-."), ("#E69F00", "v", "--"),
    ("#CC79A7", "^", ":"), ("#56B4E9", "P", "-"), ("#666666", "x", ":"),
)  # fmt: skip


def kv_table(measures: Sequence[KVMeasure]) -> str:
    """A line a codec: bits, how much smaller, perplexity, divergence, accuracy by kind."""
    kinds = list(dict.fromkeys(kind for measure in measures for kind in measure.correct))
    header = ["codec", "bits/value", "vs fp16", "vs int8"]
    if measures[0].loss_nats:
        header += ["perplexity", "change", "95 % interval", "KL, nats"]
    header += [kind.replace("_", " ") for kind in kinds]
    if kinds:
        header.append("points")
    lines = [_line(header), "|" + "---|" * len(header)]
    lines += [_line(_cells(measure, kinds)) for measure in measures]
    return "\n".join(lines)


def plot_kv_quality(measures: Sequence[KVMeasure], path: Path) -> None:
    """Perplexity lost, and divergence, against bits a value; a line a family, a point a level.

    :raises ValueError: nothing was stored, or no perplexity was measured.
    :raises ConfigError, MissingDependencyError: see :func:`ctxpress.evaluation.plots.drawing`.
    :raises OSError: the file cannot be written.
    """
    stored = [measure for measure in measures if measure.n_values and measure.loss_nats]
    if not stored:
        raise ValueError("there is nothing to draw")
    families: dict[str, list[KVMeasure]] = {}
    for measure in sorted(stored, key=lambda measure: measure.bits_per_value):
        found = _FAMILY.match(measure.name)
        families.setdefault(found[0] if found else measure.name, []).append(measure)
    with drawing(path, _INCHES) as figure:
        losses, divergences = figure.subplots(1, 2)
        for number, (family, own) in enumerate(families.items()):
            _draw(losses, own, family, _STYLES[number % len(_STYLES)], divergence=False)
            _draw(divergences, own, family, _STYLES[number % len(_STYLES)], divergence=True)
        losses.axhline(1.0, color="#444444", linewidth=1, linestyle="--")
        losses.set_yscale("symlog", linthresh=0.1)
        losses.yaxis.set_major_formatter("{x:g}")
        losses.set_ylabel("perplexity more than with KV as computed (%)")
        divergences.set_yscale("log")
        divergences.set_ylabel("divergence of the next token's distribution (nats)")
        for axes in (losses, divergences):
            axes.set_xscale("log", base=2)
            axes.set_xlabel("bits a value, everything included (log scale)")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.grid(True, color="#DDDDDD", linewidth=0.7)
            axes.margins(x=0.12, y=0.12)
        handles, labels = losses.get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=len(families), frameon=False
        )


def _draw(
    axes: Axes,
    own: Sequence[KVMeasure],
    family: str,
    style: tuple[str, str, str],
    *,
    divergence: bool,
) -> None:
    """One family of codecs as a line; levels are named at divergences, which lie further apart."""
    colour, marker, line = style
    bits = [measure.bits_per_value for measure in own]
    if not divergence:
        losses = [100 * measure.perplexity_change for measure in own]
        ends = [measure.perplexity_interval for measure in own]
        below = [max(0.0, at - 100 * end.low) for at, end in zip(losses, ends, strict=True)]
        above = [max(0.0, 100 * end.high - at) for at, end in zip(losses, ends, strict=True)]
        axes.errorbar(
            bits, losses, yerr=(below, above), color=colour, marker=marker, linestyle=line,
            markersize=6, linewidth=1.6, capsize=3, label=family,
        )  # fmt: skip
        return
    seen = [max(measure.kl, _LEAST_DIVERGENCE) for measure in own]
    axes.plot(bits, seen, color=colour, marker=marker, linestyle=line, markersize=6, linewidth=1.6)
    named: list[float] = []
    for measure, at in zip(own, seen, strict=True):
        # A default level and the one that it stands for are one point.
        if not any(math.isclose(measure.bits_per_value, other, rel_tol=0.01) for other in named):
            named.append(measure.bits_per_value)
            axes.annotate(
                measure.name.removeprefix(family).lstrip("-") or family,
                (measure.bits_per_value, at), xytext=(6, 5), textcoords="offset points", fontsize=9,
            )  # fmt: skip


def _cells(measure: KVMeasure, kinds: Sequence[str]) -> list[str]:
    cells = [measure.name]
    if measure.n_values:
        bits = measure.bits_per_value
        cells += [f"{bits:.3f}", f"{16 / bits:.2f}x", f"{8 / bits:.2f}x"]
    else:
        cells += ["", "", ""]
    if measure.loss_nats:
        low, high = measure.perplexity_interval
        cells += [
            f"{measure.perplexity:.3f}",
            f"{_percent(measure.perplexity_change)} %",
            f"{_percent(low)} to {_percent(high)}",
            f"{measure.kl:.5f}",
        ]
    cells += [f"{measure.accuracy(kind):.3f}" for kind in kinds]
    if kinds:
        cells.append(f"{measure.accuracy_change():+.1f}")
    return cells


def _percent(share: float) -> str:
    """Signed, and never minus zero."""
    return f"{round(100 * share, 2) + 0.0:+.2f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
