"""Text to the encoder's input: sub-token ids, character offsets, and the shape of each sub-token.

The vocabulary is lower-cased, so `US` and `us` share an id. What lower-casing and splitting throw
away comes back as a *shape* (one of `N_SHAPES` small integers a sub-token), which the encoder adds
as an embedding: the letter case of the sub-token, and what stands between it and its predecessor.
Training and inference both call `encode_text`; there is no second implementation to drift.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ctxpress.models.slices import encode_in_slices

if TYPE_CHECKING:
    from tokenizers import Tokenizer

N_CASES = 4
"""Letter case: 0 no capital, 1 first letter only, 2 capitals only (two or more), 3 mixed."""
N_BOUNDARIES = 3
"""Before the sub-token: 0 nothing (glued to its predecessor), 1 blanks, 2 a line break or start."""
N_SHAPES = N_CASES * N_BOUNDARIES
N_QUESTION_SHAPES = N_SHAPES
"""A question's sub-token has its shape plus `N_SHAPES`: so the encoder tells it from the text."""

UNKNOWN_ID, CLS_ID, SEP_ID = 100, 101, 102
"""[UNK], [CLS] and [SEP] of the BERT vocabulary; the last two frame what the encoder reads."""
EDGE_SHAPE = 0
"""Shape of the framing tokens."""
MAX_QUESTION_TOKENS = 62
"""Of a longer question the encoder reads the end, where people ask."""

_NEWLINE = 10
_WORD_END = re.compile(r"[ \n](?=[ -~])")
"""A blank before something that cannot combine with it."""


@dataclass(frozen=True, slots=True)
class EncodedText:
    """The sub-tokens of one text, in order; every array has shape (n_tokens,).

    `starts` and `ends` are int32 offsets in characters (Python `str` indices); `token_ids` and
    `shape_ids` are int32.
    """

    token_ids: npt.NDArray[np.int32]
    shape_ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]


def encode_text(tokenizer: Tokenizer, text: str) -> EncodedText:
    """Tokenise a whole text once: no special tokens, no truncation, no padding.

    Any `str` is accepted. Lone surrogates, which cannot be written as UTF-8, are read as U+FFFD,
    one for one, so offsets stay valid for the caller's string. Characters that the tokenizer drops
    (blanks, controls) belong to no sub-token.
    """
    token_ids, offsets = encode_in_slices(tokenizer, text, _WORD_END)
    starts, ends = offsets[:, 0].copy(), offsets[:, 1].copy()
    return EncodedText(token_ids, _shapes(text, starts, ends), starts, ends)


def encode_head(tokenizer: Tokenizer, question: str | None) -> npt.NDArray[np.int32]:
    """What stands before a window: ids and shapes, (2, n) int32.

    `[CLS]`, and where there is a question, its last `MAX_QUESTION_TOKENS` sub-tokens and `[SEP]`.
    """
    edge = np.array([[CLS_ID], [EDGE_SHAPE]], np.int32)
    if question is None:
        return edge
    encoded = encode_text(tokenizer, question)
    ids, shapes = encoded.token_ids, encoded.shape_ids + np.int32(N_SHAPES)
    middle = np.stack([ids, shapes])[:, -MAX_QUESTION_TOKENS:]
    return np.concatenate([edge, middle, [[SEP_ID], [EDGE_SHAPE]]], axis=1, dtype=np.int32)


def _shapes(
    text: str, starts: npt.NDArray[np.int32], ends: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    capital = (points >= 0x41) & (points <= 0x5A)
    capital |= (points >= 0xC0) & (points <= 0xDE) & (points != 0xD7)
    n_capitals_before = _running_count(capital)
    n_newlines_before = _running_count(points == _NEWLINE)

    lengths = ends - starts
    n_capitals = n_capitals_before[ends] - n_capitals_before[starts]
    first_is_capital = (
        n_capitals_before[np.minimum(starts + 1, len(points))] > n_capitals_before[starts]
    )
    case = np.where(n_capitals == 0, 0, 3)
    case[(n_capitals == 1) & first_is_capital] = 1
    case[(n_capitals == lengths) & (lengths > 1)] = 2

    previous_ends = np.concatenate([np.zeros(1, np.int32), ends[:-1]])[: len(starts)]
    broken = n_newlines_before[starts] > n_newlines_before[np.minimum(previous_ends, starts)]
    boundary = np.where(broken, 2, np.where(starts > previous_ends, 1, 0))
    boundary[:1] = 2
    shapes: npt.NDArray[np.int32] = (boundary * N_CASES + case).astype(np.int32)
    return shapes


def _running_count(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """`out[i]` = how many of the first i flags are set; shape (n + 1,)."""
    counts = np.zeros(len(flags) + 1, np.int32)
    np.cumsum(flags, out=counts[1:])
    return counts
