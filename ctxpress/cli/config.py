"""``ctxpress config check`` and ``ctxpress config schema``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["check", "create_app", "schema"]

DEFAULT_FILE = Path("ctxpress.yaml")


def create_app() -> typer.Typer:
    """The two commands."""
    app = typer.Typer(no_args_is_help=True, help="Check a configuration file; print its schema.")
    app.command("check")(check)
    app.command("schema")(schema)
    return app


def check(
    file: Annotated[Path, typer.Argument(help="The file to check.")] = DEFAULT_FILE,
) -> None:
    """Read a file as the server would and list everything that is wrong with it."""
    from ctxpress.config_file import check_config, load_config

    problems = check_config(file)
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(2)
    config = load_config(file)
    counts = (
        f"{len(items)} {what if len(items) != 1 else what[:-1]}"
        for what, items in (
            ("tenants", config.tenants),
            ("pipelines", config.pipelines),
            ("upstreams", config.upstreams),
        )
    )
    typer.echo(f"{file}: valid; {', '.join(counts)}")


def schema(
    file: Annotated[
        Path | None, typer.Option("--config", help="Include the plugins this file enables.")
    ] = None,
) -> None:
    """Print the JSON Schema of the configuration file, with every stage's options."""
    from ctxpress.config_file import load_config
    from ctxpress.config_schema import config_schema
    from ctxpress.manager import create_plugin_manager

    manager = create_plugin_manager(load_config(file).plugins.enabled if file else ("ctxpress",))
    models = {name: stage.config_model for name, stage in manager.stages.items()}
    typer.echo(json.dumps(config_schema(models), indent=2))
