"""``ctxpress on`` and ``ctxpress off``: switch compression of every running proxy of this user."""

from __future__ import annotations

import typer

__all__ = ["off", "on"]


def on() -> None:
    """Let running proxies compress again, as their configuration says."""
    _switch(True)


def off() -> None:
    """Make running proxies forward everything untouched, from the next request on."""
    _switch(False)


def _switch(value: bool) -> None:
    from ctxpress_proxy.switch import write_switch

    path = write_switch(value)
    state = "on: requests are compressed as configured" if value else "off: requests go untouched"
    typer.echo(f"compression is {state} ({path})")
