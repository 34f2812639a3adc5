"""Where the documents in a framework's context end: what the framework itself shows of it.

LlamaIndex (llama-index-core 0.14) prints a node's metadata as lines ``key: value`` in front of its
text, a blank line between; LangChain's answers with sources (langchain-classic 1.0) print
``Content: …`` and ``Source: …``. Without metadata both put a blank line between two documents, as
stands between two paragraphs of one: such a context can be taken apart, not put in another order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ctxpress.document import Range
from ctxpress.formats.fences import fenced_code
from ctxpress.formats.recognised import RecognisedDocument, trimmed

__all__ = ["context_documents"]

_BLANK = re.compile(r"\n[ \t\r]*\n\s*")
_MIN_WORDS = 8  # a shorter paragraph is a heading or a label and goes with the next one
_UNSPACED_CHARACTERS = 24  # as much in scripts that do not part words

_PAIR = re.compile(r"(?P<key>[A-Za-z_][\w.-]{0,60}):(?:[ ](?P<value>[^\n]{0,2000}))?(?:\r?\n|\Z)")
_MAX_HEADER_LINES = 40
# Keys under which readers and parsers keep what a node is, best name for a reader first.
_NAMING_KEYS = (
    *("title", "document_title", "file_name", "filename", "file_path", "source", "url"),
    "header_path",
)
_KNOWN_KEYS = frozenset(
    {
        *_NAMING_KEYS,
        *("page_label", "page_number", "page", "doc_id", "document_id", "file_type", "file_size"),
        *("creation_date", "last_modified_date", "last_accessed_date", "section_summary"),
        *("excerpt_keywords", "questions_this_excerpt_can_answer"),
    }
)

_CONTENT = "Content: "
_SOURCE = re.compile(r"^Source: (?P<source>[^\n]*)(?:\s*\Z|\s*\n(?=Content: ))", re.MULTILINE)


class _Header(NamedTuple):
    """Metadata in front of a node's text: where it stands, and its keys and values."""

    start: int
    end: int
    pairs: tuple[tuple[str, str], ...]
    strict: bool

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(key for key, _ in self.pairs)

    @property
    def known(self) -> bool:
        return not _KNOWN_KEYS.isdisjoint(self.keys)


def context_documents(text: str, start: int, end: int) -> tuple[RecognisedDocument, ...]:
    """The documents in ``text[start:end]``, which is the context part of a framework's prompt.

    Where the framework shows no borders they are paragraphs, and ``ordered``.
    """
    start, end = trimmed(text, start, end)
    paragraphs = list(_paragraphs(text, start, end))
    return (
        _sourced(text, start, end)
        or _nodes(text, paragraphs, end)
        or _ordered(text, paragraphs)
        or (_document("context", None, start, end, start, end),)
    )


def _paragraphs(text: str, start: int, end: int) -> Iterator[Range]:
    """What stands between blank lines; those in fenced code part nothing."""
    fences = list(fenced_code(text, start, end))
    at = 0
    for blank in _BLANK.finditer(text, start, end):
        while at < len(fences) and fences[at].end <= blank.start() + 1:  # its own line's end
            at += 1
        if at < len(fences) and fences[at].start < blank.start():
            continue
        if blank.start() > start:
            yield Range(start, blank.start())
        start = blank.end()
    if end > start:
        yield Range(start, end)


def _sourced(text: str, start: int, end: int) -> tuple[RecognisedDocument, ...]:
    """Documents as ``Content: …`` and, in the line behind it, ``Source: …``."""
    found: list[RecognisedDocument] = []
    if not text.startswith(_CONTENT, start):
        return ()
    opening = start
    for source in _SOURCE.finditer(text, start, end):
        first, last = trimmed(text, opening + len(_CONTENT), source.start())
        if last > first:
            name = source["source"].strip() or None
            stop = trimmed(text, source.start(), source.end())[1]
            found.append(_document(str(len(found) + 1), name, first, last, opening, stop))
        opening = source.end()
    return tuple(found) if opening == end else ()


