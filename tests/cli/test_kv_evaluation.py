"""`ctxpress eval kv` on a small random model: tables, JSON, pages, pictures, mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.engine.models import save_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small")
    save_checkpoint(path)
    return path


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text(" ".join(f"w{2 + number % 80}" for number in range(300)))
    return path


SIZES = ("--context", 40, "--target", 10, "--chunk", 16, "--documents", 2, "--n-tasks", 2)


def test_the_table_says_what_was_measured(run: Run, folder: Path, texts: Path) -> None:
    done = run(
        "eval", "kv", "--model", folder, "--texts", texts, "--codec", "raw", "--device", "cpu",
        "--tasks", "retrieval,counting", *SIZES,
    )  # fmt: skip
    assert done.status == 0
    lines = [line for line in done.out.splitlines() if line.startswith("| ")]
    assert lines[0].startswith("| codec | bits/value | vs fp16 | vs int8 | perplexity | change |")
    assert lines[0].endswith("| retrieval | counting | points |")
    assert [line.split(" | ")[0] for line in lines[1:]] == [
        "| as computed",
        "| no context",
        "| raw",
    ]
    assert "real KV of the model" in done.out
    assert "6 windows of text, 10 tokens after the KV of 40" in done.out


def test_json_page_and_picture(run: Run, folder: Path, texts: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "page.md", tmp_path / "picture.svg"
    done = run(
        "eval", "kv", "--model", folder, "--texts", texts, "--codec", "raw", "--tasks", "none",
        "--kv-dtype", "float32", "--json", "--write", page, "--plot", picture, *SIZES,
    )  # fmt: skip
    rows = json.loads(done.out)["rows"]
    assert [row["codec"] for row in rows] == ["as computed", "no context", "raw"]
    assert abs(rows[2]["perplexity_change"]) < 1e-6
    assert "accuracy" not in rows[1]
    assert "| raw |" in page.read_text()
    assert picture.read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--tasks", "none"), "nothing to measure: give --texts FILE, or --tasks"),
        (("--codec", "row"), "--codec: nothing is called 'row'; did you mean 'raw'?"),
        (("--calibration", "no.safetensors"), "--calibration: no.safetensors: not a calibration"),
        (("--tasks", "retrival"), "did you mean 'retrieval'?"),
        (("--kv-dtype", "float8"), "--kv-dtype: nothing is called 'float8'"),
        (("--plot", "kv.svg"), "--plot draws perplexity: give --texts FILE"),
        (("--codec", "raw", "--documents", "500"), "--documents: n_documents is 500"),
    ],
)
def test_a_mistake_is_one_line(
    run: Run, folder: Path, arguments: tuple[str, ...], problem: str
) -> None:
    done = run("eval", "kv", "--model", folder, *arguments)
    assert done.status == 2
    assert problem in done.err
    assert len(done.err.splitlines()) == 1


def test_documents_through_codecs_are_a_table(run: Run, folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    sizes = ("--documents", 2, "--n-tasks", 1, "--document-tokens", 24)
    done = run("eval", "loaded", "--model", folder, "--codec", "raw,int8", "--write", page, *sizes)
    assert done.status == 0, done.err
    names = [line.split(" | ")[0] for line in done.out.splitlines() if line.startswith("| ")]
    assert names == ["| codec", "| as computed", "| raw", "| int8"]
    assert "| raw |" in page.read_text()
    wrong = run("eval", "loaded", "--model", folder, "--codec", "gzip", *sizes)
    assert wrong.status == 2
    assert "no codec is called 'gzip'" in wrong.err
