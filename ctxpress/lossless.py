"""The exception to law 1: another form of the same text, accepted only where nothing is lost.

A lossless stage may write a span in another form and cut it into pieces. Every piece that it wrote
is restored by the stage's own ``restore`` and compared with the original here, by rules that the
stage has no part in: JSON token by token, everything else character by character.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import zip_longest

from ctxpress.document import Block, Kind, Span
from ctxpress.errors import LawError

__all__ = ["Restore", "check_lossless", "same_json"]

Restore = Callable[[str], str | None]

# Every character but blanks between tokens is part of a token, in damaged JSON too: a string that
# is never closed reaches to the end, and a bare word is compared as it is spelt.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[{}\[\]:,]|[^ \t\n\r"{}\[\]:,]+', re.DOTALL)


def check_lossless(old: Block, new: Block, restore: Restore) -> None:
    """The spans of ``new`` are those of ``old``, in order, each as it was or in other forms.

    A span that is free, or that ``old.may_rewrite``, may be cut into pieces that cover its range
    of the original; it must stand there untouched so far. A piece keeps its span's look, and may
    only become protected, so that no later stage cuts it. One whose text is not the original's
    must restore to it.

    :raises LawError: text was lost, moved or changed, or ``restore`` does not give it back.
    """
    found = iter(new.spans)
    for number, span in enumerate(old.spans):
        piece = next(found, None)
        if piece == span:
            continue
        place = f"{old.pointer}: span {number}"
        if span.protected and not old.may_rewrite(span):
            raise LawError(f"{place} is protected and was changed, moved or lost")
        if len(span.kept) != 1 or span.text != old.original[slice(*span.kept[0])]:
            raise LawError(f"{place} is not the original any more and was changed or lost")
        at, end = span.kept[0]
        while True:
            if piece is None or len(piece.kept) != 1 or piece.kept[0].start != at:
                raise LawError(f"{place}: a lossless stage deleted or moved text")
            at = piece.kept[0].end
            if not piece.kept[0].start < at <= end or not _same_look(span, piece):
                raise LawError(f"{place}: a lossless stage changed what the text is")
            _check_piece(piece, old.original[slice(*piece.kept[0])], restore, place)
            if at == end:
                break
            piece = next(found, None)
    if next(found, None) is not None:
        raise LawError(f"{old.pointer}: a lossless stage added a span")


def same_json(first: str, second: str) -> bool:
    """Whether two texts are the same JSON, one value or several in a row.

    Only blanks between tokens and the spelling of strings (escapes) may differ. Numbers are
    compared as they are spelt; members by order, equal keys included.
    """
    return all(a == b for a, b in zip_longest(_tokens(first), _tokens(second)))


def _same_look(span: Span, piece: Span) -> bool:
    if (piece.kind, piece.source) != (span.kind, span.source):
        return False
    look = (piece.protected, piece.detachable)
    return look in ((span.protected, span.detachable), (True, True))


def _check_piece(piece: Span, original: str, restore: Restore, place: str) -> None:
    if piece.text == original:
        return
    try:
        restored = restore(piece.text)
    except Exception as error:
        raise LawError(f"{place}: restore raised {type(error).__name__}") from error
    same = same_json if piece.kind is Kind.JSON else str.__eq__
    if not isinstance(restored, str) or not same(restored, original):
        raise LawError(f"{place}: what a lossless stage wrote does not restore to the text")


def _tokens(text: str) -> Iterator[tuple[bool, str]]:
    """Every token: a string by its value (``True``), anything else as it is spelt."""
    for found in _TOKEN.finditer(text):
        token = found[0]
        if token[0] != '"':
            yield False, token
        elif "\\" not in token and len(token) > 1 and token[-1] == '"':
            yield True, token[1:-1]
        else:
            try:
                yield True, json.loads(token, strict=False)
            except ValueError:  # no string of JSON
                yield False, token
