"""Which pieces stay within a budget of tokens, and which ranges of their documents those are."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from ctxpress.arrangement import Passage
from ctxpress.document import Range
from ctxpress.plugins.restructure.pieces import Piece, Pieces

__all__ = ["Choice", "Fitting", "ranges_to_keep"]

_BATCH = 64
"""Pieces between two checkpoints."""
_HOPELESS = 1.5
"""What seems to be so many times the budget is not counted: pieces all together, or one of them."""
_DENSE_ENDS = "。！？；｡？！"


@dataclass(frozen=True, slots=True)
class Choice:
    """What stays: ranges of the text of each passage, by its number, and its best piece's score.

    The ranges hold what is protected in the passage.
    """

    keep: dict[int, tuple[Range, ...]]
    scores: dict[int, float]


class Fitting:
    """Chooses among the pieces of one request; tokens of pieces are counted once.

    `head_of` gives the text that a passage gets in front of its own; it costs tokens, and what is
    protected in a passage does, as soon as anything of it stays. What is protected in a pinned
    passage stays anyway and costs nothing. Pieces that are `forced` stay whatever the budget.
    """

    def __init__(
        self,
        passages: Sequence[Passage],
        pieces: Pieces,
        count: Callable[[str], int],
        *,
        head_of: Callable[[Passage], str] = lambda passage: "",
        forced: Sequence[Piece] = (),
        checkpoint: Callable[[], None] = lambda: None,
    ) -> None:
        self._passages = passages
        self._pieces = pieces
        self._count = count
        self._head_of = head_of
        self._forced = forced
        self._checkpoint = checkpoint
        self._costs: dict[tuple[int, Range], int] = {}
        self._openings: dict[int, int] = {}
        self._densities: dict[int, float] = {}  # tokens a character

    def choose(self, budget: int) -> Choice:
        """All pieces, if they fit into `budget` tokens; else the best that do.

        A piece that does not fit is passed over for shorter ones, and so is, without counting, one
        that by its length seems to be far from fitting. One that a chosen piece leans on comes up
        at its own score. Costs of pieces are added up, which is near to the tokens of the
        whole, and not the same.
        """
        everything = [*self._forced, *self._pieces.wanted, *self._pieces.leans.values()]
        if self._may_fit(everything, budget):
            choice = self._choice(everything)
            if self._tokens(choice) <= budget:
                return choice
        return self._choice(self._best(budget))

    def _best(self, budget: int) -> Iterator[Piece]:
        left = budget
        taken: set[tuple[int, Range]] = set()
        opened: set[int] = set()
        queue = [_key(piece) for piece in self._pieces.wanted]
        heapq.heapify(queue)
        for piece in self._forced:
            left -= self._cost(piece, opened)
            taken.add((piece.passage, piece.range))
            opened.add(piece.passage)
            yield piece
        steps = 0
        while queue:
            _, piece = heapq.heappop(queue)
            steps += 1
            if steps % _BATCH == 0:
                self._checkpoint()
            if (piece.passage, piece.range) not in taken:
                if self._is_hopeless(piece, left):
                    continue
                cost = self._cost(piece, opened)
                if cost > max(left, 0):
                    continue
                left -= cost
                taken.add((piece.passage, piece.range))
                opened.add(piece.passage)
                yield piece
            before = self._pieces.leans.get(piece)
            if before is not None:
                heapq.heappush(queue, _key(before))

    def _cost(self, piece: Piece, opened: set[int]) -> int:
        passage = self._passages[piece.passage]
        key = (piece.passage, piece.range)
        if key not in self._costs:
            self._costs[key] = self._counted(_free_text(passage, piece.range).strip())
        if piece.passage in opened:
            return self._costs[key]
        if piece.passage not in self._openings:
            fixed = () if passage.pinned else passage.fixed
            texts = [self._head_of(passage), *(passage.text[a:b] for a, b in fixed)]
            self._openings[piece.passage] = sum(map(self._counted, texts))
        return self._costs[key] + self._openings[piece.passage]

    def _is_hopeless(self, piece: Piece, left: int) -> bool:
        """Whether a piece need not be counted to see that it does not fit into `left` tokens."""
        passage = self._passages[piece.passage]
        size = len(_free_text(passage, piece.range).strip())
        if left <= 0 or not size:
            return size > 0
        if piece.passage not in self._densities:
            tokens = self._counted(passage.text)
            self._densities[piece.passage] = tokens / len(passage.text)
        return size * self._densities[piece.passage] > _HOPELESS * left

    def _counted(self, text: str) -> int:
        return self._count(text) if text else 0

    def _may_fit(self, pieces: Sequence[Piece], budget: int) -> bool:
        """Whether it is worth to try all of them, by their share of the characters."""
        size = sum(piece.range.end - piece.range.start for piece in pieces)
        all_characters = sum(len(passage.text) for passage in self._passages)
        if not size or not all_characters:
            return True
        sample = max(self._passages, key=lambda passage: len(passage.text)).text[:4000]
        per_character = self._counted(sample) / max(1, len(sample))
        return size * per_character <= _HOPELESS * max(budget, 1) + 100

    def _choice(self, pieces: Iterable[Piece]) -> Choice:
        ranges: dict[int, set[Range]] = {}
        scores: dict[int, float] = {}
        for piece in pieces:
            ranges.setdefault(piece.passage, set()).add(piece.range)
            scores[piece.passage] = max(piece.score, scores.get(piece.passage, piece.score))
        keep = {n: ranges_to_keep(self._passages[n], found) for n, found in ranges.items()}
        return Choice(keep, scores)

    def _tokens(self, choice: Choice) -> int:
        total = 0
        for number, ranges in choice.keep.items():
            passage = self._passages[number]
            kept = "".join(passage.text[start:end] for start, end in ranges)
            total += self._count(self._head_of(passage) + kept)
            if passage.pinned:
                total -= sum(self._counted(passage.text[a:b]) for a, b in passage.fixed)
        return total


def _key(piece: Piece) -> tuple[float, Piece]:
    return (-piece.score, piece)


def ranges_to_keep(passage: Passage, pieces: Iterable[Range]) -> tuple[Range, ...]:
    """The pieces and what is protected, ascending, apart from each other.

    Where words would run together, a blank of what is left out between them stays. Blanks at both
    ends go, unless they are protected or all of the passage stays.
    """
    merged = _merged([*pieces, *passage.fixed])
    if merged == [Range(0, len(passage.text))]:
        return tuple(merged)
    joined: list[Range] = []
    for piece in merged:
        if joined:
            blank = _blank_between(passage.text, joined[-1].end, piece.start)
            if blank is not None:
                joined.append(blank)
        joined.append(piece)
    return tuple(_trimmed(passage, joined))


def _merged(ranges: Iterable[Range]) -> list[Range]:
    merged: list[Range] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1].end:
            merged[-1] = Range(merged[-1].start, max(end, merged[-1].end))
        elif start < end:
            merged.append(Range(start, end))
    return merged


def _blank_between(text: str, end: int, start: int) -> Range | None:
    """The first blank of `text[end:start]`, where what stands around it needs one."""
    if text[end - 1].isspace() or text[start].isspace() or text[end - 1] in _DENSE_ENDS:
        return None
    return next((Range(n, n + 1) for n in range(end, start) if text[n].isspace()), None)


def _trimmed(passage: Passage, ranges: Sequence[Range]) -> Iterator[Range]:
    """The ranges without unprotected blanks before the first and behind the last character."""
    text = passage.text
    first = min((start for start, _ in passage.fixed), default=len(text))
    last = max((end for _, end in passage.fixed), default=0)
    for start, end in ranges:
        while start < min(end, first) and text[start].isspace():
            start += 1
        if start < end:
            first = start  # what follows is inside
            break
    begin = first
    stop = last
    for start, end in reversed(ranges):
        while end > max(start, last) and text[end - 1].isspace():
            end -= 1
        if end > start:
            stop = end
            break
    for start, end in ranges:
        if max(start, begin) < min(end, stop):
            yield Range(max(start, begin), min(end, stop))


def _free_text(passage: Passage, piece: Range) -> str:
    """What of a piece is not protected."""
    parts, at = [], piece.start
    first = bisect_right(passage.fixed, at, key=lambda fixed: fixed.end)
    for start, end in islice(passage.fixed, first, None):
        if start >= piece.end:
            break
        parts.append(passage.text[at : max(at, start)])
        at = min(end, piece.end)
    parts.append(passage.text[at : piece.end])
    return "".join(parts)
