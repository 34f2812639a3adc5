"""`ctxpress bench streaming`: tables, JSON, page, picture, mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

QUICK = ("--requests", 2, "--slo", "1000", "--trace", "constant", "--tokens", 6144)


def test_a_table_shows_the_controller_beside_oracle_and_rules(run: Run) -> None:
    done = run("bench", "streaming", *QUICK)
    assert (done.status, done.err) == (0, "")
    assert "**Trace `constant`**, 2 requests" in done.out
    for name in ("oracle", "**controller**", "published rule", "released rule", "all text"):
        assert f"| {name} |" in done.out
    assert "contexts of 6,144 tokens in chunks of 1,536" in done.out


def test_json_page_picture_and_levels_are_written(run: Run, tmp_path: Path) -> None:
    page, picture, levels = (tmp_path / name for name in ("p.md", "p.svg", "levels.json"))
    arguments = ("--json", "--write", page, "--plot", picture, "--record", levels)
    done = run("bench", "streaming", *QUICK, *arguments)
    assert done.status == 0
    rows = json.loads(done.out)["rows"]
    assert {row["slo_ms"] for row in rows} == {None, 1000.0}
    assert "<!-- streaming: begin -->" in page.read_text()
    assert picture.read_bytes().startswith(b"<?xml")
    again = run("bench", "streaming", *QUICK, "--json", "--levels", levels)
    assert json.loads(again.out)["rows"] == rows


def test_a_trace_of_ones_own_is_simulated(run: Run, tmp_path: Path) -> None:
    trace = tmp_path / "mine.txt"
    trace.write_text("200 4\n100 1\n")
    arguments = (*QUICK[:4], "--tokens", 6144, "--trace", "none", "--trace-file", trace)
    done = run("bench", "streaming", *arguments)
    assert done.status == 0
    assert "**Trace `mine.txt`**" in done.out
    assert "Trace `constant`" not in done.out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--trace", "constent"], "--trace: nothing is called 'constent'; did you mean 'constant'"),
        (["--trace", "none"], "nothing to simulate"),
        (["--slo", "0"], "--slo: milliseconds above zero are needed, not '0'"),
        (["--slo", "soon"], "--slo: milliseconds above zero are needed, not 'soon'"),
        (["--slo", "nan"], "--slo: milliseconds above zero are needed, not 'nan'"),
        (["--stress", "0.5"], "--stress: stress must be finite and at least 1"),
        (["--prior", "0"], "--prior: a finite number above zero"),
        (["--decode", "inf"], "--decode: a finite number above zero"),
        (["--prefill", "-1"], "--prefill: a finite number above zero"),
        (["--codec", "x"], "--codec chooses among --levels"),
        (["--levels", "no-such.json"], "no-such.json: cannot be read"),
        (["--trace-file", "no-such.txt"], "no-such.txt: cannot be read"),
        (["--plot", "picture.gif"], "picture.gif: a picture's name ends in .svg or .png"),
        (["--write", "no/such/page.md"], "no/such/page.md: cannot be written"),
    ],
)
def test_a_mistake_is_one_line(run: Run, arguments: list[str], problem: str) -> None:
    done = run("bench", "streaming", *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert problem in done.err
