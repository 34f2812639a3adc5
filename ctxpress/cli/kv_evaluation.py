"""``ctxpress eval kv``: what each codec of KV costs a model, in bits and in quality."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctxpress.cli.evaluation import must_be_writable, written
from ctxpress.cli.evaluation_options import parse_names
from ctxpress.cli.terminal import steps
from ctxpress.errors import ConfigError

if TYPE_CHECKING:
    from ctxpress.cache.calibration import Calibration
    from ctxpress.engine import RotaryModel
    from ctxpress.evaluation.kv_quality import KVMeasure, KVRoute
    from ctxpress.evaluation.kv_tasks import ContextTask
    from ctxpress.evaluation.kv_texts import TextWindow

__all__ = ["kv"]


def kv(
    model: Annotated[
        str, typer.Option("--model", help="A folder, a name on the hub, or reference.")
    ],
    codecs: Annotated[
        str | None,
        typer.Option("--codec", help="Codecs, with commas between. (default: all there are)"),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", help="File of `ctxpress kv calibrate` for this model."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Load the plugins this file enables.")
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option("--texts", help="Text to foretell: .txt, or .jsonl with a field text."),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            "--tasks", help="Kinds of tasks, with commas between; or none. (default: all)"
        ),
    ] = None,
    documents: Annotated[
        int, typer.Option("--documents", min=2, help="Documents in each task.")
    ] = 16,
    n_tasks: Annotated[
        int, typer.Option("--n-tasks", min=1, help="Tasks of each kind, each with questions.")
    ] = 32,
    context: Annotated[
        int, typer.Option("--context", min=1, help="Tokens whose KV is stored, of a window.")
    ] = 512,
    target: Annotated[
        int, typer.Option("--target", min=2, help="Tokens that are foretold from it.")
    ] = 256,
    windows: Annotated[
        int, typer.Option("--windows", min=1, help="The most windows of text.")
    ] = 64,
    chunk: Annotated[int, typer.Option("--chunk", min=1, help="Tokens of a container.")] = 256,
    kv_dtype: Annotated[
        str, typer.Option("--kv-dtype", help="In which KV is stored: float16, bfloat16, float32.")
    ] = "float16",
    dtype: Annotated[
        str, typer.Option("--dtype", help="In which the model computes, or auto.")
    ] = "float32",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or auto.")] = "auto",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Windows run together.")] = 8,
    seed: Annotated[int, typer.Option("--seed", help="Of the tasks.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Rows as JSON, not a table.")] = False,
    write: Annotated[
        Path | None, typer.Option("--write", help="Put the table into this Markdown page, too.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw size against perplexity: .svg or .png.")
    ] = None,
) -> None:
    """Send a model's KV through codecs, and measure how well it goes on from what comes back.

    Perplexity of the second part of texts given the first part's KV, and exact answers to
    generated tasks given their documents' KV; both beside KV as the model computed it.
    """
    from ctxpress.engine.reference import load_named
    from ctxpress.evaluation.kv_quality import measure_tasks, measure_texts

    kinds = _kinds(tasks)
    if texts is None and not kinds:
        raise ConfigError("nothing to measure: give --texts FILE, or --tasks")
    if plot is not None:
        from ctxpress.evaluation.plots import require_matplotlib

        if texts is None:
            raise ConfigError("--plot draws perplexity: give --texts FILE")
        require_matplotlib(plot)
    must_be_writable(write, plot)
    routes, left_out = _routes(codecs, calibration, config, kv_dtype, chunk)
    dtype_name = _one_of("--dtype", dtype, ("auto", "float32", "float16", "bfloat16"))
    device_name = _one_of("--device", device, ("auto", "cpu", "cuda"))
    loaded = load_named(model, device=device_name, dtype=dtype_name)
    parts = _windows(loaded, texts, context, target, windows)
    questions = _tasks(kinds, documents, n_tasks, seed)
    with steps("evaluating", len(parts) + len(questions)) as (describe, advance):
        describe("texts")
        measures = measure_texts(loaded, parts, routes, batch=batch, on_step=advance)
        describe("tasks")
        measure_tasks(loaded, questions, routes, measures, on_step=advance)
    page = _page(loaded, measures, parts, questions, left_out, documents, chunk)
    typer.echo(
        json.dumps({"model": loaded.identity.model, "rows": [m.as_dict() for m in measures]})
        if as_json
        else page
    )
    if write is not None:
        from ctxpress.evaluation.sections import replace_section

        written(write, lambda path: replace_section(path, "kv-quality", "Quality", page))
    if plot is not None:
        from ctxpress.evaluation.kv_report import plot_kv_quality

        written(plot, lambda path: plot_kv_quality(measures, path))


def _kinds(tasks: str | None) -> tuple[str, ...]:
    from ctxpress.evaluation.kv_tasks import KINDS

    if tasks is None:
        return KINDS
    return () if tasks.strip() == "none" else parse_names("--tasks", tasks, KINDS)


def _one_of(option: str, given: str, known: tuple[str, ...]) -> str:
    return parse_names(option, given, known)[0]


def _routes(
    codecs: str | None,
    calibration: Path | None,
    config: Path | None,
    kv_dtype: str,
    chunk: int,
) -> tuple[list[KVRoute], list[str]]:
    """Ways through the codecs, uncompressed ones first, and the names of those left out.

    Codecs that need a calibration are left out where none is given and none was asked for.

    :raises ConfigError: a name, dtype or file is unknown, or a codec asked for needs a calibration.
    """
    from ctxpress.cache.codec import create_codec
    from ctxpress.cache.kv import DTYPES
    from ctxpress.config_file import load_config
    from ctxpress.evaluation.kv_quality import AS_COMPUTED, DROPPED, KVRoute
    from ctxpress.manager import create_plugin_manager

    _one_of("--kv-dtype", kv_dtype, tuple(DTYPES))
    enabled = load_config(config).plugins.enabled if config else ("ctxpress",)
    known = create_plugin_manager(enabled).codec_factories()
    asked = None if codecs is None else parse_names("--codec", codecs, known)
    held = None if calibration is None else _calibration(calibration)
    routes = [KVRoute(AS_COMPUTED, None, kv_dtype), KVRoute(DROPPED, None, kv_dtype, dropped=True)]
    left_out = []
    for name in dict.fromkeys(("raw", *(asked or known))):
        try:
            codec = create_codec(name, held, codecs=known)
        except ConfigError:
            if asked is not None or held is not None:
                raise
            left_out.append(name)
            continue
        routes.append(KVRoute(name, codec, kv_dtype, chunk))
    return routes, left_out


def _calibration(path: Path) -> Calibration:
    from ctxpress.cache.calibration import Calibration
    from ctxpress.errors import CodecError

    try:
        return Calibration.load(path)
    except CodecError as error:
        raise ConfigError(f"--calibration: {error}") from None


def _windows(
    model: RotaryModel, texts: Path | None, context: int, target: int, limit: int
) -> list[TextWindow]:
    from ctxpress.evaluation.kv_texts import read_texts, windows_of

    if texts is None:
        return []
    return windows_of(
        model, read_texts(texts), context_tokens=context, target_tokens=target, limit=limit
    )


def _tasks(kinds: tuple[str, ...], documents: int, n_tasks: int, seed: int) -> list[ContextTask]:
    from ctxpress.evaluation.kv_tasks import generate_tasks

    try:
        return [
            task
            for kind in kinds
            for task in generate_tasks(
                kind,  # type: ignore[arg-type]
                n_documents=documents,
                n_tasks=n_tasks,
                seed=seed,
            )
        ]
    except ValueError as error:
        raise ConfigError(f"--documents: {error}") from None


def _page(
    model: RotaryModel,
    measures: list[KVMeasure],
    windows: list[TextWindow],
    tasks: list[ContextTask],
    left_out: list[str],
    documents: int,
    chunk: int,
) -> str:
    from ctxpress.evaluation.kv_report import kv_table

    shape = f"{model.n_layers} layers, {model.n_kv_heads} KV heads of {model.head_dim} dimensions"
    lines = [
        f"`ctxpress eval kv` on real KV of the model `{Path(model.name).name}` ({shape}, computing "
        f"in {str(model.dtype).removeprefix('torch.')}); keys un-rotated, stored from "
        f"{measures[0].kv_dtype} in chunks of {chunk} tokens, headers and identities included."
    ]
    if windows:
        first = windows[0]
        lines.append(
            f"Perplexity: {len(windows)} windows of text, {len(first.target)} tokens after the KV "
            f"of {len(first.context)}; changes are against KV as computed, intervals by "
            "resampling windows."
        )
    if tasks:
        asked = sum(len(task.questions) for task in tasks)
        lines.append(
            f"Accuracy: exact answers to {asked} questions of {len(tasks)} tasks over {documents} "
            "documents; points are the mean change of all kinds."
        )
    if left_out:
        lines.append(f"Left out, since they need a calibration: {', '.join(left_out)}.")
    return " ".join(lines) + "\n\n" + kv_table(measures)
