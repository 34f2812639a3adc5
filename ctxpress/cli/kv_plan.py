"""``ctxpress kv plan``: whether KV from a store is worth its way, on paper."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctxpress.cli.evaluation import must_be_writable
from ctxpress.errors import ConfigError

if TYPE_CHECKING:
    from ctxpress.planning import FleetNeed, Link, LoadPlan

__all__ = ["plan"]

_BANDWIDTH = re.compile(r"(\d+(?:\.\d+)?)\s*(|[GM](?:bit(?:/s)?|bps|B(?:/s)?))", re.ASCII)
_DEFAULT_CODECS = "raw,cachegen-3,cachegen-auto,kvtc-16x"


def plan(
    models: Annotated[
        str, typer.Option("--model", help="Built-in names or folders, with commas between.")
    ],
    gpus: Annotated[
        str, typer.Option("--gpu", help="H200, H100, A100, L40S, L4, A10G; commas between.")
    ] = "H100",
    bandwidth: Annotated[
        str, typer.Option("--bandwidth", help="To the store: 10, 10Gbit/s, 800Mbit/s or 1.25GB/s.")
    ] = "10Gbit/s",
    context: Annotated[
        int, typer.Option("--context", min=1, help="Tokens of a context that is loaded.")
    ] = 8192,
    codecs: Annotated[
        str, typer.Option("--codec", help="Measured codecs, with commas between; or all.")
    ] = _DEFAULT_CODECS,
    replicas: Annotated[
        str | None,
        typer.Option("--replicas", help="Also what a store needs for so many; commas between."),
    ] = None,
    n_gpus: Annotated[
        int | None,
        typer.Option("--gpus", min=1, help="GPUs that share a model. (default: what it needs)"),
    ] = None,
    utilisation: Annotated[
        float, typer.Option("--utilisation", help="Of the GPU's peak, while it reads a prompt.")
    ] = 0.5,
    latency_ms: Annotated[
        float, typer.Option("--latency", min=0, help="Milliseconds until a store's first byte.")
    ] = 1.0,
    cores: Annotated[int, typer.Option("--cores", min=1, help="CPU cores that decode.")] = 8,
    decode: Annotated[
        float | None,
        typer.Option("--decode", help="Gigabytes of fp16 KV decoded a second, instead of --cores."),
    ] = None,
    rate: Annotated[
        float, typer.Option("--rate", help="Of --replicas: requests a second of each.")
    ] = 1.0,
    load_share: Annotated[
        float, typer.Option("--load-share", help="Of --replicas: contexts that are loaded.")
    ] = 0.3,
    corpus: Annotated[
        int, typer.Option("--corpus", min=1, help="Of --replicas: different tokens of each.")
    ] = 2_000_000,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON.")] = False,
    write: Annotated[
        Path | None, typer.Option("--write", help="Put the tables into this Markdown page, too.")
    ] = None,
) -> None:
    """Compute what KV of a context weighs, and whether loading it beats computing it anew.

    Arithmetic on shapes of models, data sheets of GPUs and measured sizes of codecs. A running
    worker or connector measures instead, and decides by itself.
    """
    from ctxpress.evaluation.sections import replace_section
    from ctxpress.planning import (
        Fleet,
        Link,
        codec_costs,
        fleet_needs,
        gpu_named,
        model_shape,
        plan_loads,
    )
    from ctxpress.planning.tables import fleet_page, plan_page

    if write is not None:
        must_be_writable(write)
    for name, share in (("utilisation", utilisation), ("load-share", load_share)):
        if not 0 < share <= 1:
            raise ConfigError(f"--{name} must be above 0 and at most 1, not {share:g}")
    for name, number in (("rate", rate), ("decode", 1.0 if decode is None else decode)):
        if not 0 < number < float("inf"):
            raise ConfigError(f"--{name} must be above 0, not {number:g}")
    shapes = [model_shape(name) for name in _names(models)]
    chosen = codec_costs(() if codecs == "all" else tuple(_names(codecs)))
    link = Link(
        bandwidth_gbit_per_s=parse_bandwidth(bandwidth),
        latency_ms=latency_ms,
        decode_cores=cores,
        decode_gb_per_s=decode,
    )
    plans = [
        one
        for shape in shapes
        for gpu in _names(gpus)
        for one in plan_loads(
            shape,
            gpu_named(gpu),
            chosen,
            link,
            n_tokens=context,
            n_gpus=n_gpus,
            utilisation=utilisation,
        )
    ]
    command = f"ctxpress kv plan --model {models} --gpu {gpus} --bandwidth {bandwidth}"
    pages = {"kv-plan": plan_page(plans, link, utilisation=utilisation, command=command)}
    needs: list[FleetNeed] = []
    if replicas is not None:
        fleet = Fleet(
            requests_per_s=rate,
            context_tokens=context,
            load_share=load_share,
            corpus_tokens=corpus,
        )
        numbers = tuple(_count(number) for number in _names(replicas))
        needs = list(fleet_needs(shapes[0], fleet, chosen, numbers))
        command = f"ctxpress kv plan --model {shapes[0].name} --replicas {replicas}"
        pages["kv-plan-replicas"] = fleet_page(shapes[0], fleet, needs, command)
    if as_json:
        typer.echo(json.dumps(_as_json(plans, needs, link), indent=2))
    else:
        _show(plans, needs, link)
    if write is not None:
        for name, page in pages.items():
            replace_section(write, name, "Sizes and times, on paper", page)
        typer.echo(f"written to {write}", err=True)


def parse_bandwidth(text: str) -> float:
    """Gbit/s of ``10``, ``10Gbit/s``, ``800Mbit/s`` or ``1.25GB/s``.

    :raises ConfigError: it is none of these, or 0.
    """
    match = _BANDWIDTH.fullmatch(text.strip())
    value = float(match[1]) if match else 0.0
    if match is None or value <= 0:
        raise ConfigError(f"--bandwidth {text!r}: give 10, 10Gbit/s, 800Mbit/s or 1.25GB/s")
    unit = match[2]
    value *= 8 if "B" in unit else 1
    return value / 1000 if unit.startswith("M") else value


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ConfigError("an option is an empty list")
    return names


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise ConfigError(f"--replicas {text!r}: give numbers with commas between")
    return int(text)


def _show(plans: list[LoadPlan], needs: list[FleetNeed], link: Link) -> None:
    from rich.table import Table

    from ctxpress.cli.terminal import create_console
    from ctxpress.planning.constants import measured_on
    from ctxpress.planning.loading import gpus_needed
    from ctxpress.planning.tables import break_even

    console = create_console()
    for shape, gpu in dict.fromkeys((one.model, one.gpu) for one in plans):
        rows = [one for one in plans if (one.model, one.gpu) == (shape, gpu)]
        recompute = rows[0].recompute_s
        console.print(
            f"{shape.name} on {rows[0].n_gpus} {gpu.name}: {shape.kv_bytes_per_token:,} bytes of"
            f" fp16 KV a token; computing {rows[0].n_tokens:,} tokens takes {recompute:.3f} s"
        )
        if (needed := gpus_needed(shape, gpu)) > rows[0].n_gpus:
            console.print(f"its weights alone need {needed} such GPUs in 16 bits")
        table = Table("codec", "bytes/token", "MB", "load, s", "break-even, Gbit/s", "")
        for one in rows:
            said = f"{one.speed_up:.1f}x sooner" if one.worth_it else "not worth it"
            table.add_row(
                one.codec.name,
                f"{one.bytes_per_token:,.0f}",
                f"{one.stored_bytes / 1e6:,.0f}",
                f"{one.load_s:.3f}",
                break_even(one),
                said,
            )
        console.print(table)
    if needs:
        table = Table("replicas", "codec", "read, Gbit/s", "written, Gbit/s", "memory, GB", "nodes")
        for need in needs:
            table.add_row(
                f"{need.n_replicas:,}",
                need.codec.name,
                f"{need.read_gbit_per_s:,.1f}",
                f"{need.write_gbit_per_s:,.1f}",
                f"{need.memory_gb:,.0f}",
                f"{need.n_nodes:,}",
            )
        console.print(table)
    console.print(f"At {link.bandwidth_gbit_per_s:g} Gbit/s. Codecs: {measured_on()}.")


def _as_json(plans: list[LoadPlan], needs: list[FleetNeed], link: Link) -> dict[str, Any]:
    from ctxpress.planning.constants import measured_on

    return {
        "bandwidth_gbit_per_s": link.bandwidth_gbit_per_s,
        "codecs_measured_on": measured_on(),
        "plans": [
            {
                "model": one.model.name,
                "gpu": one.gpu.name,
                "gpus": one.n_gpus,
                "codec": one.codec.name,
                "context_tokens": one.n_tokens,
                "bytes_per_token": one.bytes_per_token,
                "stored_bytes": one.stored_bytes,
                "transfer_s": one.transfer_s,
                "decode_s": one.decode_s,
                "load_s": one.load_s,
                "recompute_s": one.recompute_s,
                "break_even_gbit_per_s": one.break_even_gbit_per_s,
                "worth_it": one.worth_it,
            }
            for one in plans
        ],
        "replicas": [
            {
                "replicas": need.n_replicas,
                "codec": need.codec.name,
                "read_gbit_per_s": need.read_gbit_per_s,
                "write_gbit_per_s": need.write_gbit_per_s,
                "memory_gb": need.memory_gb,
                "nodes": need.n_nodes,
            }
            for need in needs
        ],
    }
