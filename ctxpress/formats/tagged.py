"""Documents between tags: ``<document …>``, ``<documents>``, ``<context>``, ``<passage>``, …"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ctxpress.formats.fences import fenced_code
from ctxpress.formats.marks import Mark
from ctxpress.formats.recognised import RecognisedDocument, trimmed

__all__ = ["tagged_documents"]

# An element of these is a document, unless there are further ones inside: then it only holds them.
_DOCUMENTS = (
    "documents|document|docs|doc|contexts|context|passages|passage|search_results|search_result"
    "|retrieved_documents|retrieved_document|sources"
)
# Where a document has one of these children, that is its own text; the others are about it.
_TEXTS = "document_content|document_contents|page_content|content|text"
_METADATA = "source|title|id|url|metadata|name"

_TAG = re.compile(
    rf"(?<!`)<(?P<close>/?)(?:(?P<document>{_DOCUMENTS})|(?P<text>{_TEXTS})|(?P<metadata>{_METADATA}))"
    r"(?P<attributes>\s[^<>]{0,2000})?>",
    re.IGNORECASE,
)
_ATTRIBUTE = re.compile(r"""([\w:.-]{1,100})\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")
_MAX_METADATA = 1_000


@dataclass(slots=True)
class _Element:
    """An element whose end may not have been found yet. Offsets are those of its tags."""

    name: str
    kind: str
    outer_start: int
    start: int
    attributes: str
    end: int = -1
    outer_end: int = -1
    holds_documents: bool = False
    children: list[_Element] = field(default_factory=list)


def tagged_documents(
    text: str, start: int = 0, end: int | None = None
) -> tuple[RecognisedDocument, ...]:
    """The documents between tags in ``text[start:end]``, in order of appearance.

    Identity and title come from the attributes (``id``, ``index``, ``title``, ``source``, with HTML
    entities resolved) or from child elements, else documents are numbered. Tags without a
    counterpart, in inline code and inside fenced code are no markup.
    """
    end = len(text) if end is None else end
    found: list[RecognisedDocument] = []
    for element in sorted(_elements(text, start, end), key=lambda element: element.outer_start):
        document = _document(text, element, len(found) + 1)
        if document:
            found.append(document)
    return tuple(found)


def _elements(text: str, start: int, end: int) -> Iterator[_Element]:
    """The closed elements that are documents and hold no other documents."""
    if text.find("</", start, end) < 0:
        return
    open_elements: list[_Element] = []
    open_names: dict[str, int] = {}
    for tag in _outside_fences(text, start, end, open_elements):
        kind = tag.lastgroup if tag.lastgroup != "attributes" else _kind(tag)
        name = tag[kind].lower() if kind else ""
        if kind is None or (kind != "document" and not open_elements):
            continue
        if not tag["close"]:
            attributes = tag["attributes"] or ""
            if not attributes.endswith("/"):
                open_elements.append(_Element(name, kind, tag.start(), tag.end(), attributes))
                open_names[name] = open_names.get(name, 0) + 1
            continue
        if not open_names.get(name):
            continue
        while True:  # what was opened inside and never closed is no markup
            element = open_elements.pop()
            open_names[element.name] -= 1
            if element.name == name:
                break
        element.end, element.outer_end = tag.start(), tag.end()
        _close(element, open_elements)
        if element.kind == "document" and not element.holds_documents:
            yield element


def _kind(tag: re.Match[str]) -> str | None:
    return next((kind for kind in ("document", "text", "metadata") if tag[kind]), None)


def _close(element: _Element, ancestors: list[_Element]) -> None:
    """Tell the documents around a closed element of it.

    A document counts in all that are open around it, since the nearest may never be closed and
    so turn out to be no markup. Where one knows already, those outside of it do too.
    """
    for ancestor in reversed(ancestors):
        if ancestor.kind != "document":
            continue
        if element.kind != "document":
            if ancestor is ancestors[-1]:
                ancestor.children.append(element)
            return
        if ancestor.holds_documents:
            return
        ancestor.holds_documents = True


def _outside_fences(
    text: str, start: int, end: int, open_elements: list[_Element]
) -> Iterator[re.Match[str]]:
    """The tags, but for those inside a fenced block that begins outside of every element.

    A fence that begins inside a document hides nothing: documents are often cut in the middle of
    one, and the tags around them still count.
    """
    fences: list[Mark] = [mark for mark in fenced_code(text, start, end) if mark.end < end]
    at = 0
    skip = start
    for tag in _TAG.finditer(text, start, end):
        while at < len(fences) and fences[at].start < tag.start():
            if not open_elements:
                skip = max(skip, fences[at].end)
            at += 1
        if tag.start() >= skip:
            yield tag


def _document(text: str, element: _Element, number: int) -> RecognisedDocument | None:
    start, end = element.start, element.end
    named = {
        match[1].lower(): html.unescape(match[2] or match[3] or match[4] or "")
        for match in _ATTRIBUTE.finditer(element.attributes)
    }
    for child in element.children:
        if child.kind == "text":
            start, end = child.start, child.end
            break
        if child.end - child.start <= _MAX_METADATA:
            named.setdefault(child.name, html.unescape(text[child.start : child.end].strip()))
            if not text[start : child.outer_start].strip():
                start = child.outer_end  # metadata in front of the text
    start, end = trimmed(text, start, end)
    if end <= start:
        return None
    return RecognisedDocument(
        id=named.get("id") or named.get("index") or str(number),
        title=named.get("title") or named.get("source") or named.get("name") or None,
        start=start,
        end=end,
        outer_start=element.outer_start,
        outer_end=element.outer_end,
    )
