"""Collects the blocks of a conversation while a format walks over its body.

The four formats differ in where texts stand; what makes a turn, which text holds the question,
what a digest covers and which texts are protected is the same for all and decided here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ctxpress.document import Block, ContextDocument, Kind, Role, Source, Span
from ctxpress.errors import FormatError
from ctxpress.formats.digest import element_digest
from ctxpress.formats.options import ParseOptions
from ctxpress.formats.printed_documents import (
    PrintedDocuments,
    Segmenter,
    cut_around_documents,
)
from ctxpress.formats.tool_results import ToolCall, reads_files
from ctxpress.stage import Skip

__all__ = ["BlockBuilder", "known_messages", "one_span"]


def one_span(
    text: str, *, role: Role, kind: Kind, options: ParseOptions, ask: bool
) -> tuple[Span, ...]:
    """The segmenter for when only the structure counts: one protected span."""
    return (Span.of(text, 0, len(text), kind, protected=True),) if text else ()


MAX_BLOCKS = 20_000  # `{},` a million times is a small body and minutes of work


_KINDS = {
    Role.SYSTEM: Kind.INSTRUCTION,
    Role.USER: Kind.PROSE,
    Role.ASSISTANT: Kind.PROSE,
    Role.TOOL: Kind.TOOL_RESULT,
}

# Agents add such parts around what the user typed: `<system-reminder>…`, `<environment_details>…`.
_WRAPPED = re.compile(r"\s*<([A-Za-z][\w-]*)(?:\s[^<>]{0,200})?>")
_ASKING_TAGS = frozenset(
    "task question query user_query user-query request prompt instruction instructions "
    "user_message user-message feedback answer ask keep".split()
)


@dataclass(slots=True)
class _Draft:
    """A block of the message that is being read; ``text`` is ``None`` for an opaque one."""

    pointer: str
    role: Role
    digest: bytes
    text: str | None = None
    kind: Kind = Kind.OPAQUE
    protected: bool = False
    source: Source | None = None
    breakpoint: bool = False
    element: str | None = None


@dataclass(frozen=True, slots=True)
class _Message:
    """A message that has ended: its drafts, and the index of the first among the blocks."""

    first: int
    drafts: list[_Draft]
    asks: bool
    is_ours: bool


class BlockBuilder:
    """One use: a format calls :meth:`begin`, texts and opaque parts, :meth:`end` per message.

    ``documents_message`` is the index of a user message that we inserted: it and the user's own
    message after it count as one; ``printed`` are the strings that hold documents that we printed.
    A format sets ``array`` to the pointer of its list of messages
    where it has one, and ``unknown_tools_read`` to protect the results of calls that are not in
    the body (an earlier response holds them, so what they read cannot be known).
    ``turn_messages`` are the indexes of the messages that begin turns. Texts and parts beyond
    ``MAX_BLOCKS`` raise FormatError: the body is to be forwarded as it came.
    """

    def __init__(
        self,
        options: ParseOptions,
        segmenter: Segmenter,
        *,
        documents_message: int | None = None,
        printed: Mapping[str, PrintedDocuments] = MappingProxyType({}),
    ) -> None:
        self.options = options
        self.unknown_tools_read = False
        self.blocks: list[Block] = []
        self.turn_messages: list[int] = []
        self.array: str | None = None
        self.n_messages = 0
        self.n_documents = 0
        self._segment = segmenter
        self._documents_message = documents_message
        self._printed = printed
        self._calls: dict[str, ToolCall] = {}
        self._messages: list[_Message] = []
        self._turn = 0
        self._drafts: list[_Draft] = []
        self._heads: list[Any] = []
        self._wrappers: list[int] = []
        self._role = ""
        self._speaker = Role.USER
        self._message = -1
        self._asks = False

    def begin(
        self, role: str, speaker: Role, message: int, *, head: Any = None, asks: bool = False
    ) -> None:
        """A message begins. ``head`` are its fields beside content; ``asks``: it begins a turn."""
        self._role, self._speaker, self._message, self._asks = role, speaker, message, asks
        self._heads = [["message", head]]
        self.n_messages = max(self.n_messages, message + 1)
        if not asks:
            return
        ours = self._documents_message
        if ours is None or message != ours + 1:
            if self.turn_messages:
                self._turn += 1
            self.turn_messages.append(message)

    def text(
        self,
        pointer: str,
        text: str,
        element: dict[str, Any] | None = None,
        *,
        kind: Kind | None = None,
        role: Role | None = None,
        protected: bool = False,
        source: Source | None = None,
        movable: str | None = None,
    ) -> None:
        """A text. ``element`` is the part that it stands in, if it is not the content itself.

        ``movable`` is the pointer of the array element that is the document of this text, where
        it is of a kind that may change places with others.
        """
        role = role or self._speaker
        part = element or {"type": "text", "text": text}
        self._add(
            _Draft(
                pointer,
                role,
                self._digest(part),
                text=text,
                kind=kind or _KINDS[role],
                protected=protected,
                source=source,
                breakpoint=part.get("cache_control") is not None,
                element=movable,
            )
        )

    def tool_or_text(
        self,
        pointer: str,
        text: str,
        element: dict[str, Any] | None,
        *,
        reads: bool,
        role: Role | None = None,
        protected: bool = False,
    ) -> None:
        """A text that is protected as code where it is what a tool read from a file."""
        kind = Kind.CODE if reads else None
        self.text(pointer, text, element, kind=kind, role=role, protected=reads or protected)

    def opaque(self, pointer: str, element: Any, role: Role | None = None) -> None:
        """A part that is never touched and only counts for the conversation's hash."""
        draft = _Draft(pointer, role or self._speaker, self._digest(element))
        if isinstance(element, dict):
            draft.breakpoint = element.get("cache_control") is not None
        self._add(draft)

    def enter(self, head: Any) -> None:
        """A part that contains parts begins; ``head`` are its other fields."""
        self._heads.append(["part", head])
        self._wrappers.append(len(self._drafts))

    def leave(self, pointer: str, *, breakpoint: bool = False) -> None:
        """The part that was entered last ends."""
        if len(self._drafts) == self._wrappers.pop():
            self.opaque(pointer, None)
        if breakpoint:
            self._drafts[-1].breakpoint = True

    def end(self, pointer: str, *, breakpoint: bool = False) -> None:
        """The message ends. Its texts are cut into spans later, if its turn is the newest."""
        if not self._drafts:
            self.opaque(pointer, None)
        if breakpoint:
            self._drafts[-1].breakpoint = True
        is_ours = self._documents_message is not None and self._message == self._documents_message
        self._messages.append(
            _Message(first=len(self.blocks), drafts=self._drafts, asks=self._asks, is_ours=is_ours)
        )
        self.blocks += [
            Block(
                pointer=draft.pointer,
                role=draft.role,
                turn=self._turn,
                # Our documents are remembered together with the question they belong to.
                message=self._message + is_ours,
                original=draft.text or "",
                spans=_whole(draft),
                digest=draft.digest,
                cache_breakpoint=draft.breakpoint,
                element=draft.element,
            )
            for draft in self._drafts
        ]
        self._drafts = []

    def note_call(self, call_id: Any, name: Any, arguments: Any) -> None:
        """Remember a tool call, so that its result is known for what it is."""
        if isinstance(call_id, str) and isinstance(name, str):
            self._calls[call_id] = ToolCall(name, arguments)

    def reads_file(self, call_id: Any, name: Any = None) -> bool:
        """Whether the result of a call holds what an editing agent has read from a file."""
        call = self._calls.get(call_id) if isinstance(call_id, str) else None
        if call is None:
            if not isinstance(name, str):
                return self.unknown_tools_read
            call = ToolCall(name)
        return reads_files(call, self.options.read_tools)

    def next_document(self, title: Any, identity: Any = None, row: int = 0) -> Source:
        """The source of the next document; without a name its number, from 0, is its id."""
        number = self.n_documents
        self.n_documents += 1
        return Source(
            id=identity if isinstance(identity, str) and identity else str(number),
            title=title if isinstance(title, str) else None,
            row=row,
        )

    def document(
        self, *, model: Any, seed: bytes = b"", question: str | None = None
    ) -> ContextDocument:
        """All blocks. ``question`` overrides that of the newest turn.

        Only the newest turn is cut into spans and has its question found: blocks of earlier ones
        go as they went (law 3), so theirs are one protected span each, unless ``all_turns``.
        """
        found: str | None = None
        for message in self._messages:
            if self.options.all_turns or self.blocks[message.first].turn == self._turn:
                asked = self._cut(message)
                found = asked if message.asks else found
        return ContextDocument(
            blocks=tuple(self.blocks),
            model=model if isinstance(model, str) else None,
            seed=seed,
            questions=(*[None] * self._turn, found if question is None else question),
        )

    def mark_last(self) -> None:
        """The newest block carries a cache breakpoint that the body asks for as a whole."""
        if self.blocks:
            self.blocks[-1] = dataclasses.replace(self.blocks[-1], cache_breakpoint=True)

    def _add(self, draft: _Draft) -> None:
        if len(self.blocks) + len(self._drafts) >= MAX_BLOCKS:
            raise FormatError(
                f"the request has more than {MAX_BLOCKS} messages and parts", Skip.TOO_LARGE
            )
        self._drafts.append(draft)

    def _cut(self, message: _Message) -> str | None:
        """Cut the texts of a message into spans; the question that stands in them."""
        asking = None if message.is_ours else _asking_draft(message.drafts)
        question: list[str] = []
        for index, draft in enumerate(message.drafts, start=message.first):
            spans = self._spans(draft, ask=draft is asking)
            if draft is asking:
                question = [span.text for span in spans if span.kind is Kind.QUESTION]
            self.blocks[index] = self.blocks[index].with_spans(spans)
        return "\n".join(part.strip() for part in question).strip() or None

    def _digest(self, element: Any) -> bytes:
        heads, self._heads = self._heads, []
        return element_digest(self._role, heads, len(self._wrappers), element)

    def _spans(self, draft: _Draft, *, ask: bool) -> tuple[Span, ...]:
        text = draft.text
        if not text or draft.protected:
            return _whole(draft)
        printed = self._printed.get(draft.pointer)
        if printed is not None:
            return cut_around_documents(
                text,
                printed,
                self._segment,
                role=draft.role,
                kind=draft.kind,
                options=self.options,
                ask=ask,
            )
        spans = self._segment(text, role=draft.role, kind=draft.kind, options=self.options, ask=ask)
        if draft.source is None:
            return spans
        return tuple(
            span if span.source else dataclasses.replace(span, source=draft.source)
            for span in spans
        )


