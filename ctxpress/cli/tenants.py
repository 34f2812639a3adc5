"""``ctxpress tenants add``: a new key for a tenant; the file only ever holds the key's hash."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["add", "create_app"]

KEY_BYTES = 32  # 256 bits: nobody guesses it, so a plain hash of it is safe to store


def create_app() -> typer.Typer:
    """The command group; it has one command so far."""
    app = typer.Typer(no_args_is_help=True, help="Manage tenants and their keys.")
    app.callback()(_group)
    app.command("add")(add)
    return app


def add(
    name: Annotated[
        str, typer.Argument(help="The tenant; its other keys stay valid if it exists.")
    ],
    config: Annotated[
        Path | None, typer.Option("--config", help="Put the hash into this file.")
    ] = None,
    upstream: Annotated[
        str | None,
        typer.Option("--upstream", help="Upstream of a new tenant, where the file has several."),
    ] = None,
) -> None:
    """Make a key for a tenant and print it once.

    With --config its hash goes into the file, whose comments and layout stay.
    """
    key = f"ctx-{secrets.token_urlsafe(KEY_BYTES)}"
    digest = f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    if config is not None:
        from ctxpress.cli.tenant_file import add_key_hash

        add_key_hash(config, name, digest, upstream)
        typer.echo(f"{config}: {name} has a new key; its hash is in the file")
    typer.echo(f"key (shown this once): {key}")
    if config is None:
        typer.echo(f"put into the file, under tenants.{name}:")
        typer.echo(f'    key_hashes: ["{digest}"]')


def _group() -> None:
    """Manage tenants and their keys."""
