"""``ctxpress kv calibrate``: what codecs need to know of a model, measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctxpress.cli.evaluation import must_be_writable, written
from ctxpress.cli.evaluation_options import parse_names
from ctxpress.cli.terminal import steps
from ctxpress.errors import ConfigError

if TYPE_CHECKING:
    from ctxpress.engine import RotaryModel
    from ctxpress.engine.codec_calibration import KVSample, LevelCost

__all__ = ["calibrate"]

_TASK_DOCUMENTS = (8, 16)
_TASK_SEED = 424_242  # far from the seeds that evaluations use


def calibrate(
    model: Annotated[
        str, typer.Option("--model", help="A folder, a name on the hub, or reference.")
    ],
    texts: Annotated[
        Path,
        typer.Option("--texts", help="Sample texts: .txt, or .jsonl with a field text."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The calibration: a safetensors file.")],
    windows: Annotated[
        int, typer.Option("--windows", min=2, help="The most windows of text.")
    ] = 64,
    context: Annotated[
        int, typer.Option("--context", min=2, help="Tokens whose KV is measured, of a window.")
    ] = 512,
    target: Annotated[
        int, typer.Option("--target", min=2, help="Tokens behind it that show what errors cost.")
    ] = 256,
    tasks: Annotated[
        int,
        typer.Option(
            "--tasks",
            min=0,
            help="Generated tasks in context as further samples, so many of each kind.",
        ),
    ] = 0,
    max_kl: Annotated[
        float,
        typer.Option(
            "--max-kl",
            min=0,
            help="Most divergence in nats that the level `kvtc` may cause: 0.01 is about 1 % of "
            "perplexity.",
        ),
    ] = 0.005,
    write: Annotated[
        Path | None, typer.Option("--write", help="Put the table into this Markdown page, too.")
    ] = None,
    dtype: Annotated[
        str, typer.Option("--dtype", help="In which the model computes, or auto.")
    ] = "float32",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or auto.")] = "auto",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Windows run together.")] = 8,
) -> None:
    """Measure a model's KV on sample texts, for the codecs kvtc and cachegen-auto.

    Takes moments of keys and values and of the gradients of what follows, fits transforms, steps
    and frequency tables, and measures on held-out samples what each level costs.
    """
    from ctxpress.engine.codec_calibration import calibrate_codecs
    from ctxpress.engine.reference import load_named

    must_be_writable(out, write)
    dtype_name = parse_names("--dtype", dtype, ("auto", "float32", "float16", "bfloat16"))[0]
    device_name = parse_names("--device", device, ("auto", "cpu", "cuda"))[0]
    loaded = load_named(model, device=device_name, dtype=dtype_name)
    samples = _samples(loaded, texts, windows, context, target, tasks)
    with steps("calibrating", len(samples)) as (_, advance):
        calibration, costs = calibrate_codecs(
            loaded, samples, max_kl_nats=max_kl, batch=batch, on_step=advance
        )
    written(out, calibration.save)
    table = _table(costs, str(calibration.facts["kvtc_default"]))
    measured = f"measured on {calibration.facts['n_tokens']} tokens"
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {measured}\n\n{table}")
    if write is not None:
        from ctxpress.evaluation.sections import replace_section

        page = (
            f"`ctxpress kv calibrate` for the model `{Path(loaded.name).name}`, {measured}; the "
            f"divergence is that of held-out samples, and at most {max_kl} for `kvtc`.\n\n{table}"
        )
        written(write, lambda path: replace_section(path, "kvtc-levels", "Levels of kvtc", page))
    if all(cost.kl_nats > max_kl for cost in costs):
        typer.echo(
            f"no level stays below a divergence of {max_kl}: kvtc is the finest one", err=True
        )


def _samples(
    model: RotaryModel, texts: Path, windows: int, context: int, target: int, n_tasks: int
) -> list[KVSample]:
    from ctxpress.engine.codec_calibration import KVSample
    from ctxpress.evaluation.kv_tasks import KINDS, generate_tasks
    from ctxpress.evaluation.kv_texts import read_texts, windows_of

    parts = windows_of(
        model, read_texts(texts), context_tokens=context, target_tokens=target, limit=windows
    )
    samples = [KVSample("text", part.context, part.target) for part in parts]
    if len(samples) < 2:
        raise ConfigError(f"{texts}: one window of text; a calibration needs at least two")
    for n_documents in _TASK_DOCUMENTS if n_tasks else ():
        for kind in KINDS:
            for task in generate_tasks(
                kind, n_documents=n_documents, n_tasks=n_tasks, seed=_TASK_SEED, split="train"
            ):
                pieces = [model.start_ids, model.token_ids(task.prefix)]
                pieces += [model.token_ids(document) for document in task.documents]
                asked = [
                    [*model.token_ids(question), *model.token_ids(f" {answer}\n")]
                    for question, answer in zip(task.questions, task.answers, strict=True)
                ]
                samples.append(KVSample("tasks", _joined(pieces), _joined(asked)))
    return samples


def _joined(pieces: list[list[int]]) -> tuple[int, ...]:
    return tuple(token for piece in pieces for token in piece)


def _table(costs: list[LevelCost], chosen: str) -> str:
    lines = ["| level | bits/value | vs fp16 | divergence, nats |", "|---|---|---|---|"]
    for cost in costs:
        name = f"{cost.name} = kvtc" if cost.name == chosen else cost.name
        lines.append(
            f"| {name} | {cost.bits_per_value:.3f} | {16 / cost.bits_per_value:.1f}x "
            f"| {cost.kl_nats:.5f} |"
        )
    return "\n".join(lines)
