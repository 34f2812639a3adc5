"""``ctxpress eval edits``: what re-encoding edited documents costs, beside computing them anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ctxpress.cli.evaluation import must_be_writable, written
from ctxpress.cli.evaluation_options import parse_names
from ctxpress.cli.terminal import steps
from ctxpress.errors import ConfigError

__all__ = ["edits"]


def edits(
    model: Annotated[
        str, typer.Option("--model", help="A folder, a name on the hub, or reference.")
    ],
    tasks: Annotated[
        str, typer.Option("--tasks", help="Kinds of tasks, with commas between.")
    ] = "retrieval,copying",
    documents: Annotated[int, typer.Option("--documents", min=1, help="Documents a task.")] = 4,
    document_tokens: Annotated[
        int, typer.Option("--document-tokens", min=8, help="Tokens a document, about.")
    ] = 64,
    n_tasks: Annotated[int, typer.Option("--n-tasks", min=1, help="Tasks of each kind.")] = 32,
    seed: Annotated[int, typer.Option("--seed", help="Of the tasks and the edits.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Rows as JSON, not a table.")] = False,
    write: Annotated[
        Path | None, typer.Option("--write", help="Put the table into this Markdown page, too.")
    ] = None,
) -> None:
    """Ask generated tasks after a sentence was put into the middle of every document."""
    from ctxpress.engine.parallel import Mixing
    from ctxpress.engine.reference import load_named
    from ctxpress.evaluation.kv_edits import EDIT_FORMS, measure_edits
    from ctxpress.evaluation.kv_tasks import KINDS, generate_tasks

    kinds = parse_names("--tasks", tasks, KINDS)
    must_be_writable(write, None)
    loaded = load_named(model, device="cpu", dtype="float32")
    rows = []
    with steps("evaluating", len(kinds) * n_tasks) as (describe, advance):
        for kind in kinds:
            describe(kind)
            try:
                asked = generate_tasks(
                    kind,  # type: ignore[arg-type]
                    n_documents=documents,
                    n_tasks=n_tasks,
                    seed=seed,
                    document_tokens=document_tokens,
                )
                rows.append(measure_edits(loaded, asked, Mixing(), seed=seed, on_step=advance))
            except ValueError as error:
                raise ConfigError(f"{kind}: {error}") from None
    lines = [
        f"{Path(loaded.name).name}, {documents} documents of about {document_tokens} tokens in "
        f"parallel (T = S = 1), {n_tasks} tasks of each kind; KL to `computed`, nats a token.",
        "",
        "| task | questions | tokens reused | "
        + " | ".join(f"exact, {name}" for name in EDIT_FORMS)
        + " | KL edited | KL as it was |",
        "|---|" + "---:|" * (len(EDIT_FORMS) + 4),
    ]
    for row in rows:
        exact = " | ".join(f"{100 * row.accuracy[name]:.1f} %" for name in EDIT_FORMS)
        lines.append(
            f"| {row.kind} | {row.n_questions} | {100 * row.reused:.0f} % | {exact} | "
            f"{row.kl['edited']:.4f} | {row.kl['as it was']:.4f} |"
        )
    page = "\n".join(lines)
    typer.echo(json.dumps([row.as_dict() for row in rows]) if as_json else page)
    if write is not None:
        from ctxpress.evaluation.sections import replace_section

        written(write, lambda path: replace_section(path, "edits", "Edited documents", page))
