"""What is promised to callers: the names, and an import that costs nothing."""

from __future__ import annotations

import subprocess
import sys

import ctxpress

HEAVY = ("aiohttp", "anthropic", "httpx", "numpy", "onnxruntime", "openai", "pydantic", "redis",
         "rich", "tokenizers", "torch", "typer", "uvicorn", "yaml")  # fmt: skip


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip()


def test_names_are_sorted_and_all_there() -> None:
    assert ctxpress.__all__ == sorted(ctxpress.__all__)
    assert len(set(ctxpress.__all__)) == len(ctxpress.__all__)
    public = {name for name in dir(ctxpress) if not name.startswith("_")}
    assert public == set(ctxpress.__all__)


def test_every_name_loads_and_says_what_it_is() -> None:
    for name in ctxpress.__all__:
        assert getattr(ctxpress, name).__doc__, name


def test_import_loads_nothing_heavy() -> None:
    code = f"import sys, ctxpress; print([m for m in {HEAVY} if m in sys.modules])"
    assert run(code) == "[]"


def test_the_sdk_loads_no_torch_and_no_client() -> None:
    absent = ("aiohttp", "redis", "torch", "transformers", "uvicorn")
    code = f"import sys, ctxpress.sdk; print([m for m in {absent} if m in sys.modules])"
    assert run(code) == "[]"


def test_command_line_help_loads_nothing_heavy() -> None:
    heavy = [m for m in HEAVY if m not in ("typer", "rich")]  # the command line is made of these
    code = (
        "import sys, ctxpress.cli\n"
        "ctxpress.cli.main(['--help'])\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    assert run(code).splitlines()[-1] == "[]"
