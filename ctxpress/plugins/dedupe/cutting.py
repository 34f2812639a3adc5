"""Takes repeated sentences out of a request; no text of it becomes blank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from ctxpress.arrangement import Passage, shortened
from ctxpress.document import Block, ContextDocument, Range, Source, Span
from ctxpress.plugins.dedupe.sentences import Repeated
from ctxpress.plugins.dedupe.text_runs import TextRun, is_free

__all__ = ["cut_sentences"]

_LONGEST_INDENT = 80


def cut_sentences(
    document: ContextDocument,
    passages: Sequence[Passage],
    runs: Sequence[TextRun],
    repeated: Sequence[Repeated],
) -> tuple[ContextDocument, dict[int, bool]]:
    """`document` without the `repeated` sentences of its `runs`.

    A passage of which nothing would be left is not cut but named, by its number, with whether all
    of it was sent before: it may leave. Where a text would become blank that may not leave, its
    first sentence stays; a tool's result stays whole, for the same state again is an answer.
    """
    cuts = [dict(one) for one in repeated]
    owners = _owners(document, passages, runs)
    gone = _take_whole(passages, runs, cuts, owners)
    by_block: dict[int, list[int]] = {}
    for number, run in enumerate(runs):
        by_block.setdefault(run.block, []).append(number)
    blocks = list(document.blocks)
    for index, members in by_block.items():
        if not any(cuts[n] for n in members):
            continue
        left = any(owners[n] not in gone and _is_left(runs[n], cuts[n]) for n in members)
        if not left and not _has_more(blocks[index], [runs[n] for n in members]):
            _keep_some(runs, cuts, members)
        blocks[index] = _cut(blocks[index], [(runs[n], cuts[n]) for n in members])
    return document.with_blocks(tuple(blocks)), gone


def _owners(
    document: ContextDocument, passages: Sequence[Passage], runs: Sequence[TextRun]
) -> list[int | None]:
    """The passage that each run is a part of."""
    held: dict[tuple[int, Source | None], int] = {}
    for passage in passages:
        for index in passage.blocks:
            if document.blocks[index].element is None:
                held[index, passage.source] = passage.number
            else:
                spans = document.blocks[index].spans
                held |= {(index, span.source): passage.number for span in spans}
    return [held.get((run.block, run.source)) for run in runs]


def _take_whole(
    passages: Sequence[Passage],
    runs: Sequence[TextRun],
    cuts: list[Repeated],
    owners: Sequence[int | None],
) -> dict[int, bool]:
    """Passages of which nothing is left; those of their runs are not cut any more."""
    members: dict[int, list[int]] = {}
    for number, owner in enumerate(owners):
        if owner is not None:
            members.setdefault(owner, []).append(number)
    gone: dict[int, bool] = {}
    for owner, own in members.items():
        if any(_is_left(runs[n], cuts[n]) for n in own):
            continue
        if passages[owner].pinned:
            _keep_some(runs, cuts, own)
            continue
        gone[owner] = all(all(cuts[n].values()) for n in own)
        for n in own:
            cuts[n] = {}
    return gone


def _is_left(run: TextRun, cut: Repeated) -> bool:
    """Whether more than blanks is left of a run."""
    return any(run.text[start:end].strip() for start, end in _kept(run, cut))


def _has_more(block: Block, runs: Sequence[TextRun]) -> bool:
    """Whether a block has text beside its runs: a question, the markup of a document."""
    inside = {n for run in runs for n in range(run.first, run.last)}
    return any(span.text.strip() for n, span in enumerate(block.spans) if n not in inside)


def _keep_some(runs: Sequence[TextRun], cuts: list[Repeated], members: Sequence[int]) -> None:
    """Take back the first cut, or all that were made in tools' results."""
    for number in members:
        if cuts[number]:
            first = min(cuts[number])
            if runs[number].tool:
                cuts[number] = {}
            else:
                del cuts[number][first]
            return


def _cut(block: Block, cuts: Sequence[tuple[TextRun, Repeated]]) -> Block:
    spans: list[Span] = []
    done = 0
    for run, cut in cuts:
        if not cut:
            continue
        spans += block.spans[done : run.first]
        spans += _cut_run(block, run, cut)
        done = run.last
    return block.with_spans((*spans, *block.spans[done:]))


def _cut_run(block: Block, run: TextRun, cut: Repeated) -> Iterator[Span]:
    kept = list(_kept(run, cut))
    at = place = 0
    for span in block.spans[run.first : run.last]:
        start, at = at, at + len(span.text)
        while place < len(kept) and kept[place].end <= start:
            place += 1
        pieces = []
        for piece in islice(kept, place, None):
            if piece.start >= at:
                break
            pieces.append(Range(max(piece.start, start) - start, min(piece.end, at) - start))
        if pieces == [Range(0, at - start)] or not is_free(span, block.original):
            yield span
        elif pieces:
            yield shortened(span, block.original, pieces)


def _kept(run: TextRun, cut: Repeated) -> Iterator[Range]:
    """What is left of a run's text, in order."""
    position = 0
    for start, end in _gaps(run, cut):
        if start > position:
            yield Range(position, start)
        position = end
    if position < len(run.text):
        yield Range(position, len(run.text))


def _gaps(run: TextRun, cut: Repeated) -> Iterator[Range]:
    """What leaves: neighbours as one, and line breaks stay where they end what stays before."""
    stretch: list[int] = []
    for number in sorted(cut):
        sentence = run.sentences[number]
        if stretch and stretch[1] == sentence.start:
            stretch[1] = sentence.end
            continue
        if stretch:
            yield _gap(run.text, *stretch)
        stretch = [sentence.start, sentence.end]
    if stretch:
        yield _gap(run.text, *stretch)


def _gap(text: str, start: int, end: int) -> Range:
    body = text[start:end]
    start += len(body) - len(body.lstrip())
    before = text[max(0, start - _LONGEST_INDENT) : start].rstrip(" \t")
    behind = len(body) - len(body.rstrip())
    if before and not before.endswith("\n") and "\n" in body[len(body) - behind :]:
        end -= behind
    return Range(start, end)
