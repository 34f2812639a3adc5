"""What every adapter does between reading its framework's documents and writing them back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from ctxpress.arrangement import through
from ctxpress.document import Range
from ctxpress.errors import ConfigError
from ctxpress.integrations.options import CompressionOptions
from ctxpress.results import CompressedDocument, CompressedDocuments, Document
from ctxpress.sdk import Pipeline
from ctxpress.waiting import wait

__all__ = ["METADATA_KEY", "Retrieved", "RetrievedCompressor", "Survivor", "score_of", "title_of"]

METADATA_KEY = "ctxpress"
"""Where the origin of a document's text is kept in its metadata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """A framework's document as its adapter read it; without text (an image) it goes through."""

    text: str
    id: str | None = None
    score: float | None = None
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """A document that goes on: ``number`` is its place in the list given.

    ``metadata`` are its own and, under :data:`METADATA_KEY`, JSON-ready: ``source`` (its id),
    ``index`` (its place in the list given) and ``kept``, the ranges ``[start, end)`` of its text
    that are left, in characters. Where an earlier compressor had left such a note about the text
    that it was made of, the ranges, id and place are those of the text before that one.
    """

    number: int
    text: str
    metadata: dict[str, Any]


class RetrievedCompressor:
    """A pipeline held for an adapter. Safe to use from several threads and event loops."""

    def __init__(self, options: CompressionOptions, *, question_name: str) -> None:
        """Opens the pipeline; models load on their first use.

        ``question_name`` is what the framework calls a question, for messages.

        :raises CtxpressError: see :meth:`CompressionOptions.open`.
        """
        self._options = options
        self._question_name = question_name
        self._pipeline: Pipeline = options.open()

    def run(self, question: str | None, given: Sequence[Retrieved]) -> list[Survivor]:
        """:meth:`arun`, waited for; also inside a running loop."""
        if not given:
            return []
        return self._finish(given, wait(self._compress(question, given)))

    async def arun(self, question: str | None, given: Sequence[Retrieved]) -> list[Survivor]:
        """What is left of the documents, in the order to which the stages brought them.

        :raises ConfigError: a stage needs a question and there is none.
        :raises StageError: a stage failed and the pipeline is ``strict``.
        """
        if not given:
            return []
        return self._finish(given, await self._compress(question, given))

    async def _compress(
        self, question: str | None, given: Sequence[Retrieved]
    ) -> CompressedDocuments:
        asked = question if question is not None and question.strip() else None
        if asked is None and self._pipeline.question_stages:
            stages = ", ".join(self._pipeline.question_stages)
            raise ConfigError(
                f"{stages} cannot work without a question: give {self._question_name}"
            )
        options = self._options
        return await self._pipeline.compress_documents(
            asked,
            [
                Document(
                    text=one.text,
                    id=one.id,
                    title=title_of(one.metadata, options.title_key),
                    score=one.score,
                )
                for one in given
            ],
            keep_ratio=options.asked_ratio,
            budget_tokens=options.budget_tokens,
            model=options.model,
        )

    def _finish(self, given: Sequence[Retrieved], result: CompressedDocuments) -> list[Survivor]:
        if self._options.on_report is not None:
            self._options.on_report(result)
        return [
            Survivor(
                number=number,
                text=result.documents[number].text,
                metadata={
                    **given[number].metadata,
                    METADATA_KEY: _origin(number, given[number], result.documents[number]),
                },
            )
            for number in _order(given, result.documents)
        ]


def score_of(value: object) -> float | None:
    """A retriever's score, or ``None`` for what is no finite number."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        return None
    return float(value)


def title_of(metadata: Mapping[str, Any], key: str) -> str | None:
    """A document's title, or ``None`` where there is none or it is no text."""
    title = metadata.get(key)
    return title if isinstance(title, str) and title.strip() else None


def _order(given: Sequence[Retrieved], documents: Sequence[CompressedDocument]) -> list[int]:
    """The numbers of the documents that go on.

    Documents without text are no stage's business: they keep their places, and the others take
    the places between them from the first on, as elements of a content array do.
    """
    places = [(one.place, number) for number, one in enumerate(documents)]
    arranged = iter(sorted((place, number) for place, number in places if place is not None))
    order: list[int] = []
    for number, one in enumerate(given):
        if not one.text.strip():
            order.append(number)
        elif (following := next(arranged, None)) is not None:
            order.append(following[1])
    return order


def _origin(number: int, given: Retrieved, document: CompressedDocument) -> dict[str, Any]:
    source, index, kept = given.id, number, document.kept
    earlier = given.metadata.get(METADATA_KEY)
    if isinstance(earlier, Mapping):
        ranges = _ranges(earlier.get("kept"))
        # Only a text that is still made of those ranges can be traced through them.
        if ranges is not None and sum(end - start for start, end in ranges) == len(given.text):
            kept = tuple(through(ranges, kept))
            source = earlier["source"] if isinstance(earlier.get("source"), str) else source
            index = earlier["index"] if type(earlier.get("index")) is int else index
    return {"source": source, "index": index, "kept": [[start, end] for start, end in kept]}


def _ranges(value: object) -> list[Range] | None:
    """Ascending ranges as they come back from JSON; ``None`` for anything else."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    ranges: list[Range] = []
    for pair in value:
        if not isinstance(pair, Sequence) or len(pair) != 2:
            return None
        start, end = pair
        if type(start) is not int or type(end) is not int:
            return None
        if not (ranges[-1].end if ranges else 0) <= start < end:
            return None
        ranges.append(Range(start, end))
    return ranges