def _nodes(text: str, paragraphs: Sequence[Range], end: int) -> tuple[RecognisedDocument, ...]:
    """LlamaIndex's nodes: each from its metadata to the next one's.

    A node without metadata cannot be told from its neighbour's last paragraphs and goes with them;
    what stands in front of the first metadata is a document, too.
    """
    headers = _headers(text, paragraphs)
    if not headers:
        return ()
    found: list[RecognisedDocument] = []
    if paragraphs[0].start < headers[0].start:
        first, last = trimmed(text, paragraphs[0].start, headers[0].start)
        found.append(_document("1", None, first, last, first, last))
    stops = [*(header.start for header in headers[1:]), end]
    for header, stop in zip(headers, stops, strict=True):
        first, last = trimmed(text, header.end, stop)
        named = dict(header.pairs)
        title = next((named[key] for key in _NAMING_KEYS if named.get(key)), None)
        number = str(len(found) + 1)
        found.append(_document(number, title, first, last, header.start, last))
    return tuple(found)


def _headers(text: str, paragraphs: Sequence[Range]) -> list[_Header]:
    """The metadata paragraphs, if it is certain enough that they are metadata.

    The first one shows what they look like. One that follows another directly is text: the front
    matter of a file. Where no key is one that readers write, all must have the same ones.
    """
    found: list[_Header] = []
    for place, paragraph in enumerate(paragraphs[:-1]):
        if found and found[-1].start == paragraphs[place - 1].start:
            continue
        header = _header(text, paragraph)
        if header is None:
            continue
        if not found or header.known or (header.strict and header.keys == found[0].keys):
            found.append(header)
    if not found:
        return []
    begins = found[0].start == paragraphs[0].start
    if found[0].known and (begins or len(found) > 1):
        return found
    alike = len(found) > 1 and all(one.keys == found[0].keys for one in found)
    return found if begins and alike and len(found[0].keys) > 1 else []


def _header(text: str, paragraph: Range) -> _Header | None:
    """A paragraph of lines ``key: value``; where a key is known, values may have further lines."""
    start, end = paragraph
    pairs: list[tuple[str, str]] = []
    strict = True
    for _ in range(_MAX_HEADER_LINES):
        if start >= end:
            break
        pair = _PAIR.match(text, start, end)
        if pair:
            pairs.append((pair["key"], (pair["value"] or "").strip()))
            start = pair.end()
            continue
        if not pairs:
            return None
        strict = False
        line = text.find("\n", start, end)
        start = line + 1 if line >= 0 else end
    header = _Header(paragraph.start, paragraph.end, tuple(pairs), strict)
    if start < end or not pairs or not (header.known or strict):
        return None
    return header


def _ordered(text: str, paragraphs: Sequence[Range]) -> tuple[RecognisedDocument, ...]:
    """Paragraphs of some length, which keep their order; none where there is but one."""
    joined: list[Range] = []
    begun: int | None = None
    for start, end in paragraphs:
        begun = start if begun is None else begun
        if _is_long(text, begun, end):
            joined.append(Range(begun, end))
            begun = None
    if begun is not None and joined:
        joined[-1] = Range(joined[-1].start, paragraphs[-1].end)
    if len(joined) < 2:
        return ()
    found = []
    for number, (start, end) in enumerate(joined, start=1):
        first, last = trimmed(text, start, end)
        found.append(
            RecognisedDocument(
                id=f"context-{number}",
                title=None,
                start=first,
                end=last,
                outer_start=first,
                outer_end=last,
                ordered=True,
            )
        )
    return tuple(found)


def _is_long(text: str, start: int, end: int) -> bool:
    if len(text[start:end].split(None, _MIN_WORDS)) >= _MIN_WORDS:
        return True
    body = text[start:end]
    return sum(character > "\u0e00" for character in body) >= _UNSPACED_CHARACTERS


def _document(
    name: str, title: str | None, start: int, end: int, outer_start: int, outer_end: int
) -> RecognisedDocument:
    return RecognisedDocument(
        id=name, title=title, start=start, end=end, outer_start=outer_start, outer_end=outer_end
    )
