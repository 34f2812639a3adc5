"""Sub-tokens of any string by a checkpoint's own tokenizer, with offsets and nothing added."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["encode_literally", "literal_tokenizer"]

_SURROGATES = re.compile("[\ud800-\udfff]")
_SLICE_CHARACTERS = 16_384
_CUT = re.compile(r"(?<=[!-~]) (?=[!-~])")


def literal_tokenizer(tokenizer: Any) -> Tokenizer:
    """A tokenizer of its own that reads names of special tokens as text and cuts nothing off.

    `tokenizer` is a fast one of transformers.
    """
    from tokenizers import Tokenizer

    own = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    own.no_truncation()
    own.no_padding()
    own.encode_special_tokens = True
    return own


def encode_literally(
    tokenizer: Tokenizer, text: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Token ids, (n_tokens,), and offsets in characters, (n_tokens, 2), of any string.

    Lone surrogates, which cannot be written as UTF-8, are read as U+FFFD, one for one.
    """
    well_formed = _SURROGATES.sub("\ufffd", text)
    ids: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    spots: list[npt.NDArray[np.int32]] = [np.empty((0, 2), np.int32)]
    for start, end in _slices(well_formed):
        encoding = tokenizer.encode(well_formed[start:end], add_special_tokens=False)
        ids.append(np.array(encoding.ids, np.int64))
        spots.append(np.array(encoding.offsets, np.int32).reshape(-1, 2) + np.int32(start))
    return np.concatenate(ids), np.concatenate(spots)


def _slices(text: str) -> Iterator[tuple[int, int]]:
    """The text in slices that begin at a blank between ASCII words, as their tokens do.

    The tokenizer holds the interpreter for a whole call; a slice takes some milliseconds.
    """
    start = 0
    while start < len(text):
        cut = _CUT.search(text, start + _SLICE_CHARACTERS)
        end = cut.start() if cut else len(text)
        yield start, end
        start = end
