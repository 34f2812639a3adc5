"""Sub-tokens of any string by a checkpoint's own tokenizer, with offsets and nothing added."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ctxpress.models.slices import encode_in_slices

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["encode_literally", "literal_tokenizer"]

_BEFORE_BLANK = re.compile(r"(?<=[!-~])(?= [!-~])")
"""Where tokens that begin with a blank begin, between ASCII words."""


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
    token_ids, offsets = encode_in_slices(tokenizer, text, _BEFORE_BLANK)
    return token_ids.astype(np.int64), offsets
