"""What flows through a pipeline: one request as blocks of spans, with a map to the original.

A provider's request body is parsed into a :class:`ContextDocument`: one :class:`Block` per text
that the body carries (a message, a content part, a tool result), each cut into
:class:`Span` objects that know whether they may be touched. Everything here is frozen; stages
return new documents. ``Span.kept`` is the source map: the character ranges of the block's
original text that the span is made of, which is what makes citations and law checks possible.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

__all__ = ["Block", "ContextDocument", "Kind", "Range", "Role", "Source", "Span", "is_unicode"]


class Role(StrEnum):
    """Who speaks in a block."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Kind(StrEnum):
    """What a span is. Stages choose what to work on by kind; protection is a field of its own.

    ``log`` and ``table`` are told from code, since a lossless stage may write them in another form.
    """

    INSTRUCTION = "instruction"
    QUESTION = "question"
    DOCUMENT = "document"
    TOOL_RESULT = "tool_result"
    CODE = "code"
    JSON = "json"
    LOG = "log"
    TABLE = "table"
    PROSE = "prose"
    OPAQUE = "opaque"


_REWRITABLE = frozenset({Kind.JSON, Kind.LOG, Kind.TABLE})


class Range(NamedTuple):
    """A half-open range of characters ``[start, end)``."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The document that a span of kind ``document`` belongs to.

    ``start`` is where the document's own text begins in the block's original, so a kept range
    minus ``start`` is an offset in the document (for citations). Documents of one text or one
    array change places only within their ``row``; rows keep their order.
    """

    id: str
    title: str | None = None
    start: int = 0
    score: float | None = None
    row: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of a block's text.

    ``text`` is what will be sent, ``kept`` the ranges of ``Block.original`` it is made of: for an
    extractive stage ``text`` is exactly those ranges joined. A protected span keeps its text,
    byte for byte, through every stage (law 1). One that is ``detachable`` is protected for what it
    is (code, an address, the markup of a document), not because somebody named it: where it is a
    part of a document, it may leave with the whole document.
    """

    text: str
    kind: Kind
    protected: bool
    kept: tuple[Range, ...]
    source: Source | None = None
    detachable: bool = False

    @property
    def markup(self) -> bool:
        """Whether this is what makes a document of the text it stands around, not the text."""
        return self.protected and self.source is not None and self.kind is Kind.INSTRUCTION

    @property
    def pinned(self) -> bool:
        """Whether this must go forward, and its document with it."""
        return self.protected and not (self.detachable and self.source is not None)

    @classmethod
    def of(
        cls,
        original: str,
        start: int,
        end: int,
        kind: Kind,
        *,
        protected: bool,
        source: Source | None = None,
        detachable: bool = False,
    ) -> Span:
        """The untouched span over ``original[start:end]``."""
        kept = (Range(start, end),) if end > start else ()
        return cls(
            text=original[start:end],
            kind=kind,
            protected=protected,
            kept=kept,
            source=source,
            detachable=detachable,
        )

    def keep(self, original: str, kept: tuple[Range, ...]) -> Span:
        """This span made of fewer ranges of ``original``."""
        return dataclasses.replace(self, text="".join(original[a:b] for a, b in kept), kept=kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One text of the request body, or one part that only counts for the conversation's hash.

    ``pointer`` is the JSON pointer (RFC 6901) of the string in the body. ``message`` is the index
    of the message it belongs to and ``turn`` the number of its turn (0 is the first; system text
    and everything before the first user message belong to turn 0). ``digest`` covers role and
    content without ``cache_control``: the conversation's hash is chained over the digests of all
    blocks, opaque ones included. An opaque part (image, tool call, reasoning, …) has no spans.
    ``cache_breakpoint`` says that the part carries a ``cache_control``.

    ``element`` is the pointer of the array element that is the whole document of this block, where
    such elements may change places or leave. ``slot`` is the index of the element whose place it
    takes, ``None`` for its own; a ``dropped`` block leaves with its element and has no spans.
    """

    pointer: str
    role: Role
    turn: int
    message: int
    original: str
    spans: tuple[Span, ...]
    digest: bytes = b""
    cache_breakpoint: bool = False
    element: str | None = None
    slot: int | None = None
    dropped: bool = False

    @property
    def text(self) -> str:
        """The text as it would be sent now."""
        return "".join(span.text for span in self.spans)

    @property
    def kept(self) -> tuple[Range, ...]:
        """The kept ranges of all spans, in order, neighbours joined."""
        merged: list[Range] = []
        for span in self.spans:
            for start, end in span.kept:
                if merged and merged[-1].end == start:
                    merged[-1] = Range(merged[-1].start, end)
                else:
                    merged.append(Range(start, end))
        return tuple(merged)

    @property
    def array(self) -> str | None:
        """The pointer of the array that holds ``element``."""
        return None if self.element is None else self.element.rpartition("/")[0]

    @property
    def index(self) -> int | None:
        """The index of ``element`` in its array, in the body as it came."""
        return None if self.element is None else int(self.element.rpartition("/")[2])

    @property
    def place(self) -> int | None:
        """The index in its array at which ``element`` stands by now."""
        return self.index if self.slot is None else self.slot

    @property
    def opaque(self) -> bool:
        """Whether this block only counts for the conversation's hash."""
        return not self.spans and not self.dropped

    def may_rewrite(self, span: Span) -> bool:
        """Whether a lossless stage may write a protected span of this block in another form.

        The one exception to law 1: JSON, logs and tables that are protected for what they are, in
        a tool result or a document; JSON in a user's text too. Never what somebody named, code,
        a question, an address, or text of the system's or the assistant's own.
        """
        if not (span.protected and span.detachable) or span.kind not in _REWRITABLE:
            return False
        if span.source is not None or self.role is Role.TOOL:
            return True
        return span.kind is Kind.JSON and self.role is Role.USER

    def with_spans(self, spans: tuple[Span, ...]) -> Block:
        """This block with other spans."""
        return dataclasses.replace(self, spans=spans)

    def without_text(self) -> Block:
        """This block as it is when its element leaves."""
        return dataclasses.replace(self, spans=(), slot=None, dropped=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextDocument:
    """A whole request: its blocks in body order and what is known beside them.

    ``question`` is the question of the turn that a stage is being applied to; ``None`` where the
    stage must not depend on one. ``model`` names the target model. ``seed`` stands for earlier
    turns that are not in the body (``previous_response_id``). ``questions`` are those of the
    turns; formats find only the newest turn's, since nothing of earlier ones is decided again.

    ``earlier`` are the texts that stand before all of ``blocks`` in the conversation, as the model
    is sent them. Only stages of scope ``turn`` are given any, and none for a block of a prefix that
    many conversations share. ``drop_reasons`` is how a stage says why single documents left, where
    its ``drop_reason`` does not fit: the pointer of a block, the document in it, the reason.
    """

    blocks: tuple[Block, ...]
    model: str | None = None
    question: str | None = None
    seed: bytes = b""
    questions: tuple[str | None, ...] = ()
    earlier: tuple[str, ...] = ()
    drop_reasons: tuple[tuple[str, Source, str], ...] = ()

    @property
    def last_turn(self) -> int:
        """The number of the newest turn (0 for an empty document)."""
        return max((block.turn for block in self.blocks), default=0)

    def question_of(self, turn: int) -> str | None:
        """The question of a turn, or ``None`` where the turn has none."""
        return self.questions[turn] if 0 <= turn < len(self.questions) else None

    def with_blocks(self, blocks: tuple[Block, ...]) -> ContextDocument:
        """This document with other blocks."""
        return dataclasses.replace(self, blocks=blocks)


def is_unicode(text: str) -> bool:
    """Whether ``text`` can be sent: JSON carries no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
