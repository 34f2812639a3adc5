"""``ctxpress kv inspect``: what is inside a container, and where the bits went."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from ctxpress.cache.inspection import Inspection

__all__ = ["inspect"]


def inspect(
    file: Annotated[Path, typer.Argument(help="A container of compressed KV.")],
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", help="The calibration that the container names."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Load the plugins this file enables.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Check a container and show its header, its sections, and what its bytes are for."""
    from ctxpress.cache.calibration import Calibration
    from ctxpress.cache.inspection import inspect_file
    from ctxpress.config_file import load_config
    from ctxpress.errors import CodecError
    from ctxpress.manager import create_plugin_manager

    manager = create_plugin_manager(
        load_config(config).plugins.enabled if config else ("ctxpress",)
    )
    wrong = calibration or file
    try:
        known = [Calibration.load(calibration)] if calibration else []
        wrong = file
        found = inspect_file(file, calibrations=known, codecs=manager.codec_factories())
    except CodecError as error:
        text = str(error).removeprefix(f"{wrong}: ")
        typer.echo(f"ctxpress: {wrong}: {text}", err=True)
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(json.dumps(_as_json(file, found), indent=2))
    else:
        _show(file, found)


def _as_json(file: Path, found: Inspection) -> dict[str, Any]:
    header = found.header
    return {
        "file": str(file),
        "bytes": header.total_bytes,
        "decoded_bytes": header.layout.decoded_bytes,
        "bits_per_value": found.bits_per_value(header.total_bytes),
        "codec": header.codec,
        "codec_version": header.codec_version,
        "calibration": header.calibration,
        "identity": asdict(header.identity),
        "layout": asdict(header.layout),
        "position_start": header.position_start,
        "keys_rotated": header.keys_rotated,
        "parameters": dict(header.parameters),
        "parts": found.parts,
        "sections": [
            {
                "layers": list(use.section.layers),
                "offset": use.section.offset,
                "bytes": use.section.size_bytes,
                "crc32": use.section.crc32,
                "parts": dict(use.parts),
            }
            for use in found.sections
        ],
        "note": found.note,
    }


def _show(file: Path, found: Inspection) -> None:
    from ctxpress.cli.terminal import create_console

    console = create_console()
    console.print(_facts(file, found))
    console.print()
    console.print(_parts(found))
    console.print()
    console.print(_sections(found))
    if found.note:
        console.print(f"\n{found.note}")


def _facts(file: Path, found: Inspection) -> Table:
    header, layout = found.header, found.header.layout
    first = header.position_start
    rows = {
        "file": str(file),
        "codec": f"{header.codec}, version {header.codec_version}",
        "calibration": header.calibration or "none",
        **{name: value or "-" for name, value in asdict(header.identity).items()},
        "shape": f"{layout.n_layers} layers, {layout.n_kv_heads} KV heads, "
        f"{layout.n_tokens} tokens, head_dim {layout.head_dim}, {layout.dtype}",
        "positions": f"{first} to {first + layout.n_tokens - 1}" if layout.n_tokens else str(first),
        "keys": "rotated" if header.keys_rotated else "not rotated",
        **{name: _shortened(value) for name, value in header.parameters.items()},
        "size": _size(found),
    }
    table = _table("", "")
    for name, value in rows.items():
        table.add_row(name, value)
    table.show_header = False
    return table


def _size(found: Inspection) -> str:
    total, decoded = found.header.total_bytes, found.header.layout.decoded_bytes
    bits = found.bits_per_value(total)
    if bits is None:
        return f"{total:,} bytes for no values"
    return (
        f"{total:,} bytes for {decoded:,}: {bits:.3f} bits a value, {decoded / total:.2f}x smaller"
    )


def _parts(found: Inspection) -> Table:
    table = _table("what for", "bytes", "share", "bits a value")
    for name, size_bytes in found.parts.items():
        bits = found.bits_per_value(size_bytes)
        table.add_row(
            name.replace("_", " "),
            f"{size_bytes:,}",
            f"{size_bytes / found.header.total_bytes:.1%}",
            "-" if bits is None else f"{bits:.4f}",
        )
    return table


def _sections(found: Inspection) -> Table:
    """Bits per key for what is of keys, per value for what is of values, per both otherwise."""
    names = [name for name in found.parts if name != "header"]
    table = _table("layers", "bytes", "bits a value", *(name.replace("_", " ") for name in names))
    for use in found.sections:
        first, last = use.section.layers
        layers = (
            "shared" if last == 0 else str(first) if last == first + 1 else f"{first}-{last - 1}"
        )
        n_values = found.values_of(first, last) if last else found.n_values
        cells = [(use.section.size_bytes, n_values)]
        for name in names:
            half = name.endswith(("_k", "_v"))
            cells.append((use.parts.get(name, 0), n_values // 2 if half else n_values))
        table.add_row(layers, f"{use.section.size_bytes:,}", *(_bits(*cell) for cell in cells))
    return table


def _bits(size_bytes: int, n_values: int) -> str:
    return f"{8 * size_bytes / n_values:.3f}" if n_values and size_bytes else "-"


def _shortened(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(columns):
        numeric = place > 0 and len(columns) > 2
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    return table
