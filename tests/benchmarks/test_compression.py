"""The comparison's texts repeat, its table holds the ratios, its processes say what went wrong."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest

from benchmarks import variants
from benchmarks.compression import BUNDLED, Measured, Row, make_work, table, time_one
from benchmarks.prose import long_text, short_prompts

ROOT = Path(__file__).resolve().parents[2]
OWN = [sys.executable, "-m", "benchmarks.compression_own"]


def test_prose_repeats_and_varies() -> None:
    text = long_text(1000)
    assert text == long_text(1000)
    assert text != long_text(1000, seed=1)
    assert 1000 <= len(text.split()) < 1300
    assert "{" not in text
    sentences = text.replace("\n", " ").split(". ")
    assert len(set(sentences)) > 0.9 * len(sentences)
    assert len(set(short_prompts(8))) == 8


def test_the_table_compares_each_row_with_the_peer_on_its_checkpoint() -> None:
    work = make_work(words=100, prompts=2, runs=1)
    rows = [
        Row("ctxpress, native", "bundled", Measured(0.5, 0.1, 180)),
        Row("llmlingua", "XLM-R-large", Measured(20.0, 4.0, 5000, "llmlingua 0.2.2")),
        Row("ctxpress, native", "XLM-R-large", Measured(5.0, 0.5, 4000)),
        Row("llmlingua", "mBERT", Measured(10.0, 1.0, 2000)),
        Row("ctxpress, native", "mBERT", "needs torch"),
    ]
    lines = list(table(rows, work))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len({len(row) for row in cells}) == 1
    assert cells[2][3] == "40x (XLM-R-large), 20x (mBERT)"
    assert cells[2][5] == "40x (XLM-R-large), 10x (mBERT)"
    assert cells[3][3] == "1.0x"
    assert (cells[4][3], cells[4][5], cells[4][6]) == ("4.0x", "8.0x", "4,000")
    assert cells[6][2] == "not measured: needs torch"
    assert float(cells[2][2].replace(",", "")) == pytest.approx(work.long_tokens / 0.5, abs=1)


def test_a_process_of_its_own_measures_the_bundled_model() -> None:
    work = make_work(words=60, prompts=1, runs=1)
    done = time_one(OWN, {"stage": BUNDLED}, work)
    assert isinstance(done, Measured), done
    assert done.long_s > 0
    assert done.short_s > 0
    assert 50 < done.peak_mib < 1000


def test_what_cannot_be_measured_is_said_in_a_line() -> None:
    work = make_work(words=60, prompts=1, runs=1)
    done = time_one(OWN, {"stage": {**BUNDLED, "backend": "nonsense"}}, work)
    assert isinstance(done, str)
    assert "backend" in done
    assert "\n" not in done


@pytest.mark.parametrize("script", ["compression_peer.py", "checkpoints.py"])
def test_scripts_for_another_python_import_nothing_of_ours(script: str) -> None:
    tree = ast.parse((ROOT / "benchmarks" / script).read_text("utf-8"))
    names = [
        node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert "json" in names or "sys" in names
    assert not {name.split(".")[0] for name in names} & {"ctxpress", "ctxpress_proxy", "benchmarks"}


def test_variants_go_into_a_page_with_their_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, picture, page = (tmp_path / name for name in ("v.json", "v.svg", "page.md"))
    rows = [
        {"name": "a", "layers": 3, "tokens_per_second": 20000, "survival": {"0.5": 0.9}},
        {"name": "b", "layers": 6, "tokens_per_second": 9000, "survival": {"0.5": 1, "0.2": 0.7}},
    ]
    data.write_text(json.dumps(rows))
    page.write_text("# Page\n")
    arguments = ["variants", str(data), "--plot", str(picture), "--write", str(page)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert variants.main() == 0
    assert picture.exists()
    assert "](v.svg)" in page.read_text()
    assert "| a | 3 | 20,000 | 0.900 |  |" in page.read_text()
    data.write_text("[]")
    assert variants.main() == 2
    assert "a list of variants is needed" in capsys.readouterr().err
