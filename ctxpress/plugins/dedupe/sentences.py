"""Which sentences repeat others, or something that was sent before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ctxpress.plugins.dedupe.overlap import ShingleIndex
from ctxpress.plugins.dedupe.text_runs import TextRun
from ctxpress.plugins.dedupe.words import Lexicon, Reading
from ctxpress.relevance import split_sentences

__all__ = ["Repeated", "find_repeated_sentences"]

Repeated = dict[int, bool]
"""Sentences of one run, by number, that repeat others: whether those were sent before."""

_TOOL_WORDS = 20
"""In a tool's result shorter repetitions stay: "All checks have passed." is news every time."""
_CHECK_EVERY = 256


def find_repeated_sentences(
    runs: Sequence[TextRun],
    lexicon: Lexicon,
    *,
    threshold: float,
    min_words: int,
    earlier: Sequence[str] = (),
    checkpoint: Callable[[], None] = lambda: None,
) -> list[Repeated]:
    """For each run, the sentences that may leave since one before them says the same.

    The first of all stays, `earlier` counting as before everything. Nothing depends on what
    follows it, so that a message never depends on a later one (law 3).
    """
    sent = list(_sentences_of(earlier, lexicon, min_words, checkpoint))
    places = [(n, m) for n, run in enumerate(runs) for m in range(len(run.sentences))]
    readings = [*sent, *(runs[n].sentences[m].reading for n, m in places)]
    movable = [*(False for _ in sent), *(runs[n].sentences[m].movable for n, m in places)]
    stands_for = _equal(readings, movable)
    stands_for |= _alike(readings, movable, stands_for, lexicon, threshold, checkpoint)
    found: list[Repeated] = [{} for _ in runs]
    for number, other in stands_for.items():
        run, place = places[number - len(sent)]
        found[run][place] = stands_for.get(other, other) < len(sent)
    return [
        _long_stretches(run, repeated) if run.tool else repeated
        for run, repeated in zip(runs, found, strict=True)
    ]


def _sentences_of(
    texts: Sequence[str], lexicon: Lexicon, min_words: int, checkpoint: Callable[[], None]
) -> Iterator[Reading]:
    for text in texts:
        checkpoint()
        for start, end in split_sentences(text):
            reading = lexicon.read(text[start:end])
            if reading.size >= min_words:
                yield reading


def _equal(readings: Sequence[Reading], movable: Sequence[bool]) -> dict[int, int]:
    first: dict[bytes, int] = {}
    found: dict[int, int] = {}
    for number, reading in enumerate(readings):
        other = first.setdefault(reading.key, number)
        if other != number and movable[number]:
            found[number] = other
    return found


def _alike(
    readings: Sequence[Reading],
    movable: Sequence[bool],
    equal: dict[int, int],
    lexicon: Lexicon,
    threshold: float,
    checkpoint: Callable[[], None],
) -> dict[int, int]:
    different = [number for number in range(len(readings)) if number not in equal]
    index = ShingleIndex([readings[number].words for number in different], threshold)
    found: dict[int, int] = {}
    for place, number in enumerate(different):
        if place % _CHECK_EVERY == 0:
            checkpoint()
        if not movable[number]:
            continue
        facts = readings[number].facts.tobytes()
        for rival in index.rivals(place, below=place):
            other = different[rival]
            if (
                other not in found
                and readings[other].facts.tobytes() == facts
                and index.same(place, rival)
                and not lexicon.oppose(readings[number], readings[other])
            ):
                found[number] = other
                break
    return found


def _long_stretches(run: TextRun, repeated: Repeated) -> Repeated:
    """Only what is repeated in one piece of some length."""
    kept: Repeated = {}
    stretch: list[int] = []
    for number in sorted(repeated):
        sentences = run.sentences
        if stretch and sentences[stretch[-1]].end != sentences[number].start:
            kept |= _if_long(run, repeated, stretch)
            stretch = []
        stretch.append(number)
    return kept | _if_long(run, repeated, stretch)


def _if_long(run: TextRun, repeated: Repeated, stretch: Sequence[int]) -> Repeated:
    words = sum(run.sentences[number].reading.size for number in stretch)
    return {number: repeated[number] for number in stretch} if words >= _TOOL_WORDS else {}
