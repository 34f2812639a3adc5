"""A command line that runs in this process, and an SDK that needs no model."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import ctxpress
from ctxpress.cli import main
from ctxpress.document import Range
from ctxpress.report import Report
from ctxpress.results import CompressedText
from ctxpress.stage import StageReport
from tests.evaluation.samples import write_sets


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    status: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """``run("compress", "file", stdin=b"…")``."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")

    def run_command(*arguments: object, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        sys.stdout.flush()
        captured = capfd.readouterr()
        return Done(status, captured.out, captured.err)

    return run_command


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Sequence[dict[str, Any]]:
    """Replaces ``ctxpress.compress`` by one that keeps the first half; holds its calls."""
    seen: list[dict[str, Any]] = []

    def compress(text: str, **options: Any) -> CompressedText:
        seen.append({"text": text, **options})
        half = len(text) // 2
        stage = StageReport(stage="half", tokens_in=len(text), tokens_out=half, elapsed_ms=1.0)
        report = Report(
            pipeline="custom", tokens_before=len(text), tokens_after=half, stages=(stage,)
        )
        return CompressedText(text=text[:half], kept=(Range(0, half),), report=report)

    monkeypatch.setitem(vars(ctxpress), "compress", compress)
    return seen


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with a few items of every set that `eval` reads."""
    folder = tmp_path / "data"
    folder.mkdir()
    return write_sets(folder)
