"""The ``ctxpress`` command: one module a command, and one place where errors become lines.

Exit status: 0 done, 1 something failed, 2 the caller got something wrong, 130 interrupted.
Commands import what they need when they run, so that ``--help`` is quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from ctxpress.errors import (
    ConfigError,
    CtxpressError,
    FormatError,
    MissingDependencyError,
    PluginError,
)

__all__ = ["create_app", "main"]

CALLER_ERRORS = (ConfigError, FormatError, MissingDependencyError, PluginError)
INTERRUPTED = 130  # what a shell reports for a process that Ctrl-C ended


def create_app() -> typer.Typer:
    """The application with all its commands."""
    from ctxpress.cli import (
        bench,
        compress,
        config,
        demo,
        evaluation,
        kv,
        plugins,
        serve,
        switch,
        tenants,
        worker,
    )

    app = typer.Typer(
        name="ctxpress",
        help="Shorten prompts and context on their way to a language model.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    app.command("serve")(serve.serve)
    app.command("worker")(worker.worker)
    app.command("on")(switch.on)
    app.command("off")(switch.off)
    app.command("compress")(compress.compress)
    app.command("demo")(demo.demo)
    app.command("plugins")(plugins.plugins)
    app.add_typer(bench.create_app(), name="bench")
    app.add_typer(evaluation.create_app(), name="eval")
    app.add_typer(config.create_app(), name="config")
    app.add_typer(kv.create_app(), name="kv")
    app.add_typer(tenants.create_app(), name="tenants")
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status; ``arguments`` default to the process's."""
    try:
        status = create_app()(args=arguments, prog_name="ctxpress", standalone_mode=True)
    except SystemExit as end:
        status = end.code
    except CtxpressError as error:
        typer.echo(f"ctxpress: {error}", err=True)
        return 2 if isinstance(error, CALLER_ERRORS) else 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"ctxpress {version('ctxpress')}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Options that stand before any command."""
