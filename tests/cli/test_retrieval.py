"""`ctxpress eval rag` on small sets: tables, JSON, pages, pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

MEASURES = ["answers kept", "answers kept", "empty without gold", "gold at the ends", "turns kept"]


def test_the_table_goes_to_standard_output_and_nothing_else(run: Run, data: Path) -> None:
    done = run("eval", "rag", "--data", data, "--scorers", "bm25", "--ratios", "0.2,0.1")
    assert (done.status, done.err) == (0, "")
    lines = [line for line in done.out.splitlines() if line.startswith("| ")]
    assert lines[0].split(" | ")[4] == "bm25"
    assert [line.split(" | ")[1] for line in lines[1:]] == MEASURES
    assert done.out.rstrip().endswith("Intervals are those of bm25.")


@pytest.mark.timeout(180)
def test_json_has_a_row_for_each_scorer_measure_and_ratio(run: Run, data: Path) -> None:
    arguments = ("--set", "rag", "--limit", 1, "--ratios", "0.2", "--json")
    done = run("eval", "rag", "--data", data, *arguments)
    value = json.loads(done.out)
    assert [(row["pipeline"], row["measure"]) for row in value["rows"]] == [
        (name, measure)
        for name in ("bundled", "bm25", "vectors")
        for measure in ("answers kept", "gold at the ends")  # the first item has a gold document
    ]
    assert all(row["items"] == 1 for row in value["rows"])
    assert value["counter"]


def test_page_and_picture_are_written(run: Run, data: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "page.md", tmp_path / "picture.svg"
    page.write_text("# Page\n\n<!-- rag: begin -->\n<!-- rag: end -->\n\nAfter.\n")
    arguments = ("--set", "rag", "--scorers", "bm25", "--write", page, "--plot", picture)
    done = run("eval", "rag", "--data", data, *arguments)
    assert done.status == 0
    assert done.err == f"{page} is written\n{picture} is written\n"
    assert done.out.strip() in page.read_text()
    assert page.read_text().endswith("After.\n")
    assert picture.read_bytes().startswith(b"<?xml")
