"""The sentences of a request's texts, with what about each decides whether it may leave."""

from __future__ import annotations

import dataclasses
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from ctxpress.document import Block, Kind, Source, Span
from ctxpress.plugins.dedupe.words import Lexicon, Reading
from ctxpress.relevance import split_sentences

__all__ = ["Sentence", "TextRun", "is_free", "text_runs"]

_KINDS = frozenset({Kind.PROSE, Kind.DOCUMENT, Kind.TOOL_RESULT, Kind.INSTRUCTION})
_MARKER = re.compile(r"\s*(?:(?:[-*+•>]|\d{1,3}[.)]|[A-Za-z][.)])\s+)*")
_END = re.compile(r"[.!?…。！？｡؟।॥]+[\"'”’»)\]}*_」』）】]*(?:\[\d{1,3}\])*\s*\Z")
_RECORD = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:|\b\d\d:\d\d:\d\d\b|\w=\S|[|\t]"
    r"|\b(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL)\b"
)
_MIN_SPOKEN = 0.5
_LONGEST_END = 80
_LONGEST_INDENT = 80


@dataclass(frozen=True, slots=True, eq=False)
class Sentence:
    """One sentence: the characters `[start, end)` of its run's text, blanks behind it included.

    `movable`: it is prose, and nothing in it is protected.
    """

    start: int
    end: int
    reading: Reading
    movable: bool


@dataclass(frozen=True, slots=True, eq=False)
class TextRun:
    """Spans `[first, last)` of a block that make up one text: one document's, or what is between.

    `tool`: it is a tool's result rather than a document or what somebody wrote.
    """

    block: int
    source: Source | None
    first: int
    last: int
    text: str
    tool: bool
    sentences: tuple[Sentence, ...]


def is_free(span: Span, original: str) -> bool:
    """Whether a span may be cut: free prose, and no stage has written it."""
    if span.protected or span.kind not in _KINDS:
        return False
    return span.text == "".join(original[start:end] for start, end in span.kept)


def text_runs(number: int, block: Block, lexicon: Lexicon, min_words: int) -> list[TextRun]:
    """The runs of block `number`, each with its sentences of at least `min_words` words.

    Questions are left out: what they ask is not told. A line that stands in a run more than once
    is a record of something that happened more than once, and not movable.
    """
    free = [is_free(span, block.original) for span in block.spans]
    runs = []
    for first, last in _stretches(block.spans):
        spans = block.spans[first:last]
        text = "".join(span.text for span in spans)
        sentences = _sentences(text, spans, free[first:last], lexicon, min_words)
        runs.append(
            TextRun(
                block=number,
                source=spans[0].source,
                first=first,
                last=last,
                text=text,
                tool=spans[0].source is None and any(s.kind is Kind.TOOL_RESULT for s in spans),
                sentences=tuple(_without_records(text, sentences)),
            )
        )
    return runs


def _stretches(spans: Sequence[Span]) -> Iterator[tuple[int, int]]:
    first = 0
    for number, span in enumerate(spans):
        if span.markup or span.kind is Kind.QUESTION:
            if number > first:
                yield first, number
            first = number + 1
        elif number > first and span.source != spans[first].source:
            yield first, number
            first = number
    if len(spans) > first:
        yield first, len(spans)


def _sentences(
    text: str, spans: Sequence[Span], free: Sequence[bool], lexicon: Lexicon, min_words: int
) -> Iterator[Sentence]:
    edges = list(accumulate((len(span.text) for span in spans), initial=0))
    bound = list(accumulate((not one for one in free), initial=0))  # spans that may not be cut
    for start, end in split_sentences(text):
        body = text[start:end]
        reading = lexicon.read(_MARKER.sub("", body, count=1))
        if reading.size < min_words:
            continue
        first, last = bisect_right(edges, start) - 1, bisect_left(edges, end)
        movable = bound[first] == bound[last] and _is_prose(body, reading)
        yield Sentence(start, end, reading, movable)


def _is_prose(body: str, reading: Reading) -> bool:
    """Whether a person could have said it: no heading, row, key and value, or line of a log."""
    if reading.spoken < _MIN_SPOKEN or _END.search(body.rstrip()[-_LONGEST_END:]) is None:
        return False
    return _RECORD.search(body.strip()) is None


def _without_records(text: str, sentences: Iterable[Sentence]) -> list[Sentence]:
    found = list(sentences)
    lines = {id(one) for one in found if _is_line(text, one.start, one.end)}
    times = Counter(one.reading.key for one in found if id(one) in lines)
    return [
        dataclasses.replace(one, movable=False)
        if id(one) in lines and times[one.reading.key] > 1
        else one
        for one in found
    ]


def _is_line(text: str, start: int, end: int) -> bool:
    """Whether `text[start:end]` is a line between lines, no paragraph and no part of one."""
    before = text[max(0, start - _LONGEST_INDENT) : start].rstrip(" \t")
    if before and not before.endswith("\n"):
        return False
    body = text[start:end]
    behind = body[len(body.rstrip()) :].count("\n")
    if not behind and end < len(text):
        return False
    above = before[len(before.rstrip()) :].count("\n")
    alone_above = above > 1 or not before.strip()
    alone_below = behind > 1 or end == len(text)
    return not (alone_above and alone_below)
