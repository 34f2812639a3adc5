"""Puts a measured table into a Markdown page, between markers that name the measurement."""

from __future__ import annotations

from pathlib import Path

__all__ = ["replace_section"]


def replace_section(path: Path, name: str, title: str, text: str) -> None:
    """Replace what stands between the markers of `name`; append a section where there is none.

    :raises OSError: the file cannot be read or written.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    old = path.read_text("utf-8") if path.exists() else f"# {path.stem.capitalize()}\n"
    if begin not in old:
        old = f"{old.rstrip()}\n\n## {title}\n\n{begin}\n{end}\n"
    head, rest = old.split(begin, 1)
    path.write_text(f"{head}{begin}\n{text.strip()}\n{end}{rest.split(end, 1)[1]}", "utf-8")
