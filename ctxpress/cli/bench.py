"""``ctxpress bench``: simulations and measurements of this machine."""

from __future__ import annotations

import typer

from ctxpress.cli import streaming

__all__ = ["create_app"]


def create_app() -> typer.Typer:
    """The command group."""
    app = typer.Typer(no_args_is_help=True, help="Measure and simulate.")
    app.callback()(_group)
    app.command("streaming")(streaming.streaming)
    return app


def _group() -> None:
    """Measure and simulate."""
