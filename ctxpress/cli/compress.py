"""``ctxpress compress``: files or standard input in, shorter text out."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctxpress.cli.terminal import has_colour, progress
from ctxpress.errors import ConfigError

if TYPE_CHECKING:
    from ctxpress.results import CompressedText

__all__ = ["compress"]

STDIN = Path("-")


def compress(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Files to read; none or '-': standard input.")
    ] = None,
    keep_ratio: Annotated[
        float | None,
        typer.Option(
            "--keep-ratio", "-k", help="Fraction of the text to keep, in (0, 1]. (default: 0.5)"
        ),
    ] = None,
    target_tokens: Annotated[
        int | None,
        typer.Option("--target-tokens", "-t", help="Tokens to keep instead, of each file."),
    ] = None,
    question: Annotated[
        str | None, typer.Option("--question", "-q", help="What will be asked of the text.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Count tokens as this model does.")
    ] = None,
    pipeline: Annotated[
        str | None,
        typer.Option(
            "--pipeline", "-p", help="lossless, balanced, aggressive, or one of --config."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Configuration file of the pipeline.")
    ] = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show the whole text, deletions struck out.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a file, one a line.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write here, not to the terminal.")
    ] = None,
) -> None:
    """Compress text and print it; a summary goes to standard error.

    Code, JSON, URLs and <keep>…</keep> stay as they are.

    Several files are compressed one by one and printed one after another.
    """
    if diff and as_json:
        raise ConfigError("give --diff or --json, not both")
    import ctxpress

    shown = []
    for file in files or [STDIN]:
        text = _read(file)
        with progress(f"compressing {_name(file)}"):
            result = ctxpress.compress(
                text,
                keep_ratio=keep_ratio,
                target_tokens=target_tokens,
                question=question,
                model=model,
                pipeline=pipeline,
                config=config,
            )
        typer.echo(f"{_name(file)}: {_summary(result)}", err=True)
        if as_json:
            shown.append(_as_json(file, result))
        elif diff:
            shown.append(_as_diff(text, result, colour=output is None and has_colour(sys.stdout)))
        else:
            shown.append(result.text)
    _write("".join(shown), output)


def _read(file: Path) -> str:
    """The text of a file, its line ends as they are.

    :raises ConfigError: it cannot be read or is not UTF-8 text.
    """
    try:
        raw = sys.stdin.buffer.read() if file == STDIN else file.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{file}: this is a directory, not a file") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    zero = raw.find(b"\0")
    if zero >= 0:
        raise ConfigError(f"{_name(file)}: not text: a zero byte at offset {zero}")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        raise ConfigError(
            f"{_name(file)}: not UTF-8 text: byte 0x{byte:02x} at offset {error.start}"
        ) from None


def _write(text: str, output: Path | None) -> None:
    if output is None:
        typer.echo(text.encode(), nl=sys.stdout.isatty() and not text.endswith("\n"))
        return
    try:  # a new file in its place: an interrupted run leaves the old one whole
        handle, name = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
        os.chmod(name, _mode_of(output))
        os.replace(name, output)
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written: {error.strerror}") from None


def _mode_of(output: Path) -> int:
    """The file's permissions, or what the process gives to new files."""
    if output.exists():
        return output.stat().st_mode & 0o7777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _name(file: Path) -> str:
    return "standard input" if file == STDIN else str(file)


def _summary(result: CompressedText) -> str:
    before, after = result.tokens_before, result.tokens_after
    saved = 100 * (before - after) / before if before else 0.0
    unit = "tokens (estimated)" if result.estimated else "tokens"
    line = (
        f"{before:,} -> {after:,} {unit}, {saved:.0f} % saved, {result.report.elapsed_ms:,.0f} ms"
    )
    return f"{line}; {result.report.reason}" if before == after and result.report.reason else line


def _as_json(file: Path, result: CompressedText) -> str:
    values = {
        "file": str(file),
        "text": result.text,
        "kept": [list(kept) for kept in result.kept],
        "tokens_before": result.tokens_before,
        "tokens_after": result.tokens_after,
        "estimated": result.estimated,
        "stages": [asdict(stage) for stage in result.reports],
    }
    return json.dumps(values, ensure_ascii=False) + "\n"


def _as_diff(text: str, result: CompressedText, *, colour: bool) -> str:
    from ctxpress.cli.diff import from_ranges, from_texts, to_ansi, to_plain

    extractive = "".join(text[start:end] for start, end in result.kept) == result.text
    pieces = from_ranges(text, result.kept) if extractive else from_texts(text, result.text)
    return to_ansi(pieces) if colour else to_plain(pieces)
