"""Pictures of what was measured: quality against keep ratio, quality against speed.

Colours are those of Okabe and Ito, which stay apart for colour-blind readers; markers and line
styles differ as well, so that nothing depends on colour. Files are the same for the same rows.
matplotlib is imported when a picture is drawn; its global state (pyplot) is never touched.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ctxpress.errors import ConfigError, MissingDependencyError
from ctxpress.evaluation.retrieval import RetrievalRow
from ctxpress.evaluation.runner import Row
from ctxpress.evaluation.tables import TITLES
from ctxpress.evaluation.variants import Variant

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["drawing", "plot_quality", "plot_retrieval", "plot_variants", "require_matplotlib"]

SUFFIXES = (".svg", ".png")
PANEL_INCHES = (5.2, 4.0)
SINGLE_INCHES = (7.6, 4.6)
DPI = 150

# Colour, marker, line style.
_PIPELINE_STYLES = {"hidden": ("#0072B2", "o", "-"), "shown": ("#D55E00", "s", "-")}
_BASELINE_STYLES = (("#666666", "^", ":"), ("#E69F00", "v", "--"), ("#009E73", "D", "-."))
_RATIO_STYLES = (("#0072B2", "o"), ("#E69F00", "s"), ("#009E73", "^"), ("#CC79A7", "D"))


def require_matplotlib(path: Path) -> None:
    """Check that a picture can be drawn and that `path` names a form that can be written.

    :raises MissingDependencyError: with the command that installs what is missing.
    :raises ConfigError: the name ends neither in .svg nor in .png.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{path}: a picture's name ends in {' or '.join(SUFFIXES)}")
    try:
        import matplotlib  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise MissingDependencyError(
            f"pictures need the package {error.name!r}: pip install 'ctxpress[eval]'"
        ) from error


def plot_quality(rows: Sequence[Row], path: Path) -> None:
    """Score against tokens kept: a panel a set, a line a compressor and view of the question.

    Bands are 95 % intervals, short bars are targets.

    :raises ValueError: there are no rows.
    :raises ConfigError, MissingDependencyError: see :func:`require_matplotlib`.
    :raises OSError: the file cannot be written.
    """
    if not rows:
        raise ValueError("there is nothing to draw")
    names = list(dict.fromkeys(row.set for row in rows))
    columns = min(2, len(names))  # more would be too small to read in a page
    lines = math.ceil(len(names) / columns)
    width, height = SINGLE_INCHES if len(names) == 1 else PANEL_INCHES
    with drawing(path, (width * columns, height * lines)) as figure:
        panels = figure.subplots(lines, columns, squeeze=False).flatten()
        handles: dict[str, Artist] = {}
        for name, axes in itertools.zip_longest(names, panels):
            if name is None:
                axes.set_axis_off()
                continue
            _quality_panel(axes, [row for row in rows if row.set == name])
            drawn, labels = axes.get_legend_handles_labels()
            handles.update(zip(labels, drawn, strict=True))
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="outside lower center",
            ncols=3,
            frameon=False,
        )


def plot_variants(variants: Sequence[Variant], path: Path) -> None:
    """Answer survival against tokens a second, a point a model variant and keep ratio.

    :raises ValueError: there are no variants.
    :raises ConfigError, MissingDependencyError: see :func:`require_matplotlib`.
    :raises OSError: the file cannot be written.
    """
    if not variants:
        raise ValueError("there is nothing to draw")
    ratios = sorted({ratio for variant in variants for ratio in variant.survival}, reverse=True)
    with drawing(path, SINGLE_INCHES) as figure:
        axes = figure.subplots()
        ordered = sorted(variants, key=lambda variant: variant.tokens_per_second)
        for number, ratio in enumerate(ratios):
            colour, marker = _RATIO_STYLES[number % len(_RATIO_STYLES)]
            points = [
                (variant.tokens_per_second, 100 * variant.survival[ratio])
                for variant in ordered
                if ratio in variant.survival
            ]
            axes.plot(
                *zip(*points, strict=True),
                color=colour, marker=marker, markersize=8, linewidth=1, linestyle=":",
                label=f"{100 * ratio:.0f} % of tokens kept",
            )  # fmt: skip
        for number, variant in enumerate(ordered):
            above = number % 2 == 0  # names of neighbours must not lie over each other
            best = max(variant.survival.values()) if above else min(variant.survival.values())
            axes.annotate(
                f"{variant.name}\n{variant.layers} layers",
                (variant.tokens_per_second, 100 * best),
                xytext=(0, 9 if above else -9), textcoords="offset points",
                ha="center", va="bottom" if above else "top", fontsize=9,
            )  # fmt: skip
        _speed_axis(axes, [variant.tokens_per_second for variant in variants])
        axes.set_ylabel("questions whose answer survives (%)")
        _percent_axis(axes)
        axes.margins(y=0.2)
        figure.legend(loc="outside lower center", ncols=len(ratios), frameon=False)


