"""The laws that bind every stage, checked after every run; stages are never trusted.

Law 1: a protected span leaves as it came. Law 2: an extractive stage emits only ranges of the
original, in the order it was given them within a span. Law 4's inflation rule: tokens never grow.
Blocks may not appear, vanish or become blank: providers refuse blank text. A stage that arranges
may move whole documents, and drop them where nothing in them is pinned. A lossless stage may write
protected JSON, logs and tables in another form; module ``lossless`` checks that nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ctxpress.document import Block, ContextDocument, Range, Source, Span, is_unicode
from ctxpress.elements import arrangements
from ctxpress.errors import LawError
from ctxpress.lossless import Restore, check_lossless
from ctxpress.stage import LosslessStage, Stage

__all__ = ["check_extractive", "check_laws", "check_protected", "restore_of"]


def restore_of(stage: Stage) -> Restore | None:
    """How the text of a lossless stage is restored; ``None`` for any other stage.

    :raises LawError: the stage declares itself lossless and cannot restore.
    """
    if not stage.traits.lossless:
        return None
    if not isinstance(stage, LosslessStage):
        raise LawError(f"{type(stage).__name__} is lossless by its traits and has no restore")
    return stage.restore


def check_laws(
    before: ContextDocument,
    after: ContextDocument,
    *,
    extractive: bool,
    arranges: bool = False,
    restore: Restore | None = None,
) -> None:
    """Compare a stage's output with its input; ``arranges`` as in ``StageTraits``.

    ``restore`` is that of a lossless stage (:func:`restore_of`).

    :raises LawError: naming the law and the block's pointer, never quoting the text.
    """
    if not isinstance(after, ContextDocument):
        raise LawError(f"the stage returned {type(after).__name__}, not a ContextDocument")
    if len(before.blocks) != len(after.blocks):
        raise LawError(
            f"the stage was given {len(before.blocks)} blocks, returned {len(after.blocks)}"
        )
    for old, new in zip(before.blocks, after.blocks, strict=True):
        if old is not new:
            _check_block(old, new, extractive=extractive, arranges=arranges, restore=restore)
    if arranges:
        _check_elements(before.blocks, after.blocks)


def _check_block(
    old: Block, new: Block, *, extractive: bool, arranges: bool, restore: Restore | None
) -> None:
    if (old.pointer, old.original, old.role, old.turn, old.element) != (
        new.pointer,
        new.original,
        new.role,
        new.turn,
        new.element,
    ):
        raise LawError(f"{old.pointer}: the stage changed what identifies the block")
    if (old.slot, old.dropped) != (new.slot, new.dropped):
        if not arranges or new.element is None:
            raise LawError(f"{old.pointer}: the stage moved or dropped the block")
        if new.dropped and (new.spans or any(span.pinned for span in old.spans)):
            raise LawError(f"{old.pointer}: a block was dropped with text that must stay")
        if new.dropped:
            return
    if restore is not None:
        check_lossless(old, new, restore)
    elif arranges:
        _check_arranged(old, new)
    else:
        check_protected(old, new)
    if extractive:
        check_extractive(old, new)
    elif not is_unicode(new.text):
        raise LawError(f"{old.pointer}: the stage wrote a lone surrogate, which no JSON carries")
    if old.text.strip() and not new.text.strip():
        raise LawError(f"{old.pointer}: the block became blank")


def _check_elements(before: Sequence[Block], after: Sequence[Block]) -> None:
    for found in arrangements(after, whole=False):
        if found.contradictory:
            raise LawError(f"{found.array}: two elements for one place, or one left in part")
    rows: dict[tuple[str | None, int | None], int] = {}
    for block in before:
        if block.element is not None and not block.dropped:
            rows[block.array, block.place] = _row_of(block)
    for block in after:
        if block.element is None or block.dropped or block.slot is None:
            continue
        if rows.get((block.array, block.place)) != _row_of(block):
            raise LawError(f"{block.pointer}: a document left its row")


def _row_of(block: Block) -> int:
    return next((span.source.row for span in block.spans if span.source), 0)


def check_protected(old: Block, new: Block) -> None:
    """Law 1: the protected spans of ``old`` are in ``new``, same text, same ranges, same order.

    :raises LawError: where one is missing, changed or moved past another.
    """
    wanted = [(span.text, span.kept) for span in old.spans if span.protected]
    found = iter((span.text, span.kept) for span in new.spans if span.protected)
    for number, span in enumerate(wanted):
        if not any(span == candidate for candidate in found):
            raise LawError(f"{old.pointer}: protected span {number} was changed, moved or lost")


def _check_arranged(old: Block, new: Block) -> None:
    """Law 1 where documents may move: each is in one piece, or gone and nothing in it pinned.

    What belongs to no document keeps its order.

    :raises LawError: where protected text was lost, changed or torn out of its document.
    """
    wanted, found = _by_source(old.spans), _by_source(new.spans)
    passed: Source | None = None
    met: set[Source] = set()
    for span in new.spans:
        if span.source is not None and span.source != passed:
            if span.source in met:
                raise LawError(f"{old.pointer}: a document was taken apart")
            met.add(span.source)
        passed = span.source
    for source, spans in wanted.items():
        kept = found.get(source, [])
        if source is not None and not kept and not any(span.pinned for span in spans):
            continue
        protected = [(span.text, span.kept) for span in spans if span.protected]
        if protected != [(span.text, span.kept) for span in kept if span.protected]:
            raise LawError(f"{old.pointer}: protected text was changed, moved or lost")
    _check_rows(old, new)


def _check_rows(old: Block, new: Block) -> None:
    """Documents stay within their row: between the same protected texts, rows in order.

    :raises LawError: where one is in another place.
    """
    extents: dict[int, tuple[int, int]] = {}
    for row, passed in _rows(old.spans):
        extents[row] = (extents.get(row, (passed, passed))[0], passed)
    ranks = {row: rank for rank, row in enumerate(extents)}
    last = 0
    for row, passed in _rows(new.spans):
        first, final = extents.get(row, (-1, -1))
        if not first <= passed <= final or ranks[row] < last:
            raise LawError(f"{old.pointer}: a document left its row")
        last = ranks[row]


def _rows(spans: Sequence[Span]) -> Iterator[tuple[int, int]]:
    """The rows of the spans of documents, each with how many protected texts stand before it."""
    passed = 0
    for span in spans:
        if span.source is not None:
            yield span.source.row, passed
        elif span.protected:
            passed += 1


def _by_source(spans: Sequence[Span]) -> dict[Source | None, list[Span]]:
    groups: dict[Source | None, list[Span]] = {}
    for span in spans:
        groups.setdefault(span.source, []).append(span)
    return groups


def check_extractive(old: Block, new: Block) -> None:
    """Law 2: every span of ``new`` is exactly the ranges of the original that it claims.

    What an earlier stage wrote may stay as it is: this stage did not write it.

    :raises LawError: where text and ranges differ, ranges overlap, or text comes back that an
        earlier stage had deleted.
    """
    original = new.original
    written = {span for span in old.spans if span.text != _joined(original, span.kept)}
    spans = [span for span in new.spans if span not in written] if written else new.spans
    for span in spans:
        if span.text != _joined(original, span.kept):
            raise LawError(f"{new.pointer}: a span's text is not made of its ranges")
        position = 0
        for start, end in span.kept:
            if not position <= start < end <= len(original):
                raise LawError(f"{new.pointer}: the range {start}:{end} is out of order or bounds")
            position = end
    if not _contained(_sorted_ranges(spans), _sorted_ranges(old.spans)):
        raise LawError(f"{new.pointer}: a range is used twice or was deleted before")


def _joined(original: str, kept: Sequence[Range]) -> str:
    return "".join(original[start:end] for start, end in kept)


def _sorted_ranges(spans: Sequence[Span]) -> list[Range]:
    return sorted(piece for span in spans for piece in span.kept)


def _contained(inner: list[Range], outer: list[Range]) -> bool:
    """Whether sorted ``inner`` has no overlaps and lies within the union of sorted ``outer``."""
    merged: list[list[int]] = []
    for start, end in outer:
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    position, index = 0, 0
    for start, end in inner:
        if start < position:
            return False
        while index < len(merged) and merged[index][1] < end:
            index += 1
        if index == len(merged) or not merged[index][0] <= start:
            return False
        position = end
    return True
