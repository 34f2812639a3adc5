"""Where a quote that a model returned stands in its source: ranges of the source, or nothing.

Models change what they copy. From the strictest to the most lenient: the quote as it is; regardless
of case, blanks, quotes, dashes, Unicode forms and marks at its ends; with ellipses for what it
leaves out; several sentences put together; and, where words were changed, the source's own
sentences that hold at least 80 % of the quote's words in its order. What goes forward is always the
source's text; what is found nowhere is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ctxpress.document import Range
from ctxpress.plugins.restructure.folding import Folded, fold, splits_word
from ctxpress.plugins.restructure.rewording import WordedText, find_reworded, words_of
from ctxpress.relevance import split_sentences

__all__ = ["Aligner", "Alignment", "align_quote", "merge_ranges"]

_MIN_SHARE = 0.8
"""Of a quote's words that must be found where it is not found as it stands."""
_MAX_PARTS = 64
_MAX_QUOTE_CHARACTERS = 20_000
"""Longer quotes are only searched for as they are."""
_MAX_TEXT_CHARACTERS = 1_000_000
"""Longer texts are not searched word by word."""
_MIN_PART_CHARACTERS = 3
_MIN_PIECE_WORDS = 3
"""Of a sentence that is searched for by itself."""

_ELLIPSIS = re.compile(r"[\[(]?(?:\.{3,}|…|\. \. \.)[\])]?")
_ENDS = ".,;:!?…()[]{}<>|-/\\•·。！？；：，、।"
_OPENERS = "\"'“‘«([{„「『*_`"
_CLOSERS = ".,;:!?…\"'”’»)]}」』。！？*_`"
_MAX_TRAIL = 4

_Search = Callable[[int], tuple[Range, ...]]
"""Where a quote stands in the text of an index; empty if it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Where a quote stands: the index of the text, and ranges of it, ascending and not empty."""

    text: int
    ranges: tuple[Range, ...]


