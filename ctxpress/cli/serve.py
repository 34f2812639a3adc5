"""``ctxpress serve``: run the proxy from a configuration file, or in front of one upstream."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctxpress.errors import ConfigError

if TYPE_CHECKING:
    from ctxpress.config import Config
    from ctxpress.manager import PluginManager

__all__ = ["passthrough_config", "serve"]


def serve(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Configuration file.")
    ] = None,
    upstream: Annotated[
        str | None,
        typer.Option("--upstream", "-u", help="Instead of a file: the API to forward to."),
    ] = None,
    pipeline: Annotated[
        str | None,
        typer.Option("--pipeline", "-p", help="With --upstream: lossless, balanced or aggressive."),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on.")
    ] = 8787,
    store: Annotated[
        str | None,
        typer.Option(
            "--store", help="With --upstream: disk://, memory:// or redis://… (default: disk://)"
        ),
    ] = None,
) -> None:
    """Run the proxy that clients point their base URL at.

    With --upstream alone nothing is changed; reports say what would be saved.

    With --pipeline too, compression is on.
    """
    from ctxpress.cli.proxy_thread import require_proxy

    loaded, plugins = _config(config, upstream, pipeline, store)
    require_proxy()
    from ctxpress_proxy.server import run
    from ctxpress_proxy.settings import load_settings

    load_settings(loaded)  # a variable that is not set is said before anything starts
    run(loaded, host=host, port=port, plugins=plugins)


def passthrough_config(upstream: str, pipeline: str | None, store: str | None) -> Config:
    """The configuration of ``--upstream URL [--pipeline NAME] [--store URL]``.

    :raises ConfigError: a value is wrong; the message names the option.
    """
    from ctxpress.config import OBSERVED_PIPELINE, PRESETS, Config
    from ctxpress.config_problems import validate_values
    from ctxpress.nearest import did_you_mean

    if pipeline is not None and pipeline not in PRESETS:
        raise ConfigError(
            f"--pipeline: nothing is called {pipeline!r}{did_you_mean(pipeline, PRESETS)}"
        )
    values: dict[str, Any] = {
        "version": 1,
        "auth": "passthrough",
        "upstreams": {"default": {"base_url": upstream}},
        "tenants": {
            "default": {
                "upstream": "default",
                "mode": "on" if pipeline else "observe",
                "pipeline": pipeline or OBSERVED_PIPELINE,
            }
        },
    }
    if store is not None:
        values["store"] = store
    config, problems = validate_values(Config, values)
    if config is None:
        raise ConfigError(f"--upstream: {problems[0].message}")
    return config


def _config(
    path: Path | None, upstream: str | None, pipeline: str | None, store: str | None
) -> tuple[Config, PluginManager | None]:
    if path is not None:
        given = {"--upstream": upstream, "--pipeline": pipeline, "--store": store}
        for option, value in given.items():
            if value is not None:  # an option never quietly overrides the file
                raise ConfigError(f"{option} belongs into {path}; with --config give it there")
        from ctxpress.config_file import load_config_and_plugins

        return load_config_and_plugins(path)
    if upstream is None:
        raise ConfigError(
            "name a file (--config ctxpress.yaml) or an API (--upstream https://api.openai.com)"
        )
    return passthrough_config(upstream, pipeline, store), None
