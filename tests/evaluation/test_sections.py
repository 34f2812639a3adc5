"""A table goes between its markers, and nothing else of the page changes."""

from __future__ import annotations

from pathlib import Path

from ctxpress.evaluation.sections import replace_section

PAGE = "# Page\n\nBefore.\n\n<!-- a: begin -->\nold\n<!-- a: end -->\n\nAfter.\n"


def test_a_section_is_replaced_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    replace_section(path, "a", "Title", "new\n")
    assert path.read_text() == PAGE.replace("old", "new")


def test_a_new_section_goes_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    replace_section(path, "b", "Title", "table")
    assert path.read_text().startswith(PAGE)
    assert path.read_text().endswith("## Title\n\n<!-- b: begin -->\ntable\n<!-- b: end -->\n")


def test_a_page_that_is_not_there_is_made(tmp_path: Path) -> None:
    replace_section(tmp_path / "quality.md", "a", "Title", "table")
    assert (tmp_path / "quality.md").read_text().startswith("# Quality\n")
