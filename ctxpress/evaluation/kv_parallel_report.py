"""Parallel against sequential encoding as a table, and as a picture over numbers of documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctxpress.engine.mixing_calibration import MixingCalibration
from ctxpress.evaluation.kv_parallel import FORMS, ParallelRow
from ctxpress.evaluation.plots import drawing

__all__ = ["parallel_page", "plot_parallel"]

_STYLES = {
    "sequential": ("#444444", "o", "-"),
    "parallel": ("#E69F00", "v", ":"),
    "APE(T, S)": ("#0072B2", "s", "-"),
    "APE(T, 1/T)": ("#009E73", "D", "--"),
}
_INCHES = (5.2, 4.0)


def parallel_page(
    name: str, rows: Sequence[ParallelRow], calibrations: Sequence[tuple[str, MixingCalibration]]
) -> str:
    """T and S by kind of task, then a line a kind and number of documents."""
    lines = [
        f"`ctxpress eval parallel` with the model `{name}`; exact answers, by greedy decoding."
    ]
    for kind, found in calibrations:
        lines.append(
            f"T and S for {kind.replace('_', ' ')}, found without labels on other tasks: "
            f"T {found.mixing.temperature:g}, S {found.mixing.scale:g} "
            f"(KL {found.kl:.4f} nats a token, {found.kl_plain:.4f} at T = S = 1); with S = 1/T: "
            f"T {found.inverse.temperature:g} (KL {found.kl_inverse:.4f}); the gate, "
            f"{found.bound:g}: {'passed' if found.accepted else 'not passed'}."
        )
    header = ["task", "documents", *FORMS, "APE(T, S) of sequential", "questions"]
    table = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in rows:
        base = row.accuracy[FORMS[0]]
        share = f"{row.accuracy[FORMS[2]] / base:.3f}" if base else ""
        cells = [row.kind.replace("_", " "), str(row.n_documents)]
        cells += [f"{row.accuracy[form]:.3f}" for form in FORMS]
        table.append("| " + " | ".join([*cells, share, str(row.n_questions)]) + " |")
    return "\n\n".join([*lines, "\n".join(table)])


def plot_parallel(rows: Sequence[ParallelRow], path: Path) -> None:
    """Accuracy against the number of documents: a panel a kind of task, a line a form.

    :raises ValueError: there are no rows.
    :raises ConfigError, MissingDependencyError: see :func:`ctxpress.evaluation.plots.drawing`.
    :raises OSError: the file cannot be written.
    """
    if not rows:
        raise ValueError("there is nothing to draw")
    kinds = list(dict.fromkeys(row.kind for row in rows))
    with drawing(path, (_INCHES[0] * len(kinds), _INCHES[1])) as figure:
        panels = figure.subplots(1, len(kinds), squeeze=False)[0]
        for kind, axes in zip(kinds, panels, strict=True):
            own = [row for row in rows if row.kind == kind]
            counts = [row.n_documents for row in own]
            for form, (colour, marker, style) in _STYLES.items():
                axes.plot(
                    counts, [row.accuracy[form] for row in own], color=colour, marker=marker,
                    linestyle=style, markersize=6, linewidth=1.8, label=form,
                )  # fmt: skip
            axes.set_title(kind.replace("_", " "))
            axes.set_xscale("log", base=2)
            axes.set_xticks(counts)
            axes.xaxis.set_major_formatter("{x:g}")
            axes.set_xlabel("documents in the context")
            axes.set_ylabel("exact answers")
            axes.set_ylim(-0.02, 1.02)
            axes.grid(True, color="#DDDDDD", linewidth=0.7)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
