"""Numbered passages as RAG frameworks print them: ``[1] …``, ``Document [1](Title: …) …``."""

from __future__ import annotations

import re
from typing import NamedTuple

from ctxpress.formats.fences import fenced_code
from ctxpress.formats.recognised import RecognisedDocument, trimmed

__all__ = ["numbered_passages"]

_WORDS = "Document|Doc|Passage|Source|Context|Chunk|Snippet|Result|Excerpt|Article|Reference|Text"
_MARKER = re.compile(
    rf"""^[ \t]*(?:
      \[(?P<plain>\d{{1,4}})\](?P<paren>\([^()\n]*(?:\([^()\n]*\)[^()\n]*)*\))?:?(?=\s)
    | (?P<dress>[\#*=<_-]{{0,40}})[ ]?(?P<word>{_WORDS}|{_WORDS.upper()})[ ]?
      (?:\[(?P<boxed>\d{{1,4}})\]|\#?(?P<bare>\d{{1,4}}))
      (?P<title>[ ]?\((?:Title:)?[^()\n]*(?:\([^()\n]*\)[^()\n]*)*\))?
      (?:[ ]?[:.)]|(?=[ ]*[\#*=>_-]{{1,40}}[ \t]*$)|(?<=\])(?=\s)|(?<=\))(?=\s)|(?=[ \t]*$))
      [ ]*[\#*=>_-]{{0,40}}
    )[ \t]*""",
    re.VERBOSE | re.MULTILINE,
)
_TITLE = re.compile(r"\(?(?:Title|title):[ ]?")
_TITLE_LINE = re.compile(
    r"\(?[Tt]itle:[ ]?(?P<title>[^\n]{1,300})\n\s*(?:(?:Content|Text|Passage):\s*)?"
)
_LIST_OF_REFERENCES = re.compile(
    r"(?:references|bibliography|works cited|notes|footnotes|sources cited)\W*\Z", re.IGNORECASE
)
# What begins the part behind the last passage.
_BEHIND = re.compile(
    r"^[ \t>*#_]*(?:(?:User|Original|Final|Current|The)?[ ]?(?:Question|Query|Task|Instructions?)|Q"
    r"|(?:Helpful|Final|Short|Your)?[ ]?Answer|FINAL ANSWER|QUESTION)[*_]*[:：]"
    r"|^(?:-{3,}|={3,}|\*{3,}|_{3,}|\#{3,})[ \t]*$"
    r"|^</?[a-z_]+>[ \t]*$",
    re.MULTILINE,
)
_PARAGRAPH = re.compile(r"\n[ \t\r]*\n")
_MIN_WORDS = 8  # on average; shorter "passages" are list items or entries of a bibliography
_ASK_WORDS = 120  # a question behind the passages is not longer


class _Marker(NamedTuple):
    """Where a passage is announced; its text begins at ``end``."""

    start: int
    end: int
    number: int
    style: str
    title: str | None


def numbered_passages(text: str, start: int, end: int) -> tuple[RecognisedDocument, ...]:
    """The passages of the longest run of markers of one style in ``text[start:end]``.

    Numbers must rise by one from 0 or 1 and there must be at least two, of some length; each
    passage runs to the next marker, the last one to the question behind it or to ``end``.
    """
    run = _longest_run(_markers(text, start, end))
    if len(run) < 2:
        return ()
    stops = [marker.start for marker in run[1:]]
    passages = [trimmed(text, marker.end, stop) for marker, stop in zip(run, stops, strict=False)]
    passages.append(_last_passage(text, run[-1].end, end, passages))
    if not _plausible(text, start, end, run, passages):
        return ()
    return tuple(
        RecognisedDocument(
            id=str(marker.number),
            title=marker.title,
            start=passage[0],
            end=passage[1],
            outer_start=marker.start,
            outer_end=passage[1],
        )
        for marker, passage in zip(run, passages, strict=True)
        if passage[1] > passage[0]
    )


def _markers(text: str, start: int, end: int) -> list[_Marker]:
    fences = list(fenced_code(text, start, end))
    at = 0
    markers: list[_Marker] = []
    for found in _MARKER.finditer(text, start, end):
        while at < len(fences) and fences[at].end <= found.start():
            at += 1
        if at < len(fences) and fences[at].start <= found.start() and fences[at].end < end:
            continue
        markers.append(_marker(text, found, end))
    return markers


def _marker(text: str, found: re.Match[str], end: int) -> _Marker:
    stop = found.end()
    title = _bracketed(found["paren"] or found["title"])
    line = _TITLE_LINE.match(text, stop, end) if title is None else None
    if line:
        title, stop = line["title"].strip().rstrip(")"), line.end()
    elif title is None and (found["boxed"] or found["plain"]) and text.startswith("(", stop):
        title = None
    number = int(found["plain"] or found["boxed"] or found["bare"])
    style = f"{found['word']} {found['dress']} {bool(found['boxed'])}" if found["word"] else "["
    return _Marker(found.start(), stop, number, style, title or None)


def _bracketed(title: str | None) -> str | None:
    if not title:
        return None
    return _TITLE.sub("", title.strip()[1:-1], count=1).strip() or None


def _longest_run(markers: list[_Marker]) -> list[_Marker]:
    """The longest sequence of one style that counts up from 0 or 1; of equals the later one."""
    longest: list[_Marker] = []
    runs: dict[str, list[_Marker]] = {}
    for marker in markers:
        run = runs.get(marker.style)
        if run and marker.number == run[-1].number + 1:
            run.append(marker)
        elif marker.number in (0, 1):
            run = runs[marker.style] = [marker]
        else:
            continue  # a number out of order belongs to the passage's text
        if len(run) >= len(longest):
            longest = run
    return longest


def _last_passage(
    text: str, start: int, end: int, others: list[tuple[int, int]]
) -> tuple[int, int]:
    """The range of the last passage: what follows it may be a question without any label."""
    behind = _BEHIND.search(text, start, end)
    if behind:
        return trimmed(text, start, behind.start())
    first, last = trimmed(text, start, end)
    if not any("\n" in text[a:b] for a, b in others):
        newline = text.find("\n", first, last)
        return trimmed(text, first, newline if newline >= 0 else last)
    if not any(_PARAGRAPH.search(text, a, b) for a, b in others):
        blank = _PARAGRAPH.search(text, first, last)
        return trimmed(text, first, blank.start() if blank else last)
    blank_at = text.rfind("\n\n", first, last)
    asks = text[last - 1] in "?？؟" if last > first else False
    if blank_at >= 0 and asks and len(text[blank_at:last].split(None, _ASK_WORDS)) <= _ASK_WORDS:
        return trimmed(text, first, blank_at)
    return first, last


def _plausible(
    text: str,
    start: int,
    end: int,
    run: list[_Marker],
    passages: list[tuple[int, int]],
) -> bool:
    """Whether these are passages to answer from, and not a list or a bibliography."""
    if run[0].style != "[":
        return True
    words = sum(len(text[a:b].split()) for a, b in passages)
    unspaced = sum(b - a for a, b in passages) / 12
    if max(words, unspaced) < _MIN_WORDS * len(passages):
        return False
    inside = sum(b - a for a, b in passages)
    if run[0].start - start > 2 * inside:  # an article with its references behind it
        return False
    before = text[max(start, run[0].start - 200) : run[0].start].rstrip()
    return not _LIST_OF_REFERENCES.search(before.rpartition("\n")[2].strip("# *=_:\n") or "-")
