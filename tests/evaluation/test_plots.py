"""Pictures are valid, of a readable size, and the same for the same rows."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from ctxpress.errors import ConfigError, MissingDependencyError
from ctxpress.evaluation.datasets import DataError
from ctxpress.evaluation.plots import plot_quality, plot_variants, require_matplotlib
from ctxpress.evaluation.runner import Row
from ctxpress.evaluation.variants import Variant, read_variants
from tests.evaluation.test_runner import row_of

ROWS = [
    row_of(keep_ratio=ratio, tokens_after=int(1000 * ratio), compressor=name, question=view)
    for name, view in (("bundled", "hidden"), ("bundled", "shown"), ("head", "unread"))
    for ratio in (0.2, 0.5)
]
VARIANTS = [
    Variant(name="small", layers=3, tokens_per_second=21000, survival={0.5: 0.88, 0.2: 0.6}),
    Variant(name="large", layers=12, tokens_per_second=4100, survival={0.5: 0.93}),
]


def png_size(path: Path) -> tuple[int, int]:
    """Width and height from the header, after the eight bytes that begin each PNG."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


@pytest.mark.parametrize("kind", ["quality", "variants"])
def test_a_picture_is_valid_and_fits_a_page(kind: str, tmp_path: Path) -> None:
    def draw(path: Path) -> None:
        if kind == "quality":
            plot_quality(ROWS, path)
        else:
            plot_variants(VARIANTS, path)

    draw(tmp_path / "a.png")
    width, height = png_size(tmp_path / "a.png")
    assert 800 <= width <= 2400
    assert 500 <= height <= 1200
    assert 10_000 < (tmp_path / "a.png").stat().st_size < 400_000
    draw(tmp_path / "a.svg")
    assert ET.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")
    draw(tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_each_set_gets_a_panel_of_readable_size(tmp_path: Path) -> None:
    one: list[Row] = list(ROWS)
    two = [*one, row_of(set="meeting", contrast=0.3, target=None)]
    three = [*two, row_of(set="gsm8k", target=1.0)]
    sizes = []
    for rows in (one, two, three):
        plot_quality(rows, tmp_path / "panels.png")
        sizes.append(png_size(tmp_path / "panels.png"))
    assert sizes[0][0] < sizes[1][0] == sizes[2][0]  # never more than two side by side
    assert sizes[1][1] < sizes[2][1]


def test_what_is_missing_or_cannot_be_drawn_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_quality([], tmp_path / "a.png")
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_variants([], tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"a\.gif: a picture's name ends in \.svg or \.png"):
        require_matplotlib(tmp_path / "a.gif")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'ctxpress\[eval\]'"):
        require_matplotlib(tmp_path / "a.png")


def test_variants_are_read_as_training_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "variants.json"
    row = {"name": "s", "layers": 3, "tokens_per_second": 2e4, "survival": {"0.5": 0.9, "0.333": 1}}
    path.write_text(json.dumps([row]))
    assert read_variants(path) == [
        Variant(name="s", layers=3, tokens_per_second=2e4, survival={0.5: 0.9, 0.333: 1.0})
    ]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ("[]", "a list of variants"),
        ("{", "not JSON"),
        ("[1]", "entry 0: an object"),
        ('[{"name": ""}]', "entry 0: name"),
        ('[{"name": "s", "layers": true}]', "entry 0: layers"),
        ('[{"name": "s", "layers": 1, "survival": {}}]', "entry 0: survival"),
        (
            '[{"name": "s", "layers": 1, "survival": {"0.5": 2}, "tokens_per_second": 1}]',
            "entry 0: survival.0.5: a number in",
        ),
        (
            '[{"name": "s", "layers": 1, "survival": {"0.5": 1}, "tokens_per_second": 0}]',
            "entry 0: tokens_per_second: a number above 0",
        ),
    ],
)
def test_malformed_variants_are_named(rows: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "variants.json"
    path.write_text(rows)
    with pytest.raises(DataError) as error:
        read_variants(path)
    assert str(path) in str(error.value)
    assert problem in str(error.value)


def test_variants_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_variants(tmp_path / "none.json")
