"""Bodies for upstreams that hold KV: documents of a prompt as references beside it.

The prompt's text stays what it is, character by character: the run of documents in it is replaced
by a marker, and each document, its markup and all that stands before the next one included, goes
into our own field with the digest of its text. An upstream that knows the digest needs not read
the text again; one that does not has the text.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import orjson

from ctxpress.document import Block, Range, Role
from ctxpress.errors import FormatError
from ctxpress.formats.extension import FIELD, MARKER
from ctxpress.formats.json_edit import ReplaceString, apply_edits

__all__ = ["DocumentReference", "References", "referenced"]

FORMATS = frozenset({"openai_chat", "openai_completions"})


@dataclass(frozen=True, slots=True)
class DocumentReference:
    """A document by the SHA-256 of its text, and how long that is."""

    sha256: str
    n_characters: int


@dataclass(frozen=True, slots=True)
class References:
    """A body whose documents are references, and which ones they are."""

    body: bytes
    documents: tuple[DocumentReference, ...]


def referenced(format_name: str, body: bytes, blocks: tuple[Block, ...]) -> References | None:
    """``body`` with the documents of its first block that has any as references.

    ``blocks`` are those of ``body`` as it is. None where no text holds documents, where the
    endpoint's shape has no place for references, or where the text holds the marker already. The
    first block, since what follows it in a growing conversation then stands behind the same KV.
    """
    if format_name not in FORMATS or MARKER.encode() in body:
        return None
    for block in blocks:
        if block.role not in (Role.SYSTEM, Role.USER) or block.element is not None:
            continue
        pieces = list(_documents(block))
        if not pieces:
            continue
        start, end = pieces[0].start, pieces[-1].end
        text = block.original
        edit = ReplaceString(block.pointer, (Range(0, start), MARKER, Range(end, len(text))))
        try:
            body = apply_edits(body, [edit])
        except FormatError:
            return None
        texts = [text[piece.start : piece.end] for piece in pieces]
        return _with_field(body, texts)
    return None


def _documents(block: Block) -> Iterator[Range]:
    """The ranges of a block's documents: each reaches to the next one.

    The last one takes the blanks that stand between others, so that a document has the same text,
    and the same KV, wherever it stands among them.
    """
    places: list[list[int]] = []
    last = None
    for span in block.spans:
        if span.source is None or not span.kept:
            continue
        owner = (span.source.id, span.source.row, span.source.start)
        if owner != last:
            places.append([span.kept[0].start, 0])
            last = owner
        places[-1][1] = span.kept[-1].end
    if not places:
        return
    text, end = block.original, places[-1][1]
    between = Counter(text[one[1] : other[0]] for one, other in pairwise(places))
    gap = between.most_common(1)[0][0] if between else "\n"
    if not gap.strip() and text.startswith(gap, end):
        end += len(gap)
    for start, stop in pairwise([*(start for start, _ in places), end]):
        yield Range(start, stop)


def _with_field(body: bytes, texts: list[str]) -> References | None:
    documents, rows = [], []
    for text in texts:
        try:
            data = text.encode()
        except UnicodeEncodeError:  # a lone surrogate has no digest that all would agree on
            return None
        digest = hashlib.sha256(data).hexdigest()
        documents.append(DocumentReference(digest, len(text)))
        rows.append({"sha256": digest, "text": text})
    field = orjson.dumps({"documents": rows})
    at = body.index(b"{") + 1
    body = body[:at] + b'"' + FIELD.encode() + b'":' + field + b"," + body[at:]
    return References(body, tuple(documents))
