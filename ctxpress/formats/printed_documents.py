"""Documents of the extension field as text, and that text cut into spans.

Where we printed the documents ourselves we know where each of them stands: nothing has to be
recognised, ids, titles and scores are the caller's own, and offsets in a document are exact.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ctxpress.document import Kind, Range, Role, Source, Span
from ctxpress.formats.options import ParseOptions

__all__ = [
    "ExtensionDocument",
    "PrintedDocuments",
    "Segmenter",
    "cut_around_documents",
    "print_documents",
]


class Segmenter(Protocol):
    """Cuts a text into spans that cover it, in order."""

    def __call__(
        self, text: str, *, role: Role, kind: Kind, options: ParseOptions, ask: bool
    ) -> tuple[Span, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionDocument:
    """A document that the caller passed beside the messages. ``score``: higher is better."""

    text: str
    id: str
    title: str | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class PrintedDocuments:
    """Printed documents, ``start`` characters into a string.

    ``places`` are the ranges of the documents' own texts in ``text``, with whose they are.
    """

    text: str
    places: tuple[tuple[Range, Source], ...]
    start: int = 0

    def moved(self, start: int) -> PrintedDocuments:
        """The same documents at another place."""
        return dataclasses.replace(self, start=start)


# The names by which the recogniser and models know documents; in a document's text they are not
# markup.
_TAG = re.compile(
    r"<(?=\s*/?\s*(?:documents?|docs?|contexts?|passages?|search_results?|sources)\b)",
    re.IGNORECASE,
)
_MAX_TITLE_CHARACTERS = 160
_OPENING, _CLOSING = "<documents>\n", "\n</document>\n"


def print_documents(documents: Sequence[ExtensionDocument]) -> PrintedDocuments:
    """The canonical form of documents.

    A ``<document`` or ``</document`` in a document's text loses its ``<`` to ``‹``: no text can
    end its document, and as it keeps its length, character offsets in it stay true.
    """
    parts = [_OPENING]
    at = len(parts[0])
    places: list[tuple[Range, Source]] = []
    for document in documents:
        title = ""
        if document.title is not None:
            title = f' title="{_attribute(document.title[:_MAX_TITLE_CHARACTERS])}"'
        opening = f'<document id="{_attribute(document.id)}"{title}>\n'
        start = at + len(opening)
        end = start + len(document.text)
        source = Source(id=document.id, title=document.title, start=start, score=document.score)
        places.append((Range(start, end), source))
        new = (opening, _TAG.sub("‹", document.text), _CLOSING)
        parts += new
        at += sum(map(len, new))
    parts.append("</documents>")
    return PrintedDocuments("".join(parts), tuple(places))


def _attribute(text: str) -> str:
    for character, name in (("&", "amp"), ('"', "quot"), ("<", "lt"), (">", "gt"), ("\n", "#10")):
        text = text.replace(character, f"&{name};")
    return text


def cut_around_documents(
    text: str,
    printed: PrintedDocuments,
    segmenter: Segmenter,
    *,
    role: Role,
    kind: Kind,
    options: ParseOptions,
    ask: bool,
) -> tuple[Span, ...]:
    """``text``, which holds ``printed``, as spans that cover it.

    Documents are released from the protection of the text they stand in; their markup is
    protected. What stands around them is cut as any text of its role; in front of a question it
    is an instruction, and protected.
    """
    start, end = printed.start, printed.start + len(printed.text)
    before, after = text[:start], text[end:]
    spans: list[Span] = []
    if ask and after.strip():
        spans.append(Span.of(text, 0, start, Kind.INSTRUCTION, protected=True))
    else:
        spans += segmenter(before, role=role, kind=kind, options=options, ask=ask)
    at = start
    spans.append(Span.of(text, at, at + len(_OPENING), Kind.INSTRUCTION, protected=True))
    at += len(_OPENING)
    for place, source in printed.places:
        a, b = place.start + start, place.end + start
        source = dataclasses.replace(source, start=a)
        spans.append(_markup(text, at, a, source))
        # A document is the caller's material in whichever role it stands.
        inside = segmenter(
            text[a:b], role=Role.USER, kind=Kind.DOCUMENT, options=options, ask=False
        )
        spans += (dataclasses.replace(span, source=source) for span in _moved(inside, a))
        at = b + len(_CLOSING)
        spans.append(_markup(text, b, at, source))
    spans.append(Span.of(text, at, end, Kind.INSTRUCTION, protected=True))
    following = segmenter(after, role=role, kind=kind, options=options, ask=ask)
    spans += _moved(following, end)
    return tuple(span for span in spans if span.text)


def _markup(text: str, start: int, end: int, source: Source) -> Span:
    return Span.of(
        text, start, end, Kind.INSTRUCTION, protected=True, source=source, detachable=True
    )


def _moved(spans: Sequence[Span], by: int) -> Iterator[Span]:
    for span in spans:
        kept = tuple(Range(start + by, end + by) for start, end in span.kept)
        source = span.source
        if source is not None:
            source = dataclasses.replace(source, start=source.start + by)
        yield dataclasses.replace(span, kept=kept, source=source)
