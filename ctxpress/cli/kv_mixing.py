"""``ctxpress kv mixing``: whether a model takes documents in parallel, and with which T and S."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctxpress.cli.evaluation_options import parse_names

if TYPE_CHECKING:
    from ctxpress.engine.mixing_calibration import MixingCalibration

__all__ = ["mixing"]


def mixing(
    model: Annotated[
        str, typer.Option("--model", help="A folder, a name on the hub, or reference.")
    ],
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            help="Prompts like your own: JSONL with prefix, documents (title, text) and question. "
            "By default a few built-in ones.",
        ),
    ] = None,
    bound: Annotated[
        float, typer.Option("--bound", min=0, help="The most divergence, in nats a token.")
    ] = 0.1,
    dtype: Annotated[
        str, typer.Option("--dtype", help="In which the model computes, or auto.")
    ] = "auto",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or auto.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="The figures as JSON.")] = False,
) -> None:
    """Find T and S without labels: the model beside itself with documents one behind the other.

    Workers measure this themselves. vLLM cannot, and runs the form with S = 1/T only.
    """
    from ctxpress.engine.mixing_cache import calibrated
    from ctxpress.engine.reference import load_named

    dtype_name = parse_names("--dtype", dtype, ("auto", "float32", "float16", "bfloat16"))[0]
    device_name = parse_names("--device", device, ("auto", "cpu", "cuda"))[0]
    loaded = load_named(model, device=device_name, dtype=dtype_name)
    found = calibrated(loaded, prompts=prompts, bound=bound)
    if as_json:
        typer.echo(json.dumps({**found.report(), "key_temperature": found.key_temperature}))
    else:
        typer.echo(_said(Path(loaded.name).name, found))


def _said(name: str, found: MixingCalibration) -> str:
    lines = [
        f"{name}: divergence from sequential encoding, nats a token over {found.n_prompts} prompts",
        f"  T = S = 1       {found.kl_plain:.4f}",
        f"  T = {found.mixing.temperature:<4g} S = {found.mixing.scale:<4g} {found.kl:.4f}",
        f"  T = {found.inverse.temperature:<4g} S = 1/T  {found.kl_inverse:.4f}",
    ]
    t = found.key_temperature
    if t is None:
        lines.append(f"vLLM: leave documents sequential, the bound is {found.bound:g}")
    else:
        lines.append(f"vLLM: documents in parallel, temperature: {t:g}")
    return "\n".join(lines)
