"""The wheel has everything in it and nothing else; installed alone, it works without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WORDS = "So, as I said before, the delivery is going to be about a week late, I am afraid. " * 20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def call(*command: object, **options: object) -> str:
    """Standard output of a command that must succeed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        check=False,
        capture_output=True,
        text=True,
        env=environment | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        timeout=580,
        **options,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that `pip install` would make of a clone."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    names = call("git", "ls-files", "-z", cwd=ROOT).split("\0")
    for name in filter(None, names):  # without whatever else lies in this folder
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    call(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a fresh environment with the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    call(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
    return folder / "bin"


def test_the_wheel_has_what_it_needs_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"ctxpress", "ctxpress_proxy"}
    for name in ("py.typed", "presets/balanced.yaml", "cli/samples/meeting.md"):
        assert f"ctxpress/{name}" in names
    assert any(name.startswith("ctxpress/models/bundled/") for name in names)
    tracked = {
        f"ctxpress/{p.relative_to(ROOT / 'ctxpress').as_posix()}"
        for p in (ROOT / "ctxpress").rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    assert tracked == {name for name in names if name.startswith("ctxpress/")}


def test_it_installs_without_torch(installed: Path) -> None:
    listed = json.loads(call(installed / "python", "-m", "pip", "list", "--format", "json"))
    names = {package["name"].lower() for package in listed}
    assert not names & {"torch", "transformers", "aiohttp", "redis"}
    loaded = call(
        installed / "python", "-c", "import sys, ctxpress; print(sorted(sys.modules))", cwd="/"
    )
    assert "onnxruntime" not in loaded


def test_the_command_compresses_offline(installed: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(WORDS)
    blocked = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [installed / "ctxpress", "compress", text, "--json"],
        check=True, capture_output=True, text=True, cwd=tmp_path, timeout=120,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **blocked},
    )  # fmt: skip
    value = json.loads(done.stdout)
    assert value["tokens_after"] < value["tokens_before"]
    assert "".join(WORDS[a:b] for a, b in value["kept"]) == value["text"]


def test_what_the_proxy_needs_is_named(installed: Path) -> None:
    done = subprocess.run(
        [installed / "ctxpress", "serve", "--upstream", "https://api.example.com"],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "pip install 'ctxpress[proxy]'" in done.stderr
