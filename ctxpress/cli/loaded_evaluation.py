"""``ctxpress eval loaded``: what codecs cost documents that are loaded in parallel."""

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
    from ctxpress.engine.mixing_calibration import MixingCalibration
    from ctxpress.evaluation.kv_loaded import LoadedRow

__all__ = ["loaded"]


def loaded(
    model: Annotated[
        str, typer.Option("--model", help="A folder, a name on the hub, or reference.")
    ],
    codecs: Annotated[
        str, typer.Option("--codec", help="Codecs, with commas between.")
    ] = "raw,int8,cachegen-3,cachegen-2,cachegen-1",
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="What `ctxpress kv calibrate` wrote.")
    ] = None,
    task: Annotated[str, typer.Option("--task", help="The kind of task.")] = "retrieval",
    documents: Annotated[int, typer.Option("--documents", min=1, help="Documents a task.")] = 16,
    document_tokens: Annotated[
        int, typer.Option("--document-tokens", min=8, help="Tokens a document, about.")
    ] = 96,
    n_tasks: Annotated[int, typer.Option("--n-tasks", min=1, help="How many tasks.")] = 32,
    seed: Annotated[int, typer.Option("--seed", help="Of the tasks.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Rows as JSON, not a table.")] = False,
    write: Annotated[
        Path | None, typer.Option("--write", help="Put the table into this Markdown page, too.")
    ] = None,
) -> None:
    """Ask generated tasks with documents in parallel whose KV came through each codec.

    T and S are found first, without labels, on other tasks.
    """
    from ctxpress.cache.calibration import Calibration
    from ctxpress.cache.codec import create_codec
    from ctxpress.engine.reference import load_named
    from ctxpress.evaluation.kv_loaded import measure_loaded
    from ctxpress.evaluation.kv_parallel import calibrate_on_tasks
    from ctxpress.evaluation.kv_tasks import KINDS, generate_tasks

    (kind,) = parse_names("--task", task, KINDS)
    must_be_writable(write, None)
    held = None if calibration is None else Calibration.load(calibration)
    made = {name: create_codec(name, held) for name in codecs.split(",")}
    held_model = load_named(model, device="cpu", dtype="float32")
    try:
        tasks = generate_tasks(
            kind,  # type: ignore[arg-type]
            n_documents=documents,
            n_tasks=n_tasks,
            seed=seed,
            document_tokens=document_tokens,
        )
    except ValueError as error:
        raise ConfigError(f"--documents: {error}") from None
    with steps("evaluating", len(tasks)) as (describe, advance):
        describe("T and S")
        found = calibrate_on_tasks(held_model, [kind])  # type: ignore[list-item]
        describe("codecs")
        try:
            rows = measure_loaded(held_model, tasks, found.mixing, made, on_step=advance)
        except ValueError as error:
            raise ConfigError(f"--documents: {error}") from None
    page = _page(Path(held_model.name).name, kind, rows, found, documents, document_tokens)
    typer.echo(json.dumps([row.as_dict() for row in rows]) if as_json else page)
    if write is not None:
        from ctxpress.evaluation.sections import replace_section

        written(write, lambda path: replace_section(path, "loaded", "Through codecs", page))


def _page(
    name: str,
    kind: str,
    rows: list[LoadedRow],
    found: MixingCalibration,
    documents: int,
    document_tokens: int,
) -> str:
    lines = [
        f"`ctxpress eval loaded` with the model `{name}`: {kind}, {len(rows[0].right)} questions, "
        f"{documents} documents of about {document_tokens} tokens in parallel at T "
        f"{found.mixing.temperature:g}, S {found.mixing.scale:g}, each in a container of its own, "
        "headers and identities included. Perplexity is that of the right answers; KL against the "
        "row `as computed`.",
        "",
        "| codec | bytes a token | exact answers | perplexity | KL, nats a token |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        size = f"{row.bytes_per_token:,.0f}" if row.n_bytes else ""
        kl = sum(row.kl) / len(row.kl)
        lines.append(
            f"| {row.codec} | {size} | {row.accuracy:.3f} | {row.perplexity:.4f} | {kl:.5f} |"
        )
    return "\n".join(lines)
