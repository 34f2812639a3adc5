"""Documents in every form, a scorer made to order, and one call to run a stage over them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import orjson

import ctxpress
from ctxpress.arrangement import passages_of
from ctxpress.document import ContextDocument
from ctxpress.formats import ParseOptions, parse
from ctxpress.passages import compressed_documents, read_documents, to_context
from ctxpress.pipeline import PipelineResult
from ctxpress.relevance.scorer import Relevance, Titled
from ctxpress.relevance.sentences import split_sentences
from ctxpress.results import CompressedDocuments
from ctxpress.stage import Stage, StageContext, TokenCounter
from ctxpress.testing import WordCounter

QUESTION = "How tall is the tower?"


class FixedScorer:
    """Sentences get the score of the first key of `scores` that is in them, else `other`."""

    identity = "fixed/1"
    languages: frozenset[str] | None = None

    def __init__(
        self,
        scores: Mapping[str, float] | None = None,
        *,
        other: float = 0.02,
        calibrated: bool = True,
    ) -> None:
        self.scores = scores or {}
        self.other = other
        self.calibrated = calibrated
        self.asked: list[tuple[str, list[Titled]]] = []
        self.ratios: list[float | None] = []

    def score(
        self,
        question: str,
        texts: Sequence[Titled],
        *,
        keep_ratio: float | None = None,
        checkpoint: Callable[[], None] | None = None,
    ) -> list[Relevance]:
        self.asked.append((question, list(texts)))
        self.ratios.append(keep_ratio)
        found = []
        for titled in texts:
            if checkpoint is not None:
                checkpoint()
            sentences = split_sentences(titled.text)
            values = [self._one(titled.text[start:end]) for start, end in sentences]
            best = max(values, default=self.other)
            found.append(Relevance(best, sentences, np.array(values, np.float32), self.calibrated))
        return found

    def _one(self, sentence: str) -> float:
        return next((v for key, v in self.scores.items() if key in sentence), self.other)


def listed(documents: Sequence[Any], question: str | None = QUESTION) -> ContextDocument:
    """Documents as the SDK is given them: each a block that may move."""
    given = read_documents(documents)
    document = to_context(given, question=question, model=None, options=ParseOptions())
    return dataclasses.replace(document, question=question)


def tagged(texts: Sequence[str], question: str | None = QUESTION) -> ContextDocument:
    """Documents in one text, with tags around them."""
    body = "\n".join(f'<document id="{n}">\n{t}\n</document>' for n, t in enumerate(texts))
    return _request(f"Answer from these.\n\n{body}\n\n{QUESTION}", question)


def numbered(texts: Sequence[str], question: str | None = QUESTION) -> ContextDocument:
    """Documents in one text, with numbers before them."""
    body = "\n\n".join(f"[{n}] {text}" for n, text in enumerate(texts, start=1))
    return _request(f"{body}\n\nQuestion: {QUESTION}", question)


def extended(
    documents: Sequence[Mapping[str, Any]], question: str | None = QUESTION
) -> ContextDocument:
    """Documents in the field `ctxpress` of a request: in one text, with scores."""
    return _request(QUESTION, question, ctxpress={"documents": documents})


def _request(content: str, question: str | None, **fields: Any) -> ContextDocument:
    body = {"model": "m", "messages": [{"role": "user", "content": content}], **fields}
    document = parse("openai_chat", orjson.dumps(body), ParseOptions()).document
    return dataclasses.replace(document, question=question)


def run(
    stage: Stage,
    document: ContextDocument,
    *,
    deadline_s: float = float("inf"),
    counter: TokenCounter | None = None,
    **context: Any,
) -> ContextDocument:
    """The stage's result; `context` are further fields of `StageContext`."""

    async def main() -> ContextDocument:
        with ThreadPoolExecutor(1) as pool:
            loop = asyncio.get_running_loop()
            given = StageContext(
                counter=counter or WordCounter(),
                executor=lambda work: loop.run_in_executor(pool, work),
                deadline_s=deadline_s,
                **context,
            )
            return await stage.apply(document, given)

    return asyncio.run(main())


def texts_of(document: ContextDocument) -> list[str]:
    """The documents' own texts in their order, without blanks at the ends."""
    return [passage.text.strip() for passage in passages_of(document)]


def through_pipeline(
    documents: Sequence[Any],
    *stages: Mapping[str, Any],
    question: str | None = QUESTION,
    strict: bool = False,
    **options: Any,
) -> CompressedDocuments:
    """What the SDK makes of documents with stages of one's own."""
    given = read_documents(documents)

    async def main() -> PipelineResult:
        document = to_context(given, question=question, model=None, options=ParseOptions())
        async with ctxpress.Pipeline.from_stages(*stages, strict=strict) as pipeline:
            return await pipeline.run(document, **options)

    return compressed_documents(given, asyncio.run(main()))
