"""``ctxpress eval parallel``: what documents in parallel cost a model, beside sequential ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctxpress.cli.evaluation import must_be_writable, written
from ctxpress.cli.evaluation_options import parse_names
from ctxpress.cli.terminal import steps
from ctxpress.errors import ConfigError

if TYPE_CHECKING:
    from ctxpress.evaluation.kv_tasks import ContextTask

__all__ = ["parallel"]


def parallel(
    model: Annotated[
        str, typer.Option("--model", help="A folder, a name on the hub, or reference.")
    ],
    tasks: Annotated[
        str, typer.Option("--tasks", help="Kinds of tasks, with commas between.")
    ] = "retrieval,labelling",
    documents: Annotated[
        str, typer.Option("--documents", help="Numbers of documents, with commas between.")
    ] = "1,2,4,8,16,32,64",
    n_tasks: Annotated[
        int, typer.Option("--n-tasks", min=1, help="Tasks of each kind and number.")
    ] = 32,
    seed: Annotated[int, typer.Option("--seed", help="Of the tasks.")] = 0,
    dtype: Annotated[
        str, typer.Option("--dtype", help="In which the model computes, or auto.")
    ] = "float32",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or auto.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Rows as JSON, not a table.")] = False,
    write: Annotated[
        Path | None, typer.Option("--write", help="Put the table into this Markdown page, too.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw accuracy over documents: .svg or .png.")
    ] = None,
) -> None:
    """Ask generated tasks with their documents sequential, in parallel, and by APE.

    T and S are found first, without labels, on other tasks.
    """
    from ctxpress.engine.reference import load_named
    from ctxpress.evaluation.kv_parallel import calibrate_on_tasks, forms_of, measure_parallel
    from ctxpress.evaluation.kv_parallel_report import parallel_page, plot_parallel
    from ctxpress.evaluation.kv_tasks import KINDS

    kinds = parse_names("--tasks", tasks, KINDS)
    counts = _counts(documents)
    if plot is not None:
        from ctxpress.evaluation.plots import require_matplotlib

        require_matplotlib(plot)
    must_be_writable(write, plot)
    dtype_name = parse_names("--dtype", dtype, ("auto", "float32", "float16", "bfloat16"))[0]
    device_name = parse_names("--device", device, ("auto", "cpu", "cuda"))[0]
    loaded = load_named(model, device=device_name, dtype=dtype_name)
    calibrations, rows = [], []
    with steps("evaluating", len(kinds) * len(counts) * n_tasks) as (describe, advance):
        for kind in kinds:
            describe(f"{kind}: T and S")
            found = calibrate_on_tasks(loaded, [kind])  # type: ignore[list-item]
            calibrations.append((kind, found))
            for count in counts:
                describe(f"{kind}, {count} documents")
                asked = _tasks(kind, count, n_tasks, seed)
                try:
                    rows.append(measure_parallel(loaded, asked, forms_of(found), on_step=advance))
                except ValueError as error:
                    typer.echo(f"{kind}, {count} documents: left out: {error}", err=True)
    page = parallel_page(Path(loaded.name).name, rows, calibrations)
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "model": loaded.identity.model,
                    "calibrations": {kind: found.report() for kind, found in calibrations},
                    "rows": [row.as_dict() for row in rows],
                }
            )
        )
    else:
        typer.echo(page)
    if write is not None:
        from ctxpress.evaluation.sections import replace_section

        written(write, lambda path: replace_section(path, "parallel", "What it costs", page))
    if plot is not None:
        written(plot, lambda path: plot_parallel(rows, path))


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1 or sorted(set(counts)) != counts:
        raise ConfigError(f"--documents: rising whole numbers, such as 1,2,4, not {text!r}")
    return counts


def _tasks(kind: str, count: int, n_tasks: int, seed: int) -> list[ContextTask]:
    from ctxpress.evaluation.kv_tasks import generate_tasks

    try:
        return generate_tasks(
            kind,  # type: ignore[arg-type]
            n_documents=count,
            n_tasks=n_tasks,
            seed=seed,
        )
    except ValueError as error:
        raise ConfigError(f"--documents: {error}") from None
