"""What became of the documents in a block: told from its text before and after, and remembered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ctxpress.document import Block, ContextDocument, Source, Span
from ctxpress.report import DocumentReport

__all__ = ["Fate", "decode_fates", "document_reports", "encode_fates", "fates_of"]

State = Literal["kept", "shortened", "dropped"]

_CODES: tuple[State, ...] = ("kept", "shortened")
"""Dropped ones are coded by the place of their reason, behind these."""
_NOTHING_KEPT = "nothing of it was kept"
_MAX_REASON_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one document; `reason` names the stage that dropped it, and why."""

    state: State
    reason: str | None = None


def fates_of(before: Block, after: Block, dropped_by: Mapping[Source, str]) -> tuple[Fate, ...]:
    """One for every document of a block, in the order they came; empty where all are kept.

    `dropped_by` are the reasons for those that left.
    """
    held, left = _by_source(before), {} if after.dropped else _by_source(after)
    fates = tuple(
        _fate(spans, left.get(source, ()), dropped_by.get(source)) for source, spans in held.items()
    )
    return () if all(fate.state == "kept" for fate in fates) else fates


def _fate(before: Sequence[Span], after: Sequence[Span], reason: str | None) -> Fate:
    was = "".join(span.text for span in before)
    now = "".join(span.text for span in after)
    if now == was:
        return Fate("kept")
    if now.strip():
        return Fate("shortened")
    written = (reason or _NOTHING_KEPT).encode("utf-8", "replace").decode()
    return Fate("dropped", written[:_MAX_REASON_CHARACTERS])


def document_reports(
    before: ContextDocument, after: ContextDocument, decided: Mapping[int, Sequence[Fate]]
) -> Iterator[DocumentReport]:
    """One for every document of the newest turn, in the order they came.

    `decided`: for every block whose outcome is known, by its index, what became of its documents.
    A document that is made of several blocks of one element counts once.
    """
    found: dict[tuple[str, Source], list[Fate]] = {}
    for index, block in enumerate(before.blocks):
        if index not in decided or block.turn != before.last_turn:
            continue
        held = _by_source(block)
        fates = _applied(block, after.blocks[index], decided[index], len(held))
        for (source, spans), fate in zip(held.items(), fates, strict=True):
            parts = found.setdefault((block.element or block.pointer, source), [])
            if any(span.text.strip() for span in spans):
                parts.append(fate)
    for (pointer, source), parts in found.items():
        states = {part.state for part in parts} or {"kept"}
        state: State = states.pop() if len(states) == 1 else "shortened"
        reason = parts[0].reason if state == "dropped" else None
        yield DocumentReport(pointer=pointer, id=source.id, state=state, reason=reason)


def _applied(
    before: Block, after: Block, fates: Sequence[Fate], n_documents: int
) -> Sequence[Fate]:
    """The fates as they hold for what is sent.

    An outcome may have been remembered under other rules for telling documents; then all that is
    known is whether the block changed.
    """
    if not after.dropped and after.text == before.text:
        return [Fate("kept")] * n_documents
    if len(fates) == n_documents:
        return fates
    return [Fate("dropped", _NOTHING_KEPT) if after.dropped else Fate("shortened")] * n_documents


def _by_source(block: Block) -> dict[Source, list[Span]]:
    """The own text of every document in a block."""
    groups: dict[Source, list[Span]] = {}
    for span in block.spans:
        if span.source is not None and not span.markup:
            groups.setdefault(span.source, []).append(span)
    return groups


def encode_fates(fates: Sequence[Fate]) -> list[Any] | None:
    """JSON-ready: the different reasons, and a small number a document."""
    if not fates:
        return None
    reasons = list(dict.fromkeys(fate.reason for fate in fates if fate.state == "dropped"))
    codes = [
        len(_CODES) + reasons.index(fate.reason)
        if fate.state == "dropped"
        else _CODES.index(fate.state)
        for fate in fates
    ]
    return [reasons, codes]


def decode_fates(stored: Any) -> tuple[Fate, ...]:
    """What `encode_fates` wrote.

    :raises ValueError: it is something else.
    """
    if stored is None:
        return ()
    if not isinstance(stored, list) or len(stored) != 2:
        raise ValueError("not reasons and codes")
    reasons, codes = stored
    if not isinstance(reasons, list) or not isinstance(codes, list) or not codes:
        raise ValueError("not lists of reasons and codes")
    if not all(isinstance(reason, str) for reason in reasons):
        raise ValueError("not a list of reasons")
    known = [*map(Fate, _CODES), *(Fate("dropped", reason) for reason in reasons)]
    if not all(type(code) is int and 0 <= code < len(known) for code in codes):
        raise ValueError("a code of no fate")
    return tuple(known[code] for code in codes)
