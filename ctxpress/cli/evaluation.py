"""``ctxpress eval``: how much of what matters survives compression, on data that you give."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctxpress.cli.terminal import steps
from ctxpress.errors import ConfigError

if TYPE_CHECKING:
    from ctxpress.cli.evaluation_options import Request
    from ctxpress.evaluation.retrieval import RetrievalRow
    from ctxpress.evaluation.runner import Row

__all__ = ["compression", "create_app", "data_folder", "must_be_writable", "shown", "written"]

DATA_VARIABLE = "CTXPRESS_EVAL_DATA"


def create_app() -> typer.Typer:
    """The command group."""
    from ctxpress.cli import (
        edits_evaluation,
        kv_evaluation,
        loaded_evaluation,
        parallel_evaluation,
        retrieval,
    )

    app = typer.Typer(no_args_is_help=True, help="Measure what survives compression.")
    app.callback()(_group)
    app.command("compression")(compression)
    app.command("rag")(retrieval.rag)
    app.command("kv")(kv_evaluation.kv)
    app.command("parallel")(parallel_evaluation.parallel)
    app.command("loaded")(loaded_evaluation.loaded)
    app.command("edits")(edits_evaluation.edits)
    return app


def compression(
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help=f"Folder of nq_dev.jsonl and so on. (default: ${DATA_VARIABLE})"
        ),
    ] = None,
    sets: Annotated[
        str, typer.Option("--set", help="Sets, with commas between.")
    ] = "nq,gsm8k,meeting",
    ratios: Annotated[
        str, typer.Option("--ratios", help="Parts of the tokens to keep, in (0, 1].")
    ] = "0.5,0.33,0.2",
    question: Annotated[
        str,
        typer.Option("--question", help="What the pipeline sees of it: shown, hidden or both."),
    ] = "both",
    stage: Annotated[
        list[str] | None,
        typer.Option(
            "--stage",
            help="A stage's options as JSON or key=value,…; again for the next stage. "
            "(default: token_classification)",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Configuration file of --pipeline.")
    ] = None,
    pipeline: Annotated[
        str | None, typer.Option("--pipeline", "-p", help="A preset, or one of --config.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="The first items of each set only.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Rows as JSON, not as tables.")] = False,
    write: Annotated[
        Path | None, typer.Option("--write", help="Put the tables into this Markdown page, too.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw quality against ratio: .svg or .png.")
    ] = None,
) -> None:
    """Compress questions' passages, word problems and meetings, and count what survives.

    Three baselines run beside the pipeline, with the same budget of tokens.

    On word problems digits are kept (force_reserve_digit), unless a --pipeline decides.
    """
    from ctxpress.cli.evaluation_options import Request, parse_ratios, parse_sets, parse_stages

    request = Request(
        folder=data_folder(data),
        sets=parse_sets(sets),
        ratios=parse_ratios(ratios),
        question=question,
        stages=parse_stages(stage or []),
        config=config,
        pipeline=pipeline,
        limit=limit,
    )
    if plot is not None:
        from ctxpress.evaluation.plots import require_matplotlib

        require_matplotlib(plot)
    must_be_writable(write, plot)
    rows, counter = asyncio.run(_run(request))
    text = _page(rows, counter)
    shown(text, rows, counter, as_json=as_json)
    if write is not None:
        from ctxpress.evaluation.sections import replace_section

        written(write, lambda path: replace_section(path, "quality", "Quality", text))
    if plot is not None:
        from ctxpress.evaluation.plots import plot_quality

        written(plot, lambda path: plot_quality(rows, path))


async def _run(request: Request) -> tuple[list[Row], str]:
    """All rows in the order of the request, and the identity of the counter."""
    from ctxpress.evaluation.compressors import Compressor, PipelineCompressor, baselines
    from ctxpress.evaluation.datasets import read_items
    from ctxpress.evaluation.runner import evaluate, views_of
    from ctxpress.tokens import create_counter

    counter = create_counter(None)
    read = {name: read_items(request.folder, name, request.limit) for name in request.sets}
    plan = []
    for name, items in read.items():
        own = PipelineCompressor(request.label, request.opener(name))
        await own.warm_up()  # a wrong option is said before anything takes long
        compressors: list[Compressor] = [own, *baselines(counter, [item.text for item in items])]
        for compressor in compressors:
            for view in views_of(items, compressor, request.views):
                plan += [(name, items, compressor, view, ratio) for ratio in request.ratios]
    rows = []
    total = sum(len(items) for _, items, *_ in plan)
    with steps("evaluating", total) as (describe, advance):
        for name, items, compressor, view, ratio in plan:
            describe(f"{name}, {compressor.name}, {ratio:g}")
            rows.append(
                await evaluate(
                    name, items, compressor, counter, view=view, keep_ratio=ratio, on_item=advance
                )
            )
    return rows, counter.identity


def _page(rows: list[Row], counter: str) -> str:
    from ctxpress.evaluation.tables import markdown_tables

    return (
        f"`ctxpress eval compression`: tokens by `{counter}`; intervals by resampling items.\n\n"
        f"{markdown_tables(rows)}"
    )


def data_folder(given: Path | None) -> Path:
    """Where the sets are.

    :raises ConfigError: neither the option nor the variable says.
    """
    folder = given or (Path(os.environ[DATA_VARIABLE]) if os.environ.get(DATA_VARIABLE) else None)
    if folder is None:
        raise ConfigError(f"name the folder of the data: --data FOLDER, or set {DATA_VARIABLE}")
    return folder


def shown(text: str, rows: Sequence[Row | RetrievalRow], counter: str, *, as_json: bool) -> None:
    """Print what was measured: the tables as `text`, or the rows as JSON."""
    if as_json:
        typer.echo(json.dumps({"counter": counter, "rows": [row.as_dict() for row in rows]}))
    else:
        typer.echo(text)


def must_be_writable(*paths: Path | None) -> None:
    """Say before minutes of work that its result could not be stored."""
    for path in paths:
        if path is not None and (path.is_dir() or not path.resolve().parent.is_dir()):
            raise ConfigError(f"{path}: cannot be written: no such folder, or a folder itself")


def written(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a result and say so.

    :raises ConfigError: it cannot be written.
    """
    try:
        write(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
    typer.echo(f"{path} is written", err=True)


def _group() -> None:
    """Measure what survives compression."""
