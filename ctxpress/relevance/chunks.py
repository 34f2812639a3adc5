"""What an encoder reads at a time: whole sentences of one text, or of short ones in a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ctxpress.document import Range
from ctxpress.relevance.scorer import Titled

__all__ = ["CHUNK_CHARACTERS", "Chunk", "Piece", "chunks_of", "parts_of"]

CHUNK_CHARACTERS = 900
"""About 200 sub-tokens: with question and title, one window of the encoder."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Sentences `[first, stop)` of the text number `text`."""

    text: int
    first: int
    stop: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """What the encoder reads at a time: pieces of one text, or of several short ones in a row."""

    pieces: tuple[Piece, ...]
    read: Titled
    sentences: tuple[Range, ...]


def chunks_of(texts: Sequence[Titled], sentences: Sequence[Sequence[Range]]) -> list[Chunk]:
    """All sentences in chunks of at most `CHUNK_CHARACTERS`, or of one longer sentence.

    Texts with titles of their own are not read together, those without are: the turns of a
    conversation are understood from their neighbours.
    """
    chunks: list[Chunk] = []
    pending: list[Piece] = []
    size = 0
    for number, ranges in enumerate(sentences):
        for first, stop in _runs(ranges):
            length = ranges[stop - 1].end - ranges[first].start
            apart = bool(texts[number].title) or not pending
            if pending and (apart or size + length > CHUNK_CHARACTERS):
                chunks.append(_chunk(texts, sentences, pending))
                pending, size = [], 0
            pending.append(Piece(number, first, stop))
            size += length
            if texts[number].title:
                chunks.append(_chunk(texts, sentences, pending))
                pending, size = [], 0
    if pending:
        chunks.append(_chunk(texts, sentences, pending))
    return chunks


def parts_of(
    chunk: Chunk,
    chosen: Sequence[bool],
    texts: Sequence[Titled],
    sentences: Sequence[Sequence[Range]],
) -> Chunk | None:
    """A chunk of these texts without the sentences that are not `chosen`; none where none is."""
    pieces: list[Piece] = []
    flags = iter(chosen)
    for piece in chunk.pieces:
        last = None
        for number, flag in zip(range(piece.first, piece.stop), flags, strict=False):
            if flag and last == number - 1:
                pieces[-1] = replace(pieces[-1], stop=number + 1)
            elif flag:
                pieces.append(Piece(piece.text, number, number + 1))
            last = number if flag else last
    return _chunk(texts, sentences, pieces) if pieces else None


def _runs(sentences: Sequence[Range]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    first = 0
    for number, sentence in enumerate(sentences):
        if number > first and sentence.end - sentences[first].start > CHUNK_CHARACTERS:
            runs.append((first, number))
            first = number
    if first < len(sentences):
        runs.append((first, len(sentences)))
    return runs


def _chunk(
    texts: Sequence[Titled], sentences: Sequence[Sequence[Range]], pieces: Sequence[Piece]
) -> Chunk:
    parts, ranges, at = [], [], 0
    for piece in pieces:
        mine = sentences[piece.text][piece.first : piece.stop]
        shift = at - mine[0].start
        ranges += [Range(start + shift, end + shift) for start, end in mine]
        parts.append(texts[piece.text].text[mine[0].start : mine[-1].end])
        at += len(parts[-1]) + 1
    title = texts[pieces[0].text].title
    return Chunk(tuple(pieces), Titled("\n".join(parts), title), tuple(ranges))
