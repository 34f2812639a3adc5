"""``ctxpress on`` and ``ctxpress off``: switch compression of every running proxy of this user."""

from __future__ import annotations

from typing import Annotated

import typer

from ctxpress.errors import ConfigError

__all__ = ["off", "on"]


def on(
    pipeline: Annotated[
        str | None,
        typer.Option("--pipeline", "-p", help="For a proxy that was started without a pipeline."),
    ] = None,
) -> None:
    """Let running proxies compress, as their configuration says.

    A proxy that was started with --upstream alone observes; this makes it compress, too.
    """
    from ctxpress.config import PRESETS
    from ctxpress.nearest import did_you_mean

    if pipeline is not None and pipeline not in PRESETS:
        raise ConfigError(
            f"--pipeline: nothing is called {pipeline!r}{did_you_mean(pipeline, PRESETS)}"
        )
    _write(True, pipeline)
    typer.echo("on: running proxies compress as configured; tenants of mode observe stay observed")
    typer.echo(f"a proxy without a pipeline of its own compresses with {pipeline or 'balanced'}")


def off() -> None:
    """Make running proxies forward everything untouched."""
    _write(False, None)
    typer.echo("off: running proxies forward everything untouched, until ctxpress on")


def _write(value: bool, pipeline: str | None) -> None:
    from ctxpress_proxy.switch import write_switch

    try:
        path = write_switch(value, pipeline=pipeline)
    except OSError as error:
        raise ConfigError(f"the switch cannot be written: {error}") from None
    typer.echo(f"{path} is written; proxies follow within a second")