class Aligner:
    """Aligns many quotes to the same texts; each text is read once. Not thread-safe."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = tuple(texts)
        self._folded: dict[int, Folded] = {}
        self._words: dict[int, WordedText] = {}

    def align(self, quote: str, preferred: Sequence[int] = ()) -> Alignment | None:
        """Where `quote` stands; at equal strictness in one of the `preferred` texts, if it can."""
        quote = quote.strip()
        wanted = dict.fromkeys(preferred)
        first = [index for index in wanted if 0 <= index < len(self._texts)]
        rest = [index for index in range(len(self._texts)) if index not in wanted]
        searches = [self._as_it_is(quote), self._folded_in(quote)]
        if len(quote) <= _MAX_QUOTE_CHARACTERS:
            searches += [self._with_ellipses(quote), self._put_together(quote)]
        for search in filter(None, searches):
            for index in [*first, *rest]:
                if ranges := search(index):
                    return Alignment(text=index, ranges=ranges)
        if len(quote) > _MAX_QUOTE_CHARACTERS:
            return None
        return self._reworded(quote, first) or self._reworded(quote, rest)

    def _as_it_is(self, quote: str) -> _Search | None:
        def search(index: int) -> tuple[Range, ...]:
            text = self._texts[index]
            start = text.find(quote)
            while start >= 0:
                end = start + len(quote)
                if not splits_word(text, start) and not splits_word(text, end):
                    return (Range(start, end),)
                start = text.find(quote, end)
            return ()

        return search if quote else None

    def _folded_in(self, quote: str) -> _Search | None:
        needle = _needle(quote)

        def search(index: int) -> tuple[Range, ...]:
            folded = self._fold(index)
            found = folded.find(needle)
            return (_trailed(folded, found, needle, quote),) if found >= 0 else ()

        return search if needle else None

    def _with_ellipses(self, quote: str) -> _Search | None:
        parts = [part for part in _ELLIPSIS.split(quote) if _needle(part)]
        needles = [_needle(part) for part in parts]
        if not 1 < len(parts) <= _MAX_PARTS or min(map(len, needles)) < _MIN_PART_CHARACTERS:
            return None

        def search(index: int) -> tuple[Range, ...]:
            folded = self._fold(index)
            found: list[int] = []
            at = 0
            for needle in needles:
                start = folded.find(needle, at)
                if start < 0:
                    return ()
                found.append(start)
                at = start + len(needle)
            # The earliest places may lie far apart: the others as near to the last as they can be.
            for number in range(len(found) - 2, -1, -1):
                nearer = folded.find_last(needles[number], found[number], found[number + 1])
                found[number] = max(found[number], nearer)
            return merge_ranges(
                folded.original,
                [_trailed(folded, *item) for item in zip(found, needles, parts, strict=True)],
            )

        return search

    def _put_together(self, quote: str) -> _Search | None:
        pieces = [quote[start:end].strip() for start, end in split_sentences(quote)]
        needles = [_needle(piece) for piece in pieces]
        sizes = [sum(1 for _ in words_of(piece)) for piece in pieces]
        if not 1 < len(pieces) <= _MAX_PARTS:
            return None

        def search(index: int) -> tuple[Range, ...]:
            folded = self._fold(index)
            found = [
                folded.find(needle) if size >= _MIN_PIECE_WORDS else -1
                for needle, size in zip(needles, sizes, strict=True)
            ]
            matched = sum(size for size, start in zip(sizes, found, strict=True) if start >= 0)
            if not matched or matched < _MIN_SHARE * sum(sizes):
                return ()
            items = zip(found, needles, pieces, strict=True)
            ranges = [_trailed(folded, *item) for item in items if item[0] >= 0]
            return merge_ranges(folded.original, ranges)

        return search

    def _reworded(self, quote: str, indices: Sequence[int]) -> Alignment | None:
        readable = [n for n in indices if len(self._texts[n]) <= _MAX_TEXT_CHARACTERS]
        found = find_reworded(quote, [self._read(index) for index in readable], _MIN_SHARE)
        if found is None:
            return None
        number, (start, end) = found
        text = self._texts[readable[number]]
        return Alignment(text=readable[number], ranges=(_without_blanks(text, start, end),))

    def _fold(self, index: int) -> Folded:
        folded = self._folded.get(index)
        if folded is None:
            folded = self._folded[index] = fold(self._texts[index])
        return folded

    def _read(self, index: int) -> WordedText:
        words = self._words.get(index)
        if words is None:
            words = self._words[index] = WordedText.of(self._texts[index])
        return words


def align_quote(
    quote: str, texts: Sequence[str], *, preferred: int | None = None
) -> Alignment | None:
    """Where `quote` stands in one of `texts`, or `None`: see the module's description.

    At equal strictness the text `preferred` comes first, then the others in order; among reworded
    quotes the best. Any strings will do. For several quotes of the same texts, hold an `Aligner`.
    """
    return Aligner(texts).align(quote, () if preferred is None else (preferred,))


def merge_ranges(text: str, ranges: Sequence[Range]) -> tuple[Range, ...]:
    """The ranges of `text` in ascending order, those joined that overlap or have blanks between."""
    merged: list[Range] = []
    for start, end in sorted(ranges):
        if merged and (start <= merged[-1].end or not text[merged[-1].end : start].strip()):
            merged[-1] = Range(merged[-1].start, max(end, merged[-1].end))
        else:
            merged.append(Range(start, end))
    return tuple(merged)


def _needle(quote: str) -> str:
    return fold(quote).text.strip(_ENDS)


def _trailed(folded: Folded, found: int, needle: str, quote: str) -> Range:
    """The range of a find, with the source's own marks at its ends where the quote had some."""
    start, end = folded.range(found, found + len(needle))
    text, quote = folded.original, quote.strip()
    if quote[-1] in _CLOSERS:
        stop = min(len(text), end + _MAX_TRAIL)
        while end < stop and text[end] in _CLOSERS:
            end += 1
    if quote[0] in _OPENERS:
        stop = max(0, start - _MAX_TRAIL)
        while start > stop and text[start - 1] in _OPENERS:
            start -= 1
    return Range(start, end)


def _without_blanks(text: str, start: int, end: int) -> Range:
    piece = text[start:end]
    return Range(start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip()))
