"""The examples of docs/compact.md are what the stage writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ctxpress.lossless import same_json
from ctxpress.plugins.compact import expand
from ctxpress.plugins.compact.columns import with_columns
from ctxpress.plugins.compact.json_reader import read_json
from ctxpress.plugins.compact.lines import fold_lines
from ctxpress.plugins.compact.tables import fold_tables

PAGE = (Path(__file__).resolve().parents[3] / "docs/compact.md").read_text("utf-8")
SHOWN = re.findall(r"^```(?:json|text)\n(.*?)\n```$", PAGE, re.M | re.S)
EXAMPLES = list(zip(SHOWN[::2], SHOWN[1::2], strict=True))


def written(text):
    """`text` as the stage writes it."""
    read = read_json(text)
    if read is not None:
        return with_columns(read)
    fold = fold_tables if text.startswith("|") else fold_lines
    parts, at = [], 0
    for piece in fold(text, starts_line=True, ends_line=True):
        parts += (text[at : piece.start], piece.text)
        at = piece.end
    return "".join((*parts, text[at:]))


@pytest.mark.parametrize(("before", "after"), EXAMPLES, ids=["array", "lines", "log", "table"])
def test_the_example_is_what_is_written_and_comes_back(before, after):
    assert written(before) == after
    assert expand(after) == before or same_json(expand(after), before)
