"""A scorer that is quick and made to order, and one call to run the stage with it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ctxpress.document import ContextDocument, Kind
from ctxpress.models import TokenScores
from ctxpress.plugins.token_classification import (
    TokenClassificationConfig,
    TokenClassificationStage,
)
from ctxpress.stage import StageContext, TokenCounter
from ctxpress.testing import WordCounter, make_block, make_document

_TOKEN = re.compile(r"[^\W\d_]+|\d+|_|[^\w\s]")
count = WordCounter().count


class FakeScorer:
    """Scores by a hash of the token's text, or as `scores` says.

    With `uses` it reads questions: tokens in the question are of use 1, others what `uses` says.
    """

    identity = "fake/1"
    languages = frozenset({"en"})

    def __init__(
        self, scores: dict[str, float] | None = None, uses: dict[str, float] | None = None
    ) -> None:
        self.scores = scores or {}
        self.uses = uses
        self.read: list[str] = []
        self.questions: list[str | None] = []

    @property
    def reads_questions(self) -> bool:
        return self.uses is not None

    def score(
        self,
        texts: Sequence[str],
        *,
        question: str | None = None,
        checkpoint: Callable[[], None] | None = None,
    ) -> list[TokenScores]:
        self.read += texts
        self.questions.append(question)
        results = []
        for text in texts:
            if checkpoint is not None:
                checkpoint()
            found = list(_TOKEN.finditer(text))
            values = [
                self.scores.get(m.group(), sum(m.group().encode("utf-8", "replace")) % 97 / 97)
                for m in found
            ]
            use = None
            if question is not None:
                assert self.uses is not None
                asked = set(_TOKEN.findall(question))
                use = np.array(
                    [1.0 if m.group() in asked else self.uses.get(m.group(), 0.0) for m in found],
                    np.float32,
                )
            results.append(
                TokenScores(
                    np.array([m.start() for m in found], np.int32),
                    np.array([m.end() for m in found], np.int32),
                    np.array(values, np.float32),
                    use,
                )
            )
        return results


def run(
    document: ContextDocument,
    *,
    scores: dict[str, float] | None = None,
    scorer: FakeScorer | None = None,
    keep_ratio: float | None = None,
    target_tokens: int | None = None,
    deadline_s: float = float("inf"),
    counter: TokenCounter | None = None,
    **options: Any,
) -> ContextDocument:
    """Run the stage; `keep_ratio` and `target_tokens` are the request's, `options` the stage's.

    Sentences may end up as short as they like unless `min_sentence_words` is given.
    """
    config = TokenClassificationConfig(**{"min_sentence_words": 0, **options})
    stage = TokenClassificationStage(config, scorer or FakeScorer(scores))

    async def main() -> ContextDocument:
        with ThreadPoolExecutor(1) as pool:
            loop = asyncio.get_running_loop()
            context = StageContext(
                counter=counter or WordCounter(),
                executor=lambda work: loop.run_in_executor(pool, work),
                keep_ratio=keep_ratio,
                target_tokens=target_tokens,
                deadline_s=deadline_s,
            )
            return await stage.apply(document, context)

    return asyncio.run(main())


def shorten(*parts: str | tuple[str, Kind, bool], **options: Any) -> str:
    """The text of one block after the stage."""
    return run(make_document(make_block(*parts)), **options).blocks[0].text