def known_messages(
    messages: list[Any], roles: Mapping[str, Role], builder: BlockBuilder
) -> Iterator[tuple[int, str, dict[str, Any], Role]]:
    """Index, pointer, message and speaker of every message whose role is one of ``roles``.

    Whatever else stands in the list is fed to ``builder`` as opaque, in its place.
    """
    for index, message in enumerate(messages):
        pointer = f"/messages/{index}"
        role = message.get("role") if isinstance(message, dict) else None
        speaker = roles.get(role) if isinstance(role, str) else None
        if speaker is None:
            builder.begin("", Role.USER, index)
            builder.opaque(pointer, message)
            builder.end(pointer)
        else:
            yield index, pointer, message, speaker


def _whole(draft: _Draft) -> tuple[Span, ...]:
    """The text as one protected span."""
    if not draft.text:
        return ()
    end = len(draft.text)
    return (Span.of(draft.text, 0, end, draft.kind, protected=True, source=draft.source),)


def _asking_draft(drafts: list[_Draft]) -> _Draft | None:
    """The text of a user's message that holds the question: the last that the user wrote."""
    candidates = [
        draft
        for draft in drafts
        if draft.text and draft.role is Role.USER and draft.kind is Kind.PROSE
    ]
    for draft in reversed(candidates):
        if not _wrapped_by_agent(draft.text or ""):
            return draft
    return candidates[-1] if candidates else None


def _wrapped_by_agent(text: str) -> bool:
    """Whether the whole text stands in one tag that does not name a request."""
    opening = _WRAPPED.match(text)
    if opening is None or opening[1].lower() in _ASKING_TAGS:
        return False
    return text.rstrip().endswith(f"</{opening[1]}>")
