"""Keep scores for sub-tokens from an int8 ONNX encoder, without torch.

One window of real tokens a call: no padding, no batch-mates. The encoder's activations are
quantised at run time with one scale over the whole input of a call, so anything else in the call
would change the scores, and replicas that batch differently would disagree. Within a call every
sum runs over one row in a fixed order, so the number of threads does not matter either. Windows run
side by side in a small thread pool, one thread each, which is also faster than two threads on
one window (`benchmarks/classifier.py`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ctxpress.models.encoding import (
    EDGE_SHAPE,
    SEP_ID,
    UNKNOWN_ID,
    EncodedText,
    encode_head,
    encode_text,
)
from ctxpress.models.windows import Window, plan_windows

if TYPE_CHECKING:
    from tokenizers import Tokenizer


IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]

VECTOR_SIZE = 384
"""Numbers in a sub-token's vector."""
_WORDS_A_CALL = 4_096
_N_LOGITS, _QUOTE, _ANSWER = 4, 2, 3
"""The head's outputs: kept in half, kept in core, in a quote that helps, in an answer."""


@dataclass(frozen=True, slots=True)
class _WindowJob:
    """A window of a text, and where the output of all of the text goes, (n_tokens, width)."""

    text: EncodedText
    window: Window
    output: FloatArray


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Scores of one text's sub-tokens, in order; every array has shape (n_tokens,).

    `starts` and `ends` are int32 offsets in characters (Python `str` indices) of the text.
    `keep_scores` are float32 in [0, 1]: the expected importance, (P(label >= 1) + P(label >= 2)) /
    2. `use_scores`, alike, say how much a sub-token is of use for the question that was read with
    the text; `None` where there was no question.
    """

    starts: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]
    keep_scores: npt.NDArray[np.float32]
    use_scores: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class TokenEvidence:
    """What one text's sub-tokens say about a question; float32 logits, (n_tokens,) each.

    `quote`: the sub-token stands in something that helps with the question. `answer`: it is part
    of an answer. `starts` are int32 offsets in characters.
    """

    starts: npt.NDArray[np.int32]
    quote: FloatArray
    answer: FloatArray


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """Vectors of one text's sub-tokens, (n_tokens, `VECTOR_SIZE`) float32; `starts` as above."""

    starts: npt.NDArray[np.int32]
    vectors: FloatArray


class TokenScorer(Protocol):
    """Gives every sub-token of a text a score by which it is kept."""

    @property
    def identity(self) -> str:
        """Name, version and hash of the model; part of every fingerprint."""

    @property
    def languages(self) -> frozenset[str] | None:
        """ISO 639-1 codes of the languages with measured quality; `None` for any language."""

    @property
    def reads_questions(self) -> bool:
        """Whether `score` takes a question, so that there are `use_scores`."""

    def score(
        self,
        texts: Sequence[str],
        *,
        question: str | None = None,
        checkpoint: Callable[[], None] | None = None,
    ) -> list[TokenScores]:
        """Score each text by itself; see `OnnxTokenScorer.score`."""


