"""The contract of a stage: what it declares, what it is given, what is reported about it."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from ctxpress.document import ContextDocument
from ctxpress.errors import DeadlineError

__all__ = [
    "LosslessStage",
    "Skip",
    "Stage",
    "StageContext",
    "StageReport",
    "StageSkip",
    "StageTraits",
    "TokenCounter",
]

T = TypeVar("T")


class TokenCounter(Protocol):
    """Counts tokens as the target model does, or says that it estimates."""

    @property
    def identity(self) -> str:
        """A name that changes whenever counts could change; part of every fingerprint."""

    @property
    def estimated(self) -> bool:
        """Whether the counts are calibrated estimates rather than the model's own."""

    def count(self, text: str) -> int:
        """Tokens in ``text``; any string is fine."""


class Skip(StrEnum):
    """Why something was not compressed. ``docs/skips.md`` documents every code."""

    OFF = "off"
    OBSERVE = "observe"
    BYPASS = "bypass"
    UNPARSEABLE = "unparseable"
    UNSUPPORTED_TRANSPORT = "unsupported_transport"
    UNSUPPORTED_SHAPE = "unsupported_shape"
    DUPLICATE_KEYS = "duplicate_keys"
    TOO_LARGE = "too_large"
    PROTECTED = "protected"
    NOTHING_TO_COMPRESS = "nothing_to_compress"
    NO_QUESTION = "no_question"
    NO_SCORES = "no_scores"
    TOO_FEW_DOCUMENTS = "too_few_documents"
    BELOW_MIN_TOKENS = "below_min_tokens"
    LANGUAGE = "language"
    EARLIER_TURN = "earlier_turn"
    SHARED_PREFIX = "shared_prefix"
    DEADLINE = "deadline"
    STAGE_FAILED = "stage_failed"
    LAW_BROKEN = "law_broken"
    INFLATED = "inflated"
    STORE_FAILED = "store_failed"
    NO_SAVING = "no_saving"
    OVER_BUDGET = "over_budget"
    NOTHING_RELEVANT = "nothing_relevant"
    OTHER_MODEL = "other_model"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTraits:
    """What a stage promises; the pipeline checks every promise after every run.

    ``extractive``: all that it emits is made of ranges of the original (law 2).
    ``query_aware``: its result depends on the turn's question; it is left out where many
    conversations share a prefix (law 3).
    ``query_optional``: it can also work without a question; where many conversations share a
    prefix it is then given none, instead of being left out.
    ``may_grow``: its result may hold more tokens than its input. Else none of the blocks may, or,
    of a stage that ``arranges``, all of them together.
    ``scope``: ``"block"`` stages see one block at a time and are memoised; ``"turn"`` stages see
    all blocks of the newest turn that have not been sent yet, and in ``ContextDocument.earlier``
    what was sent before them; but those of a prefix that many conversations share one at a time,
    and nothing beside.
    ``keep_ratio``: the fraction it aims to keep by its configuration, or ``None`` for stages
    without a ratio. A request's own ``keep_ratio`` is shared out over the stages that have one.
    ``target_tokens``: the tokens that each block may have by its configuration, or ``None``.
    ``languages``: ISO 639-1 codes that its model was measured on, or ``None`` where language
    does not matter; text in another language is protected from it (law 1).
    ``arranges``: it may move documents, and drop whole ones, with what is protected only as a
    part of them; ``drop_reason`` says in the report why it drops a document.
    ``lossless``: it writes text in another form from which its ``restore`` gives the text back (a
    :class:`LosslessStage`). It may do so with protected JSON, logs and tables too
    (``Block.may_rewrite``), deletes and moves nothing, and is offered blocks in which nothing is
    free. The pipeline restores all that it wrote and compares.
    ``references``: an upstream that holds KV may be sent the documents as references. No stage
    before it may depend on the question.
    """

    extractive: bool = True
    query_aware: bool = False
    query_optional: bool = False
    may_grow: bool = False
    scope: Literal["block", "turn"] = "block"
    keep_ratio: float | None = None
    target_tokens: int | None = None
    languages: frozenset[str] | None = None
    arranges: bool = False
    drop_reason: str = ""
    lossless: bool = False
    references: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StageContext:
    """A stage's only view of the world outside its document.

    ``deadline_s`` is a ``time.monotonic`` value. ``keep_ratio`` overrides the stage's own where a
    request asked for one. ``target_tokens`` is a hard budget for the whole text of the blocks
    given, where the caller gave one; protected text counts, and may exceed it alone.
    ``notes`` takes sentences for the stage's report. ``shared`` is what stages of one request leave
    for later ones of the same request, each under a key of its own.
    ``executor`` runs a blocking function in the pipeline's bounded thread pool. ``over`` is set
    when the request has ended, however it did: work that still runs for it is in vain.
    """

    counter: TokenCounter
    executor: Callable[[Callable[[], Any]], Awaitable[Any]]
    deadline_s: float = float("inf")
    keep_ratio: float | None = None
    target_tokens: int | None = None
    over: threading.Event = field(default_factory=threading.Event)
    notes: list[str] = field(default_factory=list)
    shared: dict[Hashable, Any] = field(default_factory=dict)

    async def run(self, work: Callable[[], T]) -> T:
        """Run CPU or GPU work off the event loop and return its result.

        :raises DeadlineError: when the time budget ends before the work is done or begun.
        """
        self.checkpoint()
        result: T = await self.executor(work)
        return result

    def checkpoint(self) -> None:
        """Give up if nobody waits any more: call it between batches of long work, in any thread.

        :raises DeadlineError: when the time budget has run out, or the request is over.
        """
        if self.over.is_set() or time.monotonic() >= self.deadline_s:
            raise DeadlineError("the time budget of this request ran out")