def plot_retrieval(rows: Sequence[RetrievalRow], path: Path) -> None:
    """Answers that survive against tokens kept, a line a scorer; short bars are targets.

    :raises ValueError: there are no such rows.
    :raises ConfigError, MissingDependencyError: see :func:`require_matplotlib`.
    :raises OSError: the file cannot be written.
    """
    chosen = [row for row in rows if row.measure == "answers kept"]
    if not chosen:
        raise ValueError("there is nothing to draw")
    with drawing(path, SINGLE_INCHES) as figure:
        axes = figure.subplots()
        for number, name in enumerate(dict.fromkeys(row.pipeline for row in chosen)):
            own = sorted(
                (row for row in chosen if row.pipeline == name), key=lambda row: row.achieved_ratio
            )
            colour, marker = _RATIO_STYLES[number % len(_RATIO_STYLES)]
            kept = [100 * row.achieved_ratio for row in own]
            low, high = [100 * row.low for row in own], [100 * row.high for row in own]
            axes.fill_between(kept, low, high, color=colour, alpha=0.12, linewidth=0)
            axes.plot(
                kept, [100 * row.score for row in own],
                color=colour, marker=marker, linewidth=2.2, label=name,
            )  # fmt: skip
        targets = {(row.keep_ratio or 1.0, row.target) for row in chosen if row.target is not None}
        if targets:
            axes.scatter(
                [100 * ratio for ratio, _ in sorted(targets)],
                [100 * target for _, target in sorted(targets)],
                color="#444444", marker="_", s=260, linewidths=2.2, label="target",
            )  # fmt: skip
        axes.set_xlabel("tokens of the documents kept (%)")
        axes.set_ylabel("questions whose answer survives (%)")
        _percent_axis(axes)
        figure.legend(loc="outside lower center", ncols=4, frameon=False)


@contextmanager
def drawing(path: Path, inches: tuple[float, float]) -> Iterator[Figure]:
    """A figure that is written to `path` when the body is done."""
    require_matplotlib(path)
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(
        {
            "svg.hashsalt": "ctxpress",  # ids that do not change from run to run
            "svg.fonttype": "path",
            "font.size": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
        }
    ):
        figure = Figure(figsize=inches, layout="constrained", facecolor="white")
        yield figure
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}
        figure.savefig(path, dpi=DPI, metadata=metadata)


def _quality_panel(axes: Axes, rows: Sequence[Row]) -> None:
    baselines = list(dict.fromkeys(row.compressor for row in rows if row.question == "unread"))
    lines = dict.fromkeys((row.compressor, row.question) for row in rows)
    for compressor, view in lines:
        found = [row for row in rows if (row.compressor, row.question) == (compressor, view)]
        own = sorted(found, key=lambda row: row.achieved_ratio)
        kept = [100 * row.achieved_ratio for row in own]
        if view == "unread":
            number = baselines.index(compressor) % len(_BASELINE_STYLES)
            colour, marker, style = _BASELINE_STYLES[number]
            label, width = compressor, 1.4
        else:
            colour, marker, style = _PIPELINE_STYLES[view]
            label, width = f"{compressor}, question {view}", 2.2
            low, high = [100 * row.low for row in own], [100 * row.high for row in own]
            axes.fill_between(kept, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(
            kept, [100 * row.score for row in own],
            color=colour, marker=marker, linestyle=style, linewidth=width, label=label,
        )  # fmt: skip
    for shown in _PIPELINE_STYLES:  # after the lines, and so at the end of the legend
        wanted = [row for row in rows if row.question == shown]
        targets = {row.keep_ratio: row.target for row in wanted if row.target is not None}
        if targets:
            axes.scatter(
                [100 * ratio for ratio in targets], [100 * target for target in targets.values()],
                color=_PIPELINE_STYLES[shown][0], marker="_", s=260, linewidths=2.2,
                label=f"target, question {shown}",
            )  # fmt: skip
    axes.set_xlabel("tokens kept (%)")
    axes.set_title(TITLES[rows[0].set], fontsize=12)
    axes.set_ylabel("share (%)")
    axes.set_ylim(-2, 103)
    _percent_axis(axes)


def _percent_axis(axes: Axes) -> None:
    axes.grid(True, color="#DDDDDD", linewidth=0.7)


def _speed_axis(axes: Axes, speeds: Sequence[float]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale("log")
    axes.set_xlim(min(speeds) / 1.8, max(speeds) * 1.8)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("tokens per second (log scale)")
