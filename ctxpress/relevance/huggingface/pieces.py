"""A text as a model can read it: in pieces that fit its window, and its sentences one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ctxpress.document import Range
from ctxpress.models.subtokens import encode_literally
from ctxpress.relevance.huggingface.framing import IdArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["ReadText", "last_of", "read_text"]

_HEAD_SHARE = 4
"""What stands before each of several pieces may take up the window's fourth part."""


@dataclass(frozen=True, slots=True)
class ReadText:
    """Token ids of a text of n sentences.

    `pieces` cover it, and there is at least one, be it empty. `within`: the numbers of the pieces
    that each sentence is in, as [start, end). `sentences`: each one alone behind the head, in
    several parts where it is longer than a window.
    """

    pieces: tuple[IdArray, ...]
    within: tuple[Range, ...]
    sentences: tuple[tuple[IdArray, ...], ...]


def read_text(
    tokenizer: Tokenizer, head: str, text: str, sentences: Sequence[Range], capacity: int
) -> ReadText:
    """Tokenise `head` + `text` once, and cut it where `capacity` tokens do not hold it.

    Pieces are whole sentences, as many as fit, and begin with the head. A sentence that is longer
    than a window is cut evenly. All strings will do.

    :raises ValueError: `capacity` is below 2.
    """
    if capacity < 2:
        raise ValueError(f"a window with room for {capacity} tokens")
    ids, offsets = encode_literally(tokenizer, head + text)
    body = int(np.searchsorted(_last_characters(offsets), len(head)))
    bounds = _sentence_bounds(offsets[body:], len(head), sentences) + body
    start = ids[: min(body, capacity // _HEAD_SHARE)]
    room = capacity - len(start)
    spans = [_cut(int(first), int(stop), room) for first, stop in _pairs(bounds)]
    alone = tuple(
        tuple(np.concatenate([start, ids[first:stop]]) for first, stop in parts) for parts in spans
    )
    if len(ids) <= capacity:
        return ReadText((ids,), (Range(0, 1),) * len(sentences), alone)
    runs, within = _packed(spans, room)
    pieces = [np.concatenate([start, ids[first:stop]]) for first, stop in runs]
    return ReadText(tuple(pieces or [start]), tuple(within), alone)


def last_of(ids: IdArray, n_head: int, capacity: int) -> IdArray:
    """At most `capacity` tokens: of the `n_head` first ones a fourth at most, then the last ones.

    A long question ends with what is asked.
    """
    if len(ids) <= capacity:
        return ids
    head = ids[: min(n_head, capacity // _HEAD_SHARE)]
    return np.concatenate([head, ids[len(ids) - (capacity - len(head)) :]])


def _last_characters(offsets: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Where each token's last character is; a leading blank is part of a token in SentencePiece.

    Never falling: bytes of one character are several tokens with the same offsets.
    """
    last = np.maximum(offsets[:, 0], offsets[:, 1] - 1).astype(np.int64)
    return np.maximum.accumulate(last) if len(last) else last


def _sentence_bounds(
    offsets: npt.NDArray[np.int32], shift: int, sentences: Sequence[Range]
) -> npt.NDArray[np.int64]:
    """(n_sentences + 1,): where each sentence's tokens begin, and where the last one's end."""
    starts = np.array([sentence.start for sentence in sentences], np.int64) + shift
    found = np.searchsorted(_last_characters(offsets), starts)
    found[:1] = 0
    return np.append(found, len(offsets)).astype(np.int64)


def _pairs(bounds: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    return list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))


def _cut(first: int, stop: int, room: int) -> list[tuple[int, int]]:
    """[first, stop) in as few even parts as fit into `room`; one where it is empty."""
    n_parts = max(1, -(-(stop - first) // room))
    edges = [first + (stop - first) * part // n_parts for part in range(n_parts + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))


def _packed(
    spans: Sequence[Sequence[tuple[int, int]]], room: int
) -> tuple[list[tuple[int, int]], list[Range]]:
    """Runs of neighbouring sentences of at most `room` tokens, and which of them each is in."""
    runs: list[tuple[int, int]] = []
    within: list[Range] = []
    is_open = False
    for parts in spans:
        if len(parts) > 1:
            within.append(Range(len(runs), len(runs) + len(parts)))
            runs += parts
            is_open = False
            continue
        first, stop = parts[0]
        if is_open and stop - runs[-1][0] <= room:
            runs[-1] = (runs[-1][0], stop)
        else:
            runs.append((first, stop))
            is_open = True
        within.append(Range(len(runs) - 1, len(runs)))
    return runs, within
