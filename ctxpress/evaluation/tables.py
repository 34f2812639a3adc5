"""Rows as Markdown tables: one a set; the pipeline beside its baselines and its target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ctxpress.evaluation.retrieval import RetrievalRow
from ctxpress.evaluation.runner import Row

__all__ = ["TITLES", "markdown_tables", "retrieval_table"]

TITLES = {
    "nq": "Questions whose answer survives",
    "gsm8k": "Word problems whose numbers all survive",
    "meeting": "Content words of relevant turns that are kept",
}


def markdown_tables(rows: Sequence[Row]) -> str:
    """All rows, a headed table a set, in the order in which sets first occur."""
    names = dict.fromkeys(row.set for row in rows)
    return "\n\n".join(
        f"**{TITLES[name]}** (`{name}`)\n\n" + _table([row for row in rows if row.set == name])
        for name in names
    )


def retrieval_table(rows: Sequence[RetrievalRow]) -> str:
    """A line a set, measure and ratio; a column a pipeline."""
    names = list(dict.fromkeys(row.pipeline for row in rows))
    header = ["set", "measure", "keep", "target", *names, "95 % interval", "tokens kept", "ms"]
    lines = [_line(header), "|" + "---|" * len(header)]
    for key in dict.fromkeys((row.set, row.measure, row.keep_ratio) for row in rows):
        mine = [row for row in rows if (row.set, row.measure, row.keep_ratio) == key]
        first = mine[0]
        scores = {row.pipeline: f"{row.score:.3f}" for row in mine}
        scores[first.pipeline] = f"**{scores[first.pipeline]}**"
        lines.append(
            _line(
                [
                    f"{first.set} ({first.items})",
                    first.measure,
                    "" if first.keep_ratio is None else _percent(first.keep_ratio, 0),
                    "" if first.target is None else f"{first.target}",
                    *(scores.get(name, "") for name in names),
                    f"{first.low:.3f} to {first.high:.3f}",
                    ", ".join(_percent(row.achieved_ratio, 1) for row in mine),
                    ", ".join(f"{row.milliseconds:,.0f}" for row in mine),
                ]
            )
        )
    return "\n".join([*lines, "", f"Intervals are those of {names[0]}."])


def _table(rows: Sequence[Row]) -> str:
    """A line a view of the question and ratio; a baseline's figure stands in every view."""
    own = [row for row in rows if row.question != "unread"]
    others = [row for row in rows if row.question == "unread"]
    names = list(dict.fromkeys(row.compressor for row in others))
    pipelines = list(dict.fromkeys(row.compressor for row in own))
    header = ["question", "keep", "target"]
    for pipeline in pipelines:
        header += [f"**{pipeline}**", "95 % interval"]
    header += [*names, "tokens kept", "tokens/s"]
    lines = [_line(header), "|" + "---|" * len(header)]
    for view, ratio in dict.fromkeys((row.question, row.keep_ratio) for row in own):
        mine = [row for row in own if (row.question, row.keep_ratio) == (view, ratio)]
        cells = [view, _percent(ratio, 0), "" if mine[0].target is None else f"{mine[0].target}"]
        for row in mine:
            cells += [f"**{_score(row)}**", f"{row.low:.3f} to {row.high:.3f}"]
        for name in names:
            cells += [
                _score(row) for row in others if (row.compressor, row.keep_ratio) == (name, ratio)
            ]
        cells.append(", ".join(_percent(row.achieved_ratio, 1) for row in mine))
        cells.append(", ".join(f"{row.tokens_per_second:,.0f}" for row in mine))
        lines.append(_line(cells))
    first = own[0]
    plural = "s" if first.items != 1 else ""
    notes = [f"{first.items} item{plural}, {first.tokens_before:,} tokens."]
    if any(row.contrast is not None for row in rows):
        notes.append("Behind the stroke: the same of all other turns.")
    untouched = max(own, key=lambda row: row.untouched)
    if untouched.untouched:
        notes.append(
            f"Left whole: up to {untouched.untouched} of {untouched.items} "
            f"({untouched.untouched_reason})."
        )
    return "\n".join([*lines, "", " ".join(notes)])


def _score(row: Row) -> str:
    if row.contrast is None:
        return f"{row.score:.3f}"
    return f"{row.score:.3f} / {row.contrast:.3f}"


def _percent(share: float, digits: int) -> str:
    return f"{100 * share:.{digits}f} %"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
