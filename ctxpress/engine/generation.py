"""One answer in the making: what was asked for, and where it stands."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from ctxpress.engine.attention import Row
from ctxpress.engine.sampling import SampledToken, Sampler, SamplingOptions
from ctxpress.engine.text_stream import TextStream

__all__ = [
    "FinishReason",
    "Finished",
    "Generation",
    "GenerationRequest",
    "Piece",
    "PreparedPrompt",
    "Work",
]

FinishReason = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedPrompt:
    """A prompt whose context is in place: what is left to run, and where.

    ``tokens`` go behind what the row holds, the first at ``position``. ``n_prompt_tokens`` counts
    the whole prompt, ``n_cached_tokens`` the part of it that was not computed for this request.
    ``report``: how the context came to be there. ``keep``: called with the row once all of
    ``tokens`` have been run. ``measured``: called after each run of them, with how many these were,
    how many stood before them, and milliseconds. ``late``: something that the first run of them
    would wait for in its middle, or None when all is here.
    """

    row: Row
    tokens: tuple[int, ...]
    position: int
    n_prompt_tokens: int
    n_cached_tokens: int = 0
    report: dict[str, Any] = field(default_factory=dict)
    keep: Callable[[Row], None] | None = None
    measured: Callable[[int, int, float], None] | None = None
    late: Callable[[], Future[Any] | None] | None = None


T = TypeVar("T")
# Work of the engine's thread in bounded pieces, one between two yields. Where it yields a future,
# there is nothing to do before that is done.
Work = Generator[Future[Any] | None, None, T]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """What to answer, and how.

    ``prepare`` is called in the engine's thread, and ``prepare_again`` where KV that its result was
    waiting for did not come: its own result waits for nothing. ``n_prompt_tokens``: how many tokens
    the prompt has, for admission. ``end_tokens``: ids that end an answer and are no part of it.
    ``begun_tokens``: the answer has begun with them, and ``prepare`` puts them behind the prompt;
    they count as generated, and ``max_tokens`` includes them.
    """

    prepare: Callable[[], Work[PreparedPrompt]]
    prepare_again: Callable[[], Work[PreparedPrompt]] | None = None
    n_prompt_tokens: int
    max_tokens: int
    sampling: SamplingOptions
    stop: tuple[str, ...] = ()
    end_tokens: frozenset[int] = frozenset()
    begun_tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A token that was chosen, and the text that it made certain (often empty)."""

    token: SampledToken
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The end of an answer: the text that was held back, why it ended, and what it took."""

    reason: FinishReason
    text: str = ""
    n_prompt_tokens: int = 0
    n_cached_tokens: int = 0
    n_generated_tokens: int = 0
    error: BaseException | None = None
    report: dict[str, Any] = field(default_factory=dict)


class Generation:
    """The state of one answer. Only the engine's thread changes it, but for :meth:`cancel`."""

    def __init__(
        self,
        request: GenerationRequest,
        tokenizer: Any,
        tell: Callable[[Piece | Finished], None],
        on_cancel: Callable[[], None],
    ) -> None:
        self.request = request
        self.prompt: PreparedPrompt | None = None
        self.preparation: Work[PreparedPrompt] | None = None
        self.waits_for: Future[Any] | None = None
        self.n_run = 0  # of the prompt's own tokens
        self.next_token: int | None = None
        self.position = 0
        self._sampler = Sampler(request.sampling)
        self._text = TextStream(tokenizer, request.stop)
        self._tell = tell
        self._sampler.begin_behind(request.begun_tokens)
        self._text.begin_behind(request.begun_tokens)
        self._n_generated = len(request.begun_tokens)
        self._on_cancel = on_cancel
        self._began_again = False
        self._cancelled = threading.Event()
        self.finished = False

    @property
    def reserved_tokens(self) -> int:
        """The most tokens that its row may come to hold."""
        return self.request.n_prompt_tokens + self.request.max_tokens

    @property
    def can_advance(self) -> bool:
        """Whether there is something to compute before its first token."""
        waits = self.waits_for is not None and not self.waits_for.done()
        return self.next_token is None and not self.finished and not waits

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Stop at the next opportunity; from any thread. Nothing happens after the end."""
        if not self.finished:
            self._cancelled.set()
            self._on_cancel()

    def begin(self) -> None:
        """Prepare the prompt, unless the answer has all its tokens already."""
        if self.request.begun_tokens and self._n_generated >= self.request.max_tokens:
            self.finish("length")
            return
        self.preparation = self.request.prepare()

    def begin_again(self) -> bool:
        """Forget the prompt as far as it was run, and prepare it anew; whether that is possible.

        It is once, before the first token.
        """
        again = self.request.prepare_again
        if again is None or self._began_again or self.next_token is not None:
            return False
        self._began_again = True
        if self.preparation is not None:
            self.preparation.close()
        self.prompt, self.waits_for = None, None
        self.n_run = self.position = 0
        self.preparation = again()
        return True

    def take(self, logits: Any) -> None:
        """Choose the next token from ``logits`` ``(vocabulary,)`` and tell of it."""
        sampled = self._sampler.sample(logits)
        if sampled.token_id in self.request.end_tokens:
            self.finish("stop")
            return
        self._n_generated += 1
        self.next_token = sampled.token_id
        self._tell(Piece(sampled, self._text.push(sampled.token_id)))
        if self._text.stopped:
            self.finish("stop")
        elif self._n_generated >= self.request.max_tokens:
            self.finish("length")

    def finish(self, reason: FinishReason, error: BaseException | None = None) -> None:
        """End the answer, once; what it held is free then."""
        if self.finished:
            return
        self.finished = True
        prompt = self.prompt
        if self.preparation is not None:
            self.preparation.close()
        self.preparation = self.prompt = None
        n_prompt_tokens = self.request.n_prompt_tokens
        if prompt is not None:
            n_prompt_tokens = prompt.n_prompt_tokens - len(self.request.begun_tokens)
        self._tell(
            Finished(
                reason=reason,
                text="" if error else self._text.finish(),
                n_prompt_tokens=n_prompt_tokens,
                n_cached_tokens=0
                if prompt is None
                else min(prompt.n_cached_tokens, n_prompt_tokens),
                n_generated_tokens=self._n_generated,
                error=error,
                report={} if prompt is None else prompt.report,
            )
        )
