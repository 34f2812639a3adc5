"""Any string through a tokenizer, in slices that together have the tokens of the whole.

The tokenizer keeps the interpreter to itself for a whole call: two seconds for two megabytes, in
which no request would be answered. A slice takes some milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["encode_in_slices"]

_SURROGATES = re.compile("[\ud800-\udfff]")
_SLICE_CHARACTERS = 16_384


def encode_in_slices(
    tokenizer: Tokenizer, text: str, border: re.Pattern[str]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Token ids, (n_tokens,), and offsets in characters, (n_tokens, 2); nothing is added.

    A slice ends where a match of `border` does, which has to be a place that no token of the whole
    crosses or looks across. Lone surrogates, which cannot be written as UTF-8, are read as U+FFFD,
    one for one, so offsets are those of `text`.
    """
    well_formed = _SURROGATES.sub("\ufffd", text)
    ids: list[npt.NDArray[np.int32]] = [np.empty(0, np.int32)]
    offsets: list[npt.NDArray[np.int32]] = [np.empty((0, 2), np.int32)]
    for start, end in _slices(well_formed, border):
        encoding = tokenizer.encode(well_formed[start:end], add_special_tokens=False)
        ids.append(np.array(encoding.ids, np.int32))
        offsets.append(np.array(encoding.offsets, np.int32).reshape(-1, 2) + np.int32(start))
    return np.concatenate(ids), np.concatenate(offsets)


def _slices(text: str, border: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(text):
        cut = border.search(text, start + _SLICE_CHARACTERS)
        end = cut.end() if cut else len(text)
        yield start, end
        start = end
