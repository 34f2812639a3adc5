"""Relevance by any function: another library, an API, a model of one's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence

import numpy as np

from ctxpress.errors import CtxpressError, StageError
from ctxpress.relevance.reading import head_of, mixed
from ctxpress.relevance.scorer import Relevance, Titled
from ctxpress.relevance.sentences import split_sentences

__all__ = ["CallableScorer"]


class CallableScorer:
    """`RelevanceScorer` by `score(question, texts)`, which gives one finite number a text.

    Higher is better; any scale will do, so scores are not calibrated. The function is called once
    a request, with the texts and, if `sentences`, with each of their sentences too, a title on a
    line of its own above either; equal strings stand there once. A text's score is the function's.
    A sentence's is half its own and half its text's; without `sentences`, its text's.

    The function runs in worker threads, several at a time, and must be thread-safe. It is not
    stopped when a request's time is over: what waits for a network needs a timeout of its own.
    """

    def __init__(
        self,
        score: Callable[[str, Sequence[str]], Sequence[float]],
        identity: str,
        *,
        sentences: bool = True,
        languages: Collection[str] | None = None,
    ) -> None:
        """`identity` names function and model with their versions: results are remembered by it.

        :raises ValueError: `identity` is blank.
        :raises TypeError: `score` is a coroutine function.
        """
        if not identity.strip():
            raise ValueError("identity is blank; name the model and its version")
        if inspect.iscoroutinefunction(score):
            raise TypeError("score is a coroutine function; it runs in a thread and has to block")
        self._score = score
        self._identity = f"callable/1/{'sentences' if sentences else 'texts'}/{identity}"
        self._sentences = sentences
        self._languages = None if languages is None else frozenset(languages)

    @property
    def identity(self) -> str:
        """Algorithm version, and what the function was said to be."""
        return self._identity

    @property
    def languages(self) -> frozenset[str] | None:
        """ISO 639-1 codes as given; `None` for any language."""
        return self._languages

    def score(
        self,
        question: str,
        texts: Sequence[Titled],
        *,
        keep_ratio: float | None = None,
        checkpoint: Callable[[], None] | None = None,
    ) -> list[Relevance]:
        """See `RelevanceScorer`.

        :raises StageError: the function failed, or gave something else than a number a text.
        """
        if checkpoint is not None:
            checkpoint()
        sentences = [split_sentences(text.text) for text in texts]
        whole, alone = [], []
        for text, ranges in zip(texts, sentences, strict=True):
            head = head_of(text)
            whole.append(head + text.text)
            alone.append([head + text.text[start:end].strip() for start, end in ranges])
        strings = [*whole, *(one for parts in alone for one in parts)] if self._sentences else whole
        found = self._ask(question, list(dict.fromkeys(strings)))
        if checkpoint is not None:
            checkpoint()
        results = []
        for string, parts, ranges in zip(whole, alone, sentences, strict=True):
            scores = np.full(len(ranges), found[string], np.float32)
            if self._sentences:
                scores = mixed(np.array([found[part] for part in parts], np.float32), scores)
            results.append(Relevance(found[string], ranges, scores))
        return results

    def _ask(self, question: str, strings: list[str]) -> dict[str, float]:
        """Each string's score."""
        if not strings:
            return {}
        try:
            given = self._score(question, tuple(strings))
            scores = np.asarray(given, np.float64)
        except CtxpressError:
            raise
        except Exception as error:  # of whatever library or network it asks
            raise StageError(f"{self._identity}: {type(error).__name__}: {error}") from error
        if scores.shape != (len(strings),):
            raise StageError(
                f"{self._identity}: gave scores of shape {scores.shape} for {len(strings)} texts"
            )
        narrow = np.abs(scores) <= np.finfo(np.float32).max  # false for what is no number
        if not narrow.all():
            raise StageError(f"{self._identity}: text {int(np.argmin(narrow)) + 1} has no finite "
                             "score")  # fmt: skip
        return dict(zip(strings, scores.tolist(), strict=True))
