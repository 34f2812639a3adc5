"""``ctxpress kv``: containers of compressed KV, and what codecs need to know of a model."""

from __future__ import annotations

import typer

from ctxpress.cli import kv_calibration, kv_inspect, kv_mixing, kv_plan

__all__ = ["create_app"]


def create_app() -> typer.Typer:
    """The commands on compressed KV."""
    app = typer.Typer(no_args_is_help=True, help="Look into compressed KV, calibrate codecs, plan.")
    app.command("calibrate")(kv_calibration.calibrate)
    app.command("inspect")(kv_inspect.inspect)
    app.command("mixing")(kv_mixing.mixing)
    app.command("plan")(kv_plan.plan)
    return app
