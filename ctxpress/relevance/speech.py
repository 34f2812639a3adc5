"""What was said around a turn counts for it: minutes and transcripts are relevant in stretches.

In a conversation the answer to a question is spread over many turns, most of which say little by
themselves ("Yes, I think so"). Whoever asks about a topic wants the stretch in which it was talked
about. So a turn is worth, beside what it says itself, what the turns around it say on average,
the nearer the more: a smoothing of scores over the text, as TextTiling does it to find where
topics change (Hearst 1997, "TextTiling: Segmenting Text into Multi-paragraph Subtopic Passages").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctxpress.document import Range
from ctxpress.relevance.scorer import Titled

__all__ = ["Turn", "conversations", "with_surroundings"]

FloatArray = npt.NDArray[np.float32]

_REACH_CHARACTERS = 900
"""Distance at which a turn counts for another by 1/e: what the encoder reads at a time, too."""
_SURROUNDINGS = 2.0
"""Logits by which the mean around a turn counts for more than a turn's own."""
_MIN_TURNS = 8
"""Fewer are no conversation that has stretches."""
_MOST_BEFORE = 0.25
"""Part of a transcript that may stand before the first turn: a heading, who was there."""
_SPEAKER = re.compile(r"\s*([^\W\d_][^\n:]{0,60}):\s")


@dataclass(frozen=True, slots=True)
class Turn:
    """Sentences `[first, stop)` of the text number `text`, said by `speaker`; how long they are."""

    text: int
    first: int
    stop: int
    speaker: str
    n_characters: int


def conversations(
    texts: Sequence[Titled], sentences: Sequence[Sequence[Range]]
) -> list[list[Turn]]:
    """The turns of each conversation in `texts`, in order; none where nobody speaks.

    A turn begins at a sentence that begins with a name and a colon. A text of many turns is a
    conversation, whatever little stands before the first, and so are neighbouring texts of one
    turn each that have no title, or the same. In a conversation there are at least eight turns, of
    two speakers or more, and they speak again: what is called by another name on every line is
    a list.
    """
    found: list[list[Turn]] = []
    run: list[Turn] = []
    title: str | None = None
    for number, (text, ranges) in enumerate(zip(texts, sentences, strict=True)):
        turns = list(_turns(number, text.text, ranges))
        if run and (len(turns) != 1 or text.title != title):
            found.append(run)
            run = []
        if len(turns) == 1:
            title = text.title
            run += turns
        else:
            found.append(turns)
    return [turns for turns in [*found, run] if _is_conversation(turns)]


def _turns(number: int, text: str, sentences: Sequence[Range]) -> Iterator[Turn]:
    """The turns of one text; none where it does not begin with them, or nearly so."""
    starts = [
        (index, match[1])
        for index, sentence in enumerate(sentences)
        if (match := _SPEAKER.match(text, sentence.start, sentence.end))
    ]
    if not starts:
        return
    before = sentences[starts[0][0]].start
    if before and (len(starts) == 1 or before > _MOST_BEFORE * len(text)):
        return
    stops = [index for index, _ in starts[1:]] + [len(sentences)]
    for (first, speaker), stop in zip(starts, stops, strict=True):
        size = sentences[stop - 1].end - sentences[first].start
        yield Turn(number, first, stop, speaker, size)


def _is_conversation(turns: Sequence[Turn]) -> bool:
    speakers = {turn.speaker for turn in turns}
    return len(turns) >= _MIN_TURNS and 2 <= len(speakers) <= len(turns) / 2


def with_surroundings(
    conversations: Sequence[Sequence[Turn]], logits: Sequence[FloatArray]
) -> list[FloatArray]:
    """The logits of sentences, (n_sentences,) a text, none of them lower than they were.

    In conversations, the mean of the turns around a sentence counts for it where that is more than
    it says itself. No sentence comes out higher than the best of its conversation went in.
    """
    raised = list(logits)
    for turns in conversations:
        own = np.array([logits[turn.text][turn.first : turn.stop].max() for turn in turns], float)
        around = np.minimum(_smoothed(own, turns) + _SURROUNDINGS, own.max())
        for turn, level in zip(turns, around, strict=True):
            values = raised[turn.text].copy()
            here = values[turn.first : turn.stop]
            np.maximum(here, np.float32(level), out=here)
            raised[turn.text] = values
    return raised


def _smoothed(values: npt.NDArray[np.float64], turns: Sequence[Turn]) -> npt.NDArray[np.float64]:
    """The mean around each turn, (n_turns,), weights falling exponentially with the distance."""
    sizes = np.array([turn.n_characters for turn in turns], np.float64)
    gaps = (sizes[1:] + sizes[:-1]) / 2
    decays = np.exp(-gaps / _REACH_CHARACTERS)
    totals, norms = -values, -np.ones(len(values))  # each value is in the sums of both directions
    for order, steps in ((range(len(values)), decays), (range(len(values))[::-1], decays[::-1])):
        running = weight = 0.0
        for rank, index in enumerate(order):
            fade = float(steps[rank - 1]) if rank else 0.0
            running = values[index] + fade * running
            weight = 1.0 + fade * weight
            totals[index] += running
            norms[index] += weight
    return np.asarray(totals / norms, np.float64)
