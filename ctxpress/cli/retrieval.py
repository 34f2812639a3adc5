"""``ctxpress eval rag``: how stages for documents do, on data that you give."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctxpress.cli.evaluation import data_folder, must_be_writable, shown, written
from ctxpress.cli.terminal import steps
from ctxpress.errors import ConfigError

if TYPE_CHECKING:
    from ctxpress.evaluation.retrieval import RetrievalRow

__all__ = ["rag"]


def rag(
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Folder of rag_dev.jsonl and so on. (default: $CTXPRESS_EVAL_DATA)"
        ),
    ] = None,
    sets: Annotated[str, typer.Option("--set", help="Sets, with commas between.")] = "rag,meeting",
    scorers: Annotated[
        str, typer.Option("--scorers", help="Relevance scorers to compare, with commas between.")
    ] = "bundled,bm25,vectors",
    ratios: Annotated[
        str, typer.Option("--ratios", help="Parts of the documents' tokens to keep, in set rag.")
    ] = "0.2,0.1,0.05",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="The first items of each set only.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Rows as JSON, not as a table.")] = False,
    write: Annotated[
        Path | None, typer.Option("--write", help="Put the table into this Markdown page, too.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw answers against tokens: .svg or .png.")
    ] = None,
) -> None:
    """Restructure and reorder questions' documents; count the answers that survive.

    Also measured: where the gold document ends up after reorder, how often nothing is left where
    no document holds an answer (on_empty: drop), and the relevant turns of meetings that are kept.
    """
    from ctxpress.cli.evaluation_options import parse_names, parse_ratios
    from ctxpress.evaluation.retrieval import RETRIEVAL_SETS
    from ctxpress.manager import create_plugin_manager

    folder = data_folder(data)
    wanted = parse_names("--set", sets, RETRIEVAL_SETS)
    names = parse_names("--scorers", scorers, create_plugin_manager().scorers)
    parts = parse_ratios(ratios)
    if plot is not None:
        from ctxpress.evaluation.plots import require_matplotlib

        if "rag" not in wanted:
            raise ConfigError("--plot: answers against tokens are only measured in set rag")
        require_matplotlib(plot)
    must_be_writable(write, plot)
    rows, counter = asyncio.run(_run(folder, wanted, names, parts, limit))
    text = _page(rows, counter)
    shown(text, rows, counter, as_json=as_json)
    if write is not None:
        from ctxpress.evaluation.sections import replace_section

        for name in dict.fromkeys(row.set for row in rows):
            part = _page([row for row in rows if row.set == name], counter)
            title = "Documents" if name == "rag" else f"Documents: {name}"
            section = (name, title, part)
            written(write, lambda path, section=section: replace_section(path, *section))  # type: ignore[misc]
    if plot is not None:
        from ctxpress.evaluation.plots import plot_retrieval

        written(plot, lambda path: plot_retrieval(rows, path))


async def _run(
    folder: Path,
    sets: tuple[str, ...],
    scorers: Sequence[str],
    ratios: tuple[float, ...],
    limit: int | None,
) -> tuple[list[RetrievalRow], str]:
    from ctxpress.evaluation.datasets import DataError
    from ctxpress.evaluation.retrieval import (
        MEETING_RATIO,
        Measure,
        concerns,
        measure_retrieval,
        read_retrieval,
    )
    from ctxpress.sdk import Pipeline
    from ctxpress.tokens import create_counter

    counter = create_counter(None)
    read = {name: read_retrieval(folder, name, limit) for name in sets}
    plan: list[tuple[str, Measure, str, list[dict[str, Any]], float | None]] = []
    for scorer in scorers:
        keep = {"use": "restructure", "scorer": scorer}
        if "rag" in read:
            plan += [("rag", "answers kept", scorer, [keep], ratio) for ratio in ratios]
            drop = {**keep, "on_empty": "drop", "keep_ratio": min(ratios)}
            plan.append(("rag", "empty without gold", scorer, [drop], None))
            reorder = {"use": "reorder", "scorer": scorer}
            plan.append(("rag", "gold at the ends", scorer, [reorder], None))
        if "meeting" in read:
            plan.append(("meeting", "turns kept", scorer, [keep], MEETING_RATIO))
    # Of a few items, none may be without a gold document.
    plan = [one for one in plan if any(concerns(item, one[1]) for item in read[one[0]])]
    if not plan:
        raise DataError(f"{folder}: no item of {', '.join(sets)} has anything to measure")
    rows = []
    with steps("evaluating", sum(len(read[name]) for name, *_ in plan)) as (describe, advance):
        for name, measure, scorer, stages, ratio in plan:
            describe(f"{name}, {measure}, {scorer}")
            rows.append(
                await measure_retrieval(
                    name,
                    measure,
                    read[name],
                    scorer,
                    lambda stages=stages: Pipeline.from_stages(*stages, strict=True),  # type: ignore[misc]
                    counter,
                    keep_ratio=ratio,
                    on_item=advance,
                )
            )
    return rows, counter.identity


def _page(rows: list[RetrievalRow], counter: str) -> str:
    from ctxpress.evaluation.tables import retrieval_table

    return (
        f"`ctxpress eval rag`: tokens by `{counter}`; intervals by resampling items; milliseconds "
        f"are the median a question.\n\n{retrieval_table(rows)}"
    )
