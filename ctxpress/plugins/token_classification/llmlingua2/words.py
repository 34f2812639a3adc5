"""A chunk's scored tokens as words.

Probabilities stay numpy float32 scalars and forced ones Python floats on purpose: the thresholds
that are computed from them have 32 bits or 64 depending on whether any is forced, and words at
the threshold come or go by that.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ctxpress.errors import ParityError
from ctxpress.plugins.token_classification.llmlingua2.chunks import ForceMap

__all__ = ["ChunkWords", "Family", "WordRules"]

_DIGIT = re.compile(r"\d")


class Family(Enum):
    """How a tokenizer marks the beginnings of words; the value is its mark."""

    WORD_PIECE = "#"
    """BERT: `##` before every piece that continues a word."""
    SENTENCE_PIECE = "\u2581"
    """XLM-R: `▁` before every piece that begins one."""


@dataclass(frozen=True, slots=True)
class ChunkWords:
    """Words of one chunk, with a probability for each.

    `free_probabilities` ignore what is forced; contexts are ranked by them.
    """

    words: list[str]
    probabilities: list[float]
    free_probabilities: list[float]


@dataclass(frozen=True, slots=True)
class WordRules:
    """How tokens become words. `special` are the tokenizer's own special tokens."""

    family: Family
    special: frozenset[str]
    force_tokens: frozenset[str]
    force_map: ForceMap
    force_reserve_digit: bool
    token_to_word: str

    def read(self, tokens: Sequence[str], probabilities: Sequence[float]) -> ChunkWords:
        """Words of a chunk from its tokens, framing included, and their probabilities.

        Special tokens vanish, those in the text as well. All tokens of a word count for its
        ranking by the probability of its first token.

        :raises ParityError: the text begins with a token that continues a word (an
            `IndexError`), or `token_to_word` is unknown (a `NotImplementedError`).
        """
        added = frozenset(self.force_map.names.values())
        forced = self.force_tokens | added
        words: list[str] = []
        values: list[list[float]] = []
        free: list[list[float]] = []
        for token, probability in zip(tokens, probabilities, strict=True):
            if token in self.special:
                continue
            pure = token.lstrip(self.family.value)
            value = probability
            if self._begins(token, pure, forced):
                if pure in forced:
                    value = 1.0
                words.append(self.force_map.restore(token))
                values.append([])
                free.append([])
                first = probability
            elif not words:
                raise ParityError(
                    f"the text begins with {token!r}, which continues a word",
                    mirrors=IndexError,
                    argument="context",
                )
            else:
                words[-1] += pure
            if self.force_reserve_digit and _DIGIT.search(token):
                value = 1.0
            values[-1].append(value)
            free[-1].append(first)
        return ChunkWords(words, self._join(values), self._join(free))

    def _begins(self, token: str, pure: str, forced: frozenset[str]) -> bool:
        if self.family is Family.WORD_PIECE:
            return pure in forced or not token.startswith("##")
        # A substring of "!\"#$…" counts as punctuation: "()" does, "->" does not.
        return token in string.punctuation or token in forced or token.startswith("\u2581")

    def _join(self, probabilities: list[list[float]]) -> list[float]:
        """One probability a word, summed from the left in the precision of what is summed."""
        if self.token_to_word == "mean":
            return [sum(tokens) / len(tokens) for tokens in probabilities]
        if self.token_to_word == "first":
            return [tokens[0] for tokens in probabilities]
        raise ParityError(
            f"token_to_word is {self.token_to_word!r}; it can be 'mean' or 'first'",
            mirrors=NotImplementedError,
            argument="token_to_word",
        )
