"""``ctxpress worker``: serve a model whose KV is kept, shared and reused."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctxpress.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    from ctxpress.engine.parallel import Mixing

__all__ = ["require_torch", "worker"]


def worker(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="A folder, a name on the hub, or reference: the small model in the package.",
        ),
    ],
    store: Annotated[
        str | None,
        typer.Option("--store", help="redis://… or disk://… for KV; without one, memory only."),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option("--codec", help="How KV is stored: raw, int8, cachegen-3, … (with --store)"),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="What `ctxpress kv calibrate` wrote.")
    ] = None,
    load: Annotated[
        str,
        typer.Option(
            "--load",
            help="auto: stored KV is loaded where that is sooner than computing it; always.",
        ),
    ] = "auto",
    edits: Annotated[
        str,
        typer.Option(
            "--edits",
            help="pie: a document that changed a little keeps the KV of what did not change, "
            "which approximates; off computes it.",
        ),
    ] = "off",
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on.")
    ] = 9000,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16, …")] = "auto",
    documents: Annotated[
        str,
        typer.Option(
            "--documents",
            help="How documents of requests are encoded: auto (parallel where the model was "
            "found to answer alike), parallel, or sequential.",
        ),
    ] = "auto",
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="T of --documents parallel.")
    ] = None,
    scale: Annotated[
        float | None, typer.Option("--scale", help="S of --documents parallel.")
    ] = None,
    tenant: Annotated[
        str, typer.Option("--tenant", help="Whose KV this is; workers of one tenant share.")
    ] = "default",
    max_rows: Annotated[
        int, typer.Option("--max-rows", min=1, help="Answers under way at a time.")
    ] = 16,
    max_waiting: Annotated[
        int, typer.Option("--max-waiting", min=0, help="Requests in line; more get 429.")
    ] = 64,
    memory: Annotated[
        str, typer.Option("--memory", help="KV kept uncompressed in this process.")
    ] = "1gb",
) -> None:
    """Serve a model with OpenAI's API; documents and prefixes are computed once and reused.

    The reference engine: correct and observable, for one machine. docs/worker.md says when to use
    vLLM instead.
    """
    from ctxpress.cache.store_url import parse_bytes

    require_torch()
    try:
        memory_bytes = parse_bytes(memory)
    except ValueError as error:
        raise ConfigError(f"--memory: {error}") from None
    from ctxpress.engine.serving import ServingOptions, serve

    serve(
        ServingOptions(
            model=model,
            store=store,
            codec=codec,
            calibration=calibration,
            load=load,
            edits=edits,
            host=host,
            port=port,
            device=device,
            dtype=dtype,
            documents=documents,
            mixing=_mixing(documents, temperature, scale),
            tenant=tenant,
            max_rows=max_rows,
            max_waiting=max_waiting,
            memory_bytes=memory_bytes,
            secret=os.environ.get("CTXPRESS_SECRET"),
        )
    )


def _mixing(documents: str, temperature: float | None, scale: float | None) -> Mixing | None:
    """:raises ConfigError: T or S without --documents parallel, or out of range."""
    if temperature is None and scale is None:
        return None
    if documents != "parallel":
        raise ConfigError("--temperature and --scale need --documents parallel")
    from ctxpress.engine.attention import ContextPlan
    from ctxpress.engine.parallel import Mixing

    mixing = Mixing(temperature=temperature or 1.0, scale=scale or 1.0)
    try:
        ContextPlan(start=0, stop=1, temperature=mixing.temperature, scale=mixing.scale)
    except ValueError as error:
        raise ConfigError(f"--{error}") from None
    return mixing


def require_torch() -> None:
    """:raises MissingDependencyError: what a worker needs is not installed."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("uvicorn") is None:
        raise MissingDependencyError(
            "a worker needs torch and uvicorn: pip install 'ctxpress[proxy,torch]'"
        )
