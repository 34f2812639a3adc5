"""The headings above documents' quotes, `1.1. ## Title`, as Refiner prints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ctxpress.arrangement import Passage

__all__ = ["heading", "headings"]

_MAX_TITLE_CHARACTERS = 200


def heading(passage: Passage, major: int = 1, minor: int = 1) -> str:
    """One line: the numbers, and the document's title, or its id where it has none."""
    source = passage.source
    title = " ".join((source.title or "").encode("utf-8", "replace").decode().split())
    title = title[:_MAX_TITLE_CHARACTERS].rstrip()
    if not title:
        name = " ".join(source.id.encode("utf-8", "replace").decode().split())
        title = f"Document {name[:_MAX_TITLE_CHARACTERS] or passage.number + 1}"
    return f"{major}.{minor}. ## {title}\n"


def headings(
    passages: Sequence[Passage], order: Sequence[int], groups: Mapping[int, int]
) -> dict[int, str]:
    """The heading of every passage in `order`, by its number.

    Numbers rise by one in the order in which a reader meets them: passages only change places
    within their row, so a group that stands in two rows has two numbers.
    """
    rows: dict[str, list[int]] = {passage.row: [] for passage in passages}
    for number in order:
        rows[passages[number].row].append(number)
    found: dict[int, str] = {}
    major = minor = 0
    for members in rows.values():
        last: int | None = None
        for number in members:
            major, minor = (major, minor + 1) if groups[number] == last else (major + 1, 1)
            last = groups[number]
            found[number] = heading(passages[number], major, minor)
    return found
