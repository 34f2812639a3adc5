"""Errors become one line and an exit status; help and version are quick."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ctxpress
from ctxpress.errors import CtxpressError, MissingDependencyError, StoreError
from tests.cli.conftest import Run

CLI = [sys.executable, "-m", "ctxpress.cli"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MissingDependencyError("install it: pip install 'ctxpress[proxy]'"), 2),
        (StoreError("redis is away"), 1),
        (CtxpressError("something"), 1),
    ],
)
def test_an_error_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    def fail(text: str, **options: object) -> None:
        raise error

    monkeypatch.setitem(vars(ctxpress), "compress", fail)
    done = run("compress", stdin=b"text")
    assert (done.status, done.out, done.err) == (status, "", f"ctxpress: {error}\n")


@pytest.mark.parametrize(
    "arguments",
    [["--nonsense"], ["nonsense"], ["compress", "--keep-ratio", "half"], ["serve", "--port", "-1"]],
)
def test_a_wrong_option_is_the_callers_mistake(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.status == 2
    assert "Traceback" not in done.err
    assert done.out == ""


def test_without_arguments_there_is_help(run: Run) -> None:
    assert "compress" in run().out + run().err


def test_help_and_version_are_quick() -> None:
    # A broken machine, not a slow one, is what this finds: the budget is 0.3 s.
    for option in ("--help", "--version"):
        started = time.monotonic()
        subprocess.run([*CLI, option], check=False, capture_output=True, timeout=30)
        assert time.monotonic() - started < 5


def test_ctrl_c_ends_with_130(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time, ctxpress\n"
        # Whoever runs the tests in the background has this signal ignored, and so have children.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def slow(text, **options):\n"
        "    print('begun', flush=True)\n"
        "    time.sleep(30)\n"
        "ctxpress.compress = slow\n"
        "from ctxpress.cli import main\n"
        "sys.exit(main(['compress', sys.argv[1]]))\n"
    )
    file = tmp_path / "text"
    file.write_text("words")
    with subprocess.Popen(
        [sys.executable, "-c", code, file], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGINT)
        assert b"Traceback" not in process.stderr.read()
        assert process.wait(10) == 130


def test_a_reader_that_leaves_early_gets_no_complaint(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(
            [*CLI, "config", "schema"],
            stdout=closed,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert done.stderr == b""
    assert done.returncode != 0
