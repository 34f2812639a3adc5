"""`ctxpress eval compression` on small sets: tables, JSON, pages, pictures."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run


def test_tables_go_to_standard_output_and_nothing_else(run: Run, data: Path) -> None:
    done = run("eval", "compression", "--data", data, "--ratios", "0.5,1/3", "--question", "hidden")
    assert (done.status, done.err) == (0, "")
    for name in ("nq", "gsm8k", "meeting"):
        assert f"(`{name}`)" in done.out
    assert "| hidden | 33 % | 0.76 |" in done.out
    assert "random words | head | word rarity" in done.out
    assert "| shown |" not in done.out


def test_json_has_a_row_for_each_compressor_ratio_and_view(run: Run, data: Path) -> None:
    arguments = ("--set", "nq,gsm8k", "--ratios", "0.5", "--json")
    done = run("eval", "compression", "--data", data, *arguments)
    value = json.loads(done.out)
    found = [(row["set"], row["compressor"], row["question"]) for row in value["rows"]]
    baselines = ["random words", "head", "word rarity"]
    assert found == [
        ("nq", "token_classification", "hidden"),
        ("nq", "token_classification", "shown"),
        *(("nq", name, "unread") for name in baselines),
        ("gsm8k", "token_classification", "hidden"),
        *(("gsm8k", name, "unread") for name in baselines),
    ]
    problems = next(row for row in value["rows"] if row["set"] == "gsm8k")
    assert (problems["score"], problems["items"]) == (1.0, 2)
    assert value["counter"]


def test_the_folder_may_come_from_the_environment(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CTXPRESS_EVAL_DATA", raising=False)
    done = run("eval", "compression")
    assert done.status == 2
    assert done.err == (
        "ctxpress: name the folder of the data: --data FOLDER, or set CTXPRESS_EVAL_DATA\n"
    )
    monkeypatch.setenv("CTXPRESS_EVAL_DATA", str(data))
    arguments = ("--set", "gsm8k", "--limit", 1, "--ratios", "0.5")
    done = run("eval", "compression", *arguments)
    assert done.status == 0
    assert "1 item," in done.out


def test_page_and_picture_are_written(run: Run, data: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "page.md", tmp_path / "picture.svg"
    page.write_text("# Page\n\n<!-- quality: begin -->\n<!-- quality: end -->\n\nAfter.\n")
    arguments = ("--set", "nq", "--limit", 2, "--ratios", "0.5,0.2", "--write", page)
    done = run("eval", "compression", "--data", data, *arguments, "--plot", picture)
    assert done.status == 0
    assert done.err == f"{page} is written\n{picture} is written\n"
    assert done.out.strip() in page.read_text()
    assert page.read_text().endswith("After.\n")
    assert picture.read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    "stage", ['{"use": "token_classification", "force_tokens": ["."]}', "force_reserve_digit=true"]
)
def test_stages_are_given_as_json_or_pairs(run: Run, data: Path, stage: str) -> None:
    arguments = ("--set", "nq", "--limit", 1, "--ratios", "0.5", "--stage", stage)
    assert run("eval", "compression", "--data", data, *arguments).status == 0


def test_a_pipeline_of_a_file_is_measured_apart_from_its_store(
    run: Run, data: Path, tmp_path: Path
) -> None:
    config = tmp_path / "ctxpress.yaml"
    config.write_text(
        f"version: 1\nstore: disk://{tmp_path}/store\npipelines:\n  mine: {{min_tokens: 0, stages: "
        "[{use: token_classification}]}\n  long: {min_tokens: 5000, stages: "
        "[{use: token_classification}]}\n"
    )
    arguments = ("--set", "nq", "--ratios", "0.5", "--question", "hidden", "--config", config)
    done = run("eval", "compression", "--data", data, *arguments, "--pipeline", "mine")
    assert done.status == 0
    assert "**mine**" in done.out
    assert not (tmp_path / "store").exists()
    done = run("eval", "compression", "--data", data, *arguments, "--pipeline", "long")
    assert "Left whole: up to 3 of 3" in done.out
    assert "| 100.0 % |" in done.out


@pytest.mark.timeout(180)
def test_a_terminal_gets_a_bar_and_a_pipe_none(data: Path) -> None:
    command = [sys.executable, "-m", "ctxpress.cli", "eval", "compression", "--data", str(data)]
    command += ["--set", "nq", "--ratios", "0.5", "--question", "hidden"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    primary, secondary = pty.openpty()
    try:
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, stderr=secondary, env=environment,
            timeout=60,
        )  # fmt: skip
        os.close(secondary)
        shown = os.read(primary, 100_000)
    finally:
        os.close(primary)
    assert b"evaluating" in shown
    assert b"/12" in shown
    assert b"evaluating" not in done.stdout
    piped = subprocess.run(command, check=True, capture_output=True, env=environment, timeout=60)
    assert piped.stderr == b""
