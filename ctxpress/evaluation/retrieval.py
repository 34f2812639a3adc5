"""How stages for documents do: which answers survive, where the gold document ends up, and so on.

=========  ====================  ==============================================================
set        file                  fields of a line
=========  ====================  ==============================================================
`rag`      `rag_dev.jsonl`       `question`, `answers` (a list), `documents` (a list of `id`,
                                 `title` (or null) and `text`), `gold` (the id of the one that
                                 answers; null where none does)
`meeting`  `meeting_dev.jsonl`   `question`, `turns` (each a document), `relevant` (indices)
=========  ====================  ==============================================================
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ctxpress.evaluation.datasets import (
    DataError,
    MeetingItem,
    read_items,
    read_rows,
    string_of,
    strings_of,
)
from ctxpress.evaluation.metrics import answer_survives, bootstrap_interval
from ctxpress.results import CompressedDocuments, Document
from ctxpress.sdk import Pipeline
from ctxpress.stage import TokenCounter

__all__ = [
    "MEETING_RATIO",
    "RETRIEVAL_SETS",
    "Measure",
    "RagItem",
    "RetrievalRow",
    "concerns",
    "measure_retrieval",
    "read_retrieval",
]

Measure = Literal["answers kept", "empty without gold", "gold at the ends", "turns kept"]

TARGETS: Mapping[tuple[Measure, float | None], float] = {
    ("answers kept", 0.1): 0.97,
    ("answers kept", 0.05): 0.90,
    ("empty without gold", None): 0.5,
    ("gold at the ends", None): 0.9,
}
ENDS = 2
"""The gold document stands well among the first or last so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RagItem:
    """A question, its documents, and which of them answers it, if one does."""

    question: str
    documents: tuple[Document, ...]
    answers: tuple[str, ...] = ()
    gold: frozenset[str] = frozenset()
    relevant: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalRow:
    """One pipeline on one set: `score` is the mean over `items` items, with a 95 % interval.

    `keep_ratio` is what was asked for, `None` where the stage decides; tokens are sums over the
    documents' texts. `milliseconds` is the median a question.
    """

    set: str
    measure: Measure
    pipeline: str
    keep_ratio: float | None
    items: int
    score: float
    low: float
    high: float
    target: float | None
    tokens_before: int
    tokens_after: int
    milliseconds: float

    @property
    def achieved_ratio(self) -> float:
        """Tokens after over tokens before."""
        return self.tokens_after / max(1, self.tokens_before)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**asdict(self), "achieved_ratio": self.achieved_ratio}


def read_retrieval(folder: Path, name: str, limit: int | None = None) -> list[RagItem]:
    """The first `limit` items of the set `name`.

    :raises DataError: no such set or file, or a malformed line.
    """
    if name == "meeting":
        return [
            _of_meeting(item)
            for item in read_items(folder, name, limit)
            if isinstance(item, MeetingItem)
        ]
    if name != "rag":
        raise DataError(f"no set is called {name!r}; there are {', '.join(RETRIEVAL_SETS)}")
    return [_rag_item(row, place) for row, place in read_rows(folder / "rag_dev.jsonl", limit)]


RETRIEVAL_SETS = ("rag", "meeting")
MEETING_RATIO = 0.25


@dataclass(slots=True)
class _Tally:
    """What is summed up over the items of a row."""

    scores: list[float] = field(default_factory=list)
    before: int = 0
    after: int = 0
    seconds: list[float] = field(default_factory=list)


async def measure_retrieval(
    name: str,
    measure: Measure,
    items: Sequence[RagItem],
    label: str,
    open_pipeline: Callable[[], Pipeline],
    counter: TokenCounter,
    *,
    keep_ratio: float | None = None,
    on_item: Callable[[], None] = lambda: None,
) -> RetrievalRow:
    """Run a pipeline over the items that `measure` is about; `on_item` is called after each.

    :raises CtxpressError: the pipeline cannot be built, or failed under `strict`.
    :raises DataError: the measure is about none of the items.
    """
    tally = _Tally()
    async with open_pipeline() as pipeline:
        for item in items:
            if concerns(item, measure):
                begun_s = time.perf_counter()
                result = await pipeline.compress_documents(
                    item.question, item.documents, keep_ratio=keep_ratio
                )
                tally.seconds.append(time.perf_counter() - begun_s)
                tally.scores.append(_score(item, result, measure))
                tally.before += sum(counter.count(one.text) for one in item.documents)
                tally.after += sum(counter.count(one.text) for one in result.documents)
            on_item()
    if not tally.scores:
        raise DataError(f"set {name}: no item to measure {measure!r} on")
    interval = bootstrap_interval(tally.scores)
    return RetrievalRow(
        set=name,
        measure=measure,
        pipeline=label,
        keep_ratio=keep_ratio,
        items=len(tally.scores),
        score=sum(tally.scores) / len(tally.scores),
        low=interval.low,
        high=interval.high,
        target=TARGETS.get((measure, keep_ratio)),
        tokens_before=tally.before,
        tokens_after=tally.after,
        milliseconds=1000 * sorted(tally.seconds)[len(tally.seconds) // 2],
    )


def concerns(item: RagItem, measure: Measure) -> bool:
    """Whether `measure` is about this item: some need a gold document, some that there is none."""
    if measure == "empty without gold":
        return not item.gold and not item.relevant
    return bool(item.relevant if measure == "turns kept" else item.gold)


def _score(item: RagItem, result: CompressedDocuments, measure: Measure) -> float:
    if measure == "answers kept":
        # Documents are apart in a prompt: an answer may not straddle two of them.
        return float(any(answer_survives(item.answers, one.text) for one in result.documents))
    if measure == "empty without gold":
        return float(not result.text.strip())
    if measure == "gold at the ends":
        places = [(one.id, one.place) for one in result.documents if one.place is not None]
        last = len(places) - ENDS
        ends = {name for name, place in places if place < ENDS or place >= last}
        return float(bool(ends & item.gold))
    kept = [
        2 * sum(end - start for start, end in one.kept) >= len(given.text)
        for one, given in zip(result.documents, item.documents, strict=True)
    ]
    return sum(kept[number] for number in item.relevant) / len(item.relevant)


def _rag_item(row: Mapping[str, Any], place: str) -> RagItem:
    documents = row.get("documents")
    if not isinstance(documents, list) or not documents:
        raise DataError(f"{place}: documents: a list of objects is needed, not empty")
    read = []
    for number, one in enumerate(documents):
        inside = f"{place}: documents[{number}]"
        if not isinstance(one, dict):
            raise DataError(f"{inside}: an object is needed")
        title = one.get("title")
        if not isinstance(title, str | None):
            raise DataError(f"{inside}: title: a string or null is needed")
        read.append(
            Document(
                id=string_of(one, "id", inside),
                title=title,
                text=string_of(one, "text", inside),
            )
        )
    gold = row.get("gold")
    if gold is not None and all(gold != one.id for one in read):
        raise DataError(f"{place}: gold: {gold!r} is the id of no document")
    return RagItem(
        question=string_of(row, "question", place),
        documents=tuple(read),
        answers=strings_of(row, "answers", place),
        gold=frozenset() if gold is None else frozenset({gold}),
    )


def _of_meeting(item: MeetingItem) -> RagItem:
    documents = tuple(Document(id=str(n), text=turn) for n, turn in enumerate(item.turns))
    return RagItem(question=item.question, documents=documents, relevant=item.relevant)
