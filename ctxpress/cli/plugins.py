"""``ctxpress plugins``: what is registered, and by which distribution."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["plugins"]


def plugins(
    config: Annotated[
        Path | None, typer.Option("--config", help="Load the plugins this file enables.")
    ] = None,
) -> None:
    """List what plugins registered, formats and stores, with the distribution each comes from."""
    from rich.table import Table

    from ctxpress.cli.terminal import create_console
    from ctxpress.config_file import load_config
    from ctxpress.manager import create_plugin_manager, option_names

    manager = create_plugin_manager(
        load_config(config).plugins.enabled if config else ("ctxpress",)
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("kind", "name", "distribution", "version", "options, or what it is for"):
        table.add_column(column, overflow="fold")
    for stage in manager.stages.values():
        about = ", ".join(option_names(stage.config_model))
        table.add_row("stage", stage.name, stage.distribution, stage.version, about)
    for scorer in manager.scorers.values():
        about = ", ".join(scorer.config_model.model_fields)
        table.add_row("scorer", scorer.name, scorer.distribution, scorer.version, about)
    for codec in manager.codecs.values():
        table.add_row("codec", codec.name, codec.distribution, codec.version, "of KV")
    for name, observer in manager.observers.items():
        table.add_row("observer", name, type(observer).__module__.split(".")[0], "", "")
    version = _version()
    for name in ("openai_chat", "openai_completions", "openai_responses", "anthropic_messages"):
        table.add_row("format", name, "ctxpress", version, "request bodies of this endpoint")
    for store in manager.stores.values():
        about = store.kind.about
        table.add_row("store", f"{store.scheme}://", store.distribution, store.version, about)
    create_console().print(table)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ctxpress")
    except PackageNotFoundError:
        return "source"
