"""The stage: which spans it works on, and which of their pieces are worth another form."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from ctxpress.document import Block, ContextDocument, Kind, Range, Role, Span
from ctxpress.errors import FormatError
from ctxpress.plugins.compact.columns import minified, with_columns
from ctxpress.plugins.compact.config import CompactConfig
from ctxpress.plugins.compact.json_reader import read_json
from ctxpress.plugins.compact.lines import fold_lines
from ctxpress.plugins.compact.notation import expand, holds_notation
from ctxpress.plugins.compact.pieces import Piece
from ctxpress.plugins.compact.tables import fold_tables
from ctxpress.stage import Skip, StageContext, StageSkip, StageTraits, TokenCounter

__all__ = ["CompactStage"]

_ALGORITHM = "compact:1"
_FREE_KINDS = frozenset({Kind.PROSE, Kind.DOCUMENT, Kind.TOOL_RESULT})

# Another form must save this part of the tokens to be worth reading. Of free text it must save
# more: no later stage may shorten what was folded.
_MIN_SAVED = 0.03
_MIN_SAVED_FREE = 0.25


class CompactStage:
    """Writes JSON, logs and tables shorter, so that :func:`expand` gives them back."""

    traits = StageTraits(extractive=False, lossless=True)
    identity = _ALGORITHM

    def __init__(self, config: CompactConfig) -> None:
        self._config = config

    async def apply(self, document: ContextDocument, context: StageContext) -> ContextDocument:
        """Write what is shorter in another form.

        :raises StageSkip: when there is nothing of the kinds that it works on, or nothing to save.
        :raises DeadlineError: when the time budget ends first.
        """
        return await context.run(lambda: self._compact(document, context))

    def restore(self, text: str) -> str | None:
        """What :func:`expand` makes of the text of a span; ``None`` where that is damaged."""
        try:
            return expand(text)
        except FormatError:
            return None

    def _compact(self, document: ContextDocument, context: StageContext) -> ContextDocument:
        blocks: list[Block] = []
        met = saved = False
        for block in document.blocks:
            spans: list[Span] = []
            ambiguous = holds_notation(block.text) or holds_notation(block.original)
            for span in block.spans:
                if ambiguous or not self._works_on(block, span):
                    spans.append(span)
                    continue
                met = True
                context.checkpoint()
                pieces = list(self._pieces(block, span, context))
                saved = saved or bool(pieces)
                spans += _cut(block.original, span, pieces)
            blocks.append(block.with_spans(tuple(spans)))
        if not met:
            raise StageSkip(
                Skip.NOTHING_TO_COMPRESS,
                "there are no JSON, logs or tables in tool results or documents here",
            )
        if not saved:
            raise StageSkip(
                Skip.NO_SAVING, "the JSON, logs and tables here are as short as they get"
            )
        return document.with_blocks(tuple(blocks))

    def _works_on(self, block: Block, span: Span) -> bool:
        if len(span.kept) != 1 or span.text != block.original[slice(*span.kept[0])]:
            return False
        retrieved = block.role is Role.TOOL or span.source is not None
        if not span.protected:
            return self._config.logs == "on" and retrieved and span.kind in _FREE_KINDS
        if not block.may_rewrite(span):
            return False
        if span.kind is Kind.LOG:
            return self._config.logs == "on"
        if span.kind is Kind.TABLE:
            return self._config.tables == "on"
        return self._config.json_form != "off" and (retrieved or self._config.user_json == "on")

    def _pieces(self, block: Block, span: Span, context: StageContext) -> Iterator[Piece]:
        """The pieces of a span that save tokens."""
        if span.kind is Kind.JSON and span.protected:
            yield from self._json(span.text, context.counter)
            return
        start, end = span.kept[0]
        fold = fold_tables if span.kind is Kind.TABLE else fold_lines
        found = fold(
            span.text,
            starts_line=block.original[start - 1 : start] in ("", "\n"),
            ends_line=block.original[end : end + 1] in ("", "\n"),
        )
        limit = 1 - (_MIN_SAVED if span.protected else _MIN_SAVED_FREE)
        for piece in found:
            context.checkpoint()
            tokens = context.counter.count(span.text[piece.start : piece.end])
            if tokens < self._config.min_tokens:
                continue
            if context.counter.count(piece.text) <= limit * tokens:
                yield piece

    def _json(self, text: str, counter: TokenCounter) -> Iterator[Piece]:
        read = read_json(text)
        best, tokens = text, counter.count(text)
        if read is None or tokens < self._config.min_tokens:
            return
        forms = [minified(read)]
        if self._config.json_form == "columns":
            forms.append(with_columns(read))
        for form in dict.fromkeys(forms):
            count = counter.count(form)
            if count <= (1 - _MIN_SAVED) * tokens:
                best, tokens = form, count
        if best != text:
            yield Piece(0, len(text), best)


def _cut(original: str, span: Span, pieces: list[Piece]) -> Iterator[Span]:
    """The span with ``pieces`` as spans of their own, which no later stage may touch."""
    if not pieces:
        yield span
        return
    base, end = span.kept[0]
    at = base

    def rest(until: int) -> Iterator[Span]:
        if at < until:
            yield span.keep(original, (Range(at, until),))

    for piece in pieces:
        yield from rest(base + piece.start)
        at = base + piece.end
        yield dataclasses.replace(
            span,
            text=piece.text,
            kept=(Range(base + piece.start, at),),
            protected=True,
            detachable=True,
        )
    yield from rest(end)