@runtime_checkable
class Stage(Protocol):
    """One step of a pipeline.

    Built once per pipeline from its frozen configuration; holds no state of a request; may be
    called concurrently. ``identity`` names everything beside the configuration that decides
    its output (model hash, algorithm version): it goes into the fingerprint of every memo.
    """

    @property
    def traits(self) -> StageTraits:
        """What this stage promises."""

    @property
    def identity(self) -> str:
        """Algorithm version and model hash, for fingerprints."""

    async def apply(self, document: ContextDocument, context: StageContext) -> ContextDocument:
        """Return ``document`` with shorter spans; untouched blocks may be returned as they are.

        Raise :class:`StageSkip` to say why nothing was done; any other exception is a failure:
        the pipeline goes on with the text before this stage (law 4).
        """


@runtime_checkable
class LosslessStage(Stage, Protocol):
    """A stage whose traits say ``lossless``."""

    def restore(self, text: str) -> str | None:
        """The text that this stage wrote ``text`` for; ``None`` where it wrote no such text.

        ``text`` is that of one span. Of JSON only the spacing between tokens may come back
        otherwise; everything else comes back character by character.
        """


class StageSkip(Exception):
    """Raised by a stage that has nothing to do; ``code`` and ``reason`` go into the report.

    :raises ValueError: ``code`` is not one of :class:`Skip`: every code has its documentation.
    """

    def __init__(self, code: Skip, reason: str) -> None:
        super().__init__(reason)
        self.code = Skip(code)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """What one stage did in one request, summed over its blocks.

    ``skipped`` is ``None`` when the stage ran on every block it was offered; otherwise it holds
    the code of the most frequent skip and ``reason`` a sentence that says what would change it.
    ``notes`` is what the stage itself has to say.
    """

    stage: str
    tokens_in: int
    tokens_out: int
    elapsed_ms: float
    blocks: int = 0
    blocks_run: int = 0
    memo_hits: int = 0
    skipped: Skip | None = None
    reason: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def ran(self) -> bool:
        """Whether the stage worked on at least one block."""
        return self.blocks_run > 0
