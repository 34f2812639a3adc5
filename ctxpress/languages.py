"""Law 1's language rule: text in a language that a model was not measured on is protected.

A stage that names its languages is given a document in which paragraphs of other languages are
protected; afterwards they are free again for stages to which language does not matter.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable

from ctxpress.document import Block, ContextDocument, Span
from ctxpress.models.language import UNDETERMINED, detect_language
from ctxpress.stage import Skip, StageSkip

__all__ = ["Hidden", "mask_languages", "unmask"]

_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")

# What was masked: for every block, the kept ranges of the spans that are protected for now.
Hidden = tuple[frozenset[tuple[tuple[int, int], ...]], ...]


def mask_languages(
    document: ContextDocument, languages: frozenset[str] | None
) -> tuple[ContextDocument, Hidden]:
    """Protect what is not written in one of ``languages``; also say what was protected.

    :raises StageSkip: when nothing else is left for the stage.
    """
    if languages is None:
        return document, ()
    blocks: list[Block] = []
    hidden = []
    foreign: set[str] = set()
    left = False

    @functools.cache
    def overall() -> str:
        return detect_language(" ".join(_free(block) for block in document.blocks))

    for block in document.blocks:
        spans, masked = _mask_block(block, languages, foreign, overall)
        left = left or any(not span.protected and span.text.strip() for span in spans)
        blocks.append(block.with_spans(spans) if masked else block)
        hidden.append(frozenset(masked))
    if foreign and not left:
        names = " or ".join(sorted(foreign - {UNDETERMINED})) or "a language that cannot be told"
        raise StageSkip(
            Skip.LANGUAGE,
            f"the text is in {names}, and the model was measured only on "
            f"{', '.join(sorted(languages))}; use a stage whose model was measured on it",
        )
    return document.with_blocks(tuple(blocks)), tuple(hidden)


def _free(block: Block) -> str:
    return " ".join(span.text for span in block.spans if not span.protected)


def _mask_block(
    block: Block, languages: frozenset[str], foreign: set[str], of_document: Callable[[], str]
) -> tuple[tuple[Span, ...], list[tuple[tuple[int, int], ...]]]:
    """The block's spans, and what was masked; a block that cannot be told is as the document."""
    free = _free(block)
    own = overall = detect_language(free)
    if overall == UNDETERMINED:
        overall = of_document()
    spans: list[Span] = []
    masked: list[tuple[tuple[int, int], ...]] = []
    for span in block.spans:
        if span.protected or not span.text.strip():
            spans.append(span)
            continue
        for piece in _paragraphs(span, block.original):
            language = own if piece.text == free else detect_language(piece.text)
            language = overall if language == UNDETERMINED else language
            if language in languages or not piece.text.strip():
                spans.append(piece)
                continue
            foreign.add(language)
            masked.append(piece.kept)
            spans.append(dataclasses.replace(piece, protected=True))
    return tuple(spans), masked


def _paragraphs(span: Span, original: str) -> list[Span]:
    """The span cut at blank lines; whole where it is not a plain stretch of the original."""
    if len(span.kept) != 1:
        return [span]
    start, end = span.kept[0]
    cuts = [start + match.end() for match in _PARAGRAPH.finditer(span.text)]
    edges = [start, *(cut for cut in cuts if start < cut < end), end]
    if len(edges) == 2:
        return [span]
    return [
        Span.of(original, a, b, span.kind, protected=False, source=span.source)
        for a, b in zip(edges, edges[1:], strict=False)
    ]


def unmask(document: ContextDocument, hidden: Hidden) -> ContextDocument:
    """Free again what :func:`mask_languages` had protected."""
    if not any(hidden):
        return document
    blocks = []
    for block, masked in zip(document.blocks, hidden, strict=True):
        spans = tuple(
            dataclasses.replace(span, protected=False)
            if span.protected and span.kept in masked
            else span
            for span in block.spans
        )
        blocks.append(block.with_spans(spans))
    return document.with_blocks(tuple(blocks))
