"""What codecs cost as a table, and as a picture of size against perplexity lost."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ctxpress.evaluation.kv_quality import KVMeasure
from ctxpress.evaluation.plots import drawing

__all__ = ["kv_table", "plot_kv_quality"]

_INCHES = (7.6, 4.8)
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
    """Perplexity lost against bits a value; a line a family of codecs, a point a level.

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
        axes = figure.subplots()
        for number, (family, own) in enumerate(families.items()):
            colour, marker, style = _STYLES[number % len(_STYLES)]
            bits = [measure.bits_per_value for measure in own]
            losses = [100 * measure.perplexity_change for measure in own]
            ends = [measure.perplexity_interval for measure in own]
            below = [max(0.0, at - 100 * end.low) for at, end in zip(losses, ends, strict=True)]
            above = [max(0.0, 100 * end.high - at) for at, end in zip(losses, ends, strict=True)]
            axes.errorbar(
                bits, losses, yerr=(below, above), color=colour, marker=marker, linestyle=style,
                markersize=7, linewidth=1.8, capsize=3, label=family,
            )  # fmt: skip
            named: dict[
                tuple[float, float], KVMeasure
            ] = {}  # a default level and the one that it stands for are one point
            for measure, loss in zip(own, losses, strict=True):
                named.setdefault((measure.bits_per_value, loss), measure)
            for (_, loss), measure in named.items():
                axes.annotate(
                    measure.name, (measure.bits_per_value, loss), xytext=(5, 6),
                    textcoords="offset points", fontsize=8.5,
                )  # fmt: skip
        axes.axhline(1.0, color="#444444", linewidth=1, linestyle="--")
        axes.annotate(
            "1 %", (1.0, 1.0), xycoords=("axes fraction", "data"), xytext=(-4, 4),
            textcoords="offset points", ha="right", fontsize=9,
        )  # fmt: skip
        axes.set_yscale("symlog", linthresh=0.1)
        axes.set_xscale("log", base=2)
        axes.set_xlabel("bits a value, everything included (log scale)")
        axes.set_ylabel("perplexity more than with KV as computed (%)")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(True, color="#DDDDDD", linewidth=0.7)
        figure.legend(loc="outside lower center", ncols=len(families), frameon=False)


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
