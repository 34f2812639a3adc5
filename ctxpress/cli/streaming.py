"""``ctxpress bench streaming``: loading KV over links that change, policies side by side."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctxpress.cli.evaluation import must_be_writable, written
from ctxpress.cli.terminal import steps
from ctxpress.errors import ConfigError

if TYPE_CHECKING:
    from ctxpress.evaluation.streaming.comparison import StreamingRow
    from ctxpress.evaluation.streaming.setting import LevelSet, Setting
    from ctxpress.evaluation.streaming.traces import TraceFactory

__all__ = ["streaming"]


def streaming(
    traces: Annotated[
        str, typer.Option("--trace", help="Kinds of links, with commas between; or none.")
    ] = "constant,uniform,drop,bursts",
    trace_file: Annotated[
        Path | None,
        typer.Option("--trace-file", help="A link of your own: lines of milliseconds and Gbit/s."),
    ] = None,
    slos: Annotated[
        str, typer.Option("--slo", help="Milliseconds until the context must be in place.")
    ] = "1000,1500,2000,3000",
    requests: Annotated[
        int, typer.Option("--requests", min=1, help="Requests of each kind of link and SLO.")
    ] = 100,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Tokens of a context.")] = 24_576,
    chunk: Annotated[int, typer.Option("--chunk", min=1, help="Tokens of a chunk.")] = 1_536,
    levels: Annotated[
        Path | None,
        typer.Option("--levels", help="What `ctxpress eval kv --json` printed. (default: shipped)"),
    ] = None,
    codecs: Annotated[
        str | None, typer.Option("--codec", help="Codecs of --levels, with commas between.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option("--record", help="Put the levels used into this file.")
    ] = None,
    kv_bytes: Annotated[
        int, typer.Option("--kv-bytes", min=1, help="Bytes of fp16 KV a token.")
    ] = 131_072,
    prefill: Annotated[
        float, typer.Option("--prefill", help="Tokens a second, without context.")
    ] = 7_680.0,
    decode: Annotated[
        float, typer.Option("--decode", help="Gigabytes of fp16 KV a second that are decoded.")
    ] = 8.0,
    prior: Annotated[
        float, typer.Option("--prior", help="Gbit/s expected before the first measurement.")
    ] = 1.0,
    stress: Annotated[
        float, typer.Option("--stress", help="How much slower the link may become.")
    ] = 10.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the first request.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Rows as JSON, not as tables.")] = False,
    write: Annotated[
        Path | None, typer.Option("--write", help="Put the tables into this Markdown page, too.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw lateness against loss: .svg or .png.")
    ] = None,
) -> None:
    """Simulate contexts that are loaded or recomputed chunk by chunk, and count late ones.

    The controller of ctxpress beside an oracle that knows the link's future, CacheGen's rules as
    released and as published, and fixed choices.
    """
    from ctxpress.cache.streaming import Caution
    from ctxpress.evaluation.streaming.comparison import compare
    from ctxpress.evaluation.streaming.report import streaming_tables
    from ctxpress.evaluation.streaming.setting import Setting
    from ctxpress.evaluation.streaming.traces import BYTES_PER_MS_PER_GBIT_S

    if plot is not None:
        from ctxpress.evaluation.plots import require_matplotlib

        require_matplotlib(plot)
    must_be_writable(record, write, plot)
    slos_ms = _slos(slos)
    factories = _factories(traces, trace_file)
    setting = Setting(
        n_tokens=tokens,
        chunk_tokens=min(chunk, tokens),
        kv_bytes_per_token=kv_bytes,
        levels=_levels(levels, codecs),
        prefill_tokens_per_s=_positive("--prefill", prefill),
        decode_bytes_per_ms=_positive("--decode", decode) * 1e6,
        prior_bytes_per_ms=_positive("--prior", prior) * BYTES_PER_MS_PER_GBIT_S,
    )
    try:
        caution = Caution(stress=stress)
    except ValueError as error:
        raise ConfigError(f"--stress: {error}") from None
    with steps("simulating", len(factories) * len(slos_ms) * requests) as (_, advance):
        rows = compare(
            setting,
            factories,
            slos_ms,
            requests=requests,
            seed=seed,
            caution=caution,
            on_request=advance,
        )
    page = _heading(setting, slos_ms, requests, stress) + "\n\n" + streaming_tables(rows)
    typer.echo(_json(setting, rows) if as_json else page)
    if record is not None:
        text = json.dumps(setting.levels.as_dict(), indent=2) + "\n"
        written(record, lambda path: path.write_text(text, "utf-8"))
    if write is not None:
        from ctxpress.evaluation.sections import replace_section

        written(write, lambda path: replace_section(path, "streaming", "Streaming", page))
    if plot is not None:
        from ctxpress.evaluation.streaming.report import plot_streaming

        written(plot, lambda path: plot_streaming(rows, path))


def _json(setting: Setting, rows: list[StreamingRow]) -> str:
    levels = setting.levels.as_dict()
    return json.dumps({"levels": levels, "rows": [row.as_dict() for row in rows]})


def _heading(setting: Setting, slos_ms: tuple[float, ...], requests: int, stress: float) -> str:
    levels = ", ".join(
        f"`{row.codec}` {row.bits_per_value:.2f} bits and {100 * row.perplexity_change:.2f} %"
        for row in setting.levels.rows
    )
    per_token = setting.kv_bytes_per_token
    return (
        f"`ctxpress bench streaming`: contexts of {setting.n_tokens:,} tokens in chunks of "
        f"{setting.chunk_tokens:,}, {per_token:,} bytes of fp16 KV a token; a value and the "
        f"perplexity lost: {levels} ({setting.levels.source}). Recomputing "
        f"{setting.prefill_tokens_per_s:,.0f} tokens/s without context, decoding "
        f"{setting.decode_bytes_per_ms / 1e6:g} GB/s, {setting.prior_bytes_per_ms / 125_000:g} "
        f"Gbit/s expected at first, stress {stress:g}. {requests} requests for each SLO of "
        f"{', '.join(f'{one:,.0f}' for one in slos_ms)} ms."
    )


def _slos(text: str) -> tuple[float, ...]:
    found = []
    for part in text.split(","):
        try:
            slo_ms = float(part)
        except ValueError:
            slo_ms = 0.0
        if not (slo_ms > 0 and math.isfinite(slo_ms)):
            raise ConfigError(f"--slo: milliseconds above zero are needed, not {part.strip()!r}")
        found.append(slo_ms)
    return tuple(dict.fromkeys(found))


def _positive(option: str, value: float) -> float:
    if not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"{option}: a finite number above zero is needed, not {value:g}")
    return value


def _factories(traces: str, file: Path | None) -> dict[str, TraceFactory]:
    from ctxpress.cli.evaluation_options import parse_names
    from ctxpress.evaluation.streaming.traces import TRACES, file_trace, read_trace

    names = () if traces.strip() == "none" else parse_names("--trace", traces, TRACES)
    factories = {name: TRACES[name] for name in names}
    if file is not None:
        factories[file.name] = file_trace(read_trace(file))
    if not factories:
        raise ConfigError("nothing to simulate: give --trace or --trace-file")
    return factories


def _levels(file: Path | None, codecs: str | None) -> LevelSet:
    from ctxpress.evaluation.streaming.setting import read_levels, shipped_levels

    names = None if codecs is None else [one.strip() for one in codecs.split(",") if one.strip()]
    if file is not None:
        return read_levels(file, names)
    if names is not None:
        raise ConfigError("--codec chooses among --levels: name its file")
    return shipped_levels()