class OnnxTokenScorer:
    """Scores with one ONNX Runtime session; built by `load_bundled_scorer`. Thread-safe.

    `run_session` is the session's `run`; `n_threads` windows are computed at a time, whichever
    requests they belong to. `word_levels`, (n_vocabulary, `VECTOR_SIZE`), are the rows of the word
    embedding without their scales.
    """

    def __init__(
        self,
        *,
        run_session: Callable[[list[str], dict[str, IntArray]], list[Any]],
        tokenizer: Tokenizer,
        identity: str,
        languages: frozenset[str],
        window_tokens: int,
        margin_tokens: int,
        n_threads: int,
        word_levels: npt.NDArray[np.int8],
    ) -> None:
        self._run_session = run_session
        self._tokenizer = tokenizer
        self._identity = identity
        self._languages = languages
        self._window_tokens = window_tokens
        self._margin_tokens = margin_tokens
        self._n_threads = n_threads
        self._word_levels = word_levels
        self._pool: ThreadPoolExecutor | None = None
        self._pool_lock = threading.Lock()

    @property
    def identity(self) -> str:
        """Name, version and hash prefix of the model."""
        return self._identity

    @property
    def languages(self) -> frozenset[str]:
        """ISO 639-1 codes of the languages whose quality the model's card shows."""
        return self._languages

    @property
    def reads_questions(self) -> bool:
        """The bundled model has a head for the question."""
        return True

    def score(
        self,
        texts: Sequence[str],
        *,
        question: str | None = None,
        checkpoint: Callable[[], None] | None = None,
    ) -> list[TokenScores]:
        """Score each text by itself: the result for a text never depends on the others.

        With a `question`, every window is read behind it. Any string is fine; a text without
        sub-tokens (empty, blank, only controls) gets empty arrays. `checkpoint` is called before
        each window and may raise to stop the work.
        """
        encoded, outputs = self._read("scores", 2, texts, question, checkpoint)
        return [
            TokenScores(
                text.starts,
                text.ends,
                keep_scores=output[:, 0],
                use_scores=output[:, 1] if question is not None else None,
            )
            for text, output in zip(encoded, outputs, strict=True)
        ]

    def read_jointly(
        self,
        texts: Sequence[str],
        question: str,
        *,
        checkpoint: Callable[[], None] | None = None,
    ) -> list[TokenEvidence]:
        """What every sub-token of each text says about `question`; see `score`."""
        encoded, outputs = self._read("logits", _N_LOGITS, texts, question, checkpoint)
        return [
            TokenEvidence(text.starts, output[:, _QUOTE], output[:, _ANSWER])
            for text, output in zip(encoded, outputs, strict=True)
        ]

    def embed(
        self, texts: Sequence[str], *, checkpoint: Callable[[], None] | None = None
    ) -> list[TokenVectors]:
        """A vector for every sub-token of each text, as the head sees it."""
        encoded, outputs = self._read("hidden", VECTOR_SIZE, texts, None, checkpoint)
        return [
            TokenVectors(text.starts, output) for text, output in zip(encoded, outputs, strict=True)
        ]

    def word_pieces(self, words: Sequence[str]) -> list[tuple[int, ...]]:
        """The ids of the sub-tokens of each word; none for one that the tokenizer does not know."""
        pieces: list[list[int]] = [[] for _ in words]
        # The tokenizer keeps the interpreter to itself for a whole call, so calls are short.
        for start in range(0, len(words), _WORDS_A_CALL):
            encoding = self._tokenizer.encode(
                words[start : start + _WORDS_A_CALL],
                is_pretokenized=True,
                add_special_tokens=False,
            )
            for token_id, number in zip(encoding.ids, encoding.word_ids, strict=True):
                if number is not None and token_id != UNKNOWN_ID:
                    pieces[start + number].append(token_id)
        return [tuple(ids) for ids in pieces]

    def word_vectors(self, token_ids: IntArray) -> FloatArray:
        """The direction of each id's word embedding, (n, `VECTOR_SIZE`), of any length."""
        return np.asarray(self._word_levels[token_ids], np.float32)

    def _read(
        self,
        name: str,
        width: int,
        texts: Sequence[str],
        question: str | None,
        checkpoint: Callable[[], None] | None,
    ) -> tuple[list[EncodedText], list[FloatArray]]:
        """The graph's output `name`, (n_tokens, width) a text, put together from its windows."""
        head = encode_head(self._tokenizer, question)
        body_tokens = self._window_tokens - head.shape[1] - 1
        encoded: list[EncodedText] = []
        outputs: list[FloatArray] = []

        def jobs() -> Iterator[_WindowJob]:
            for text in texts:
                encoded.append(encode_text(self._tokenizer, text))
                n_tokens = len(encoded[-1].token_ids)
                outputs.append(np.empty((n_tokens, width), np.float32))
                for window in plan_windows(n_tokens, body_tokens, self._margin_tokens):
                    yield _WindowJob(encoded[-1], window, outputs[-1])

        def run(job: _WindowJob) -> None:
            if checkpoint is not None:
                checkpoint()
            window = job.window
            owned = self._read_window(name, head, job.text, window)
            job.output[window.own_start : window.own_stop] = owned

        if self._n_threads > 1:
            self._run_side_by_side(run, jobs())
        else:
            for job in jobs():
                run(job)
        return encoded, outputs

    def _run_side_by_side(
        self, run: Callable[[_WindowJob], None], jobs: Iterator[_WindowJob]
    ) -> None:
        """`run` over all jobs in the pool, which begins while this thread still encodes texts."""
        first = next(jobs, None)
        second = next(jobs, None)
        if first is None:
            return
        if second is None:
            run(first)
            return
        pool = self._windows_pool()
        futures: list[Future[None]] = []
        try:
            for job in chain((first, second), jobs):
                futures.append(pool.submit(run, job))
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()  # those that have not begun, where one failed

    def _read_window(
        self, name: str, head: IntArray, text: EncodedText, window: Window
    ) -> FloatArray:
        """(n_own, width): the output for the tokens that the window owns."""
        body = slice(window.start, window.stop)
        token_ids = np.concatenate([head[0], text.token_ids[body], [SEP_ID]], dtype=np.int32)
        shape_ids = np.concatenate([head[1], text.shape_ids[body], [EDGE_SHAPE]], dtype=np.int32)
        (values,) = self._run_session(
            [name], {"token_ids": token_ids[None], "shape_ids": shape_ids[None]}
        )
        first = head.shape[1] + window.own_start - window.start
        owned: FloatArray = values[0, first : first + window.own_stop - window.own_start]
        return owned

    def _windows_pool(self) -> ThreadPoolExecutor:
        with self._pool_lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(
                    self._n_threads, thread_name_prefix="ctxpress-score"
                )
            return self._pool


def usable_cores(limit: int) -> int:
    """Cores this process may run on, at most `limit`."""
    affinity = getattr(os, "sched_getaffinity", None)
    return min(limit, len(affinity(0)) if affinity is not None else os.cpu_count() or 1)
