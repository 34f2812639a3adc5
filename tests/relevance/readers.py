"""An encoder made to order: what it says of a word is written in a table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ctxpress.models.scorer import TokenEvidence, TokenVectors

_WORD = re.compile(r"\S+")
LOW = -8.0


class TableReader:
    """Every run of characters without blanks is a sub-token; `logits` has those that are of use."""

    identity = "table/1"
    languages = frozenset({"en"})

    def __init__(self, logits: Mapping[str, float] | None = None) -> None:
        self.logits = logits or {}
        self.calls: list[list[str]] = []
        self._ids: dict[str, int] = {}

    @property
    def read(self) -> list[str]:
        """All texts that were read, in order."""
        return [text for call in self.calls for text in call]

    def word_pieces(self, words: Sequence[str]) -> list[tuple[int, ...]]:
        """Each word is one piece."""
        return [(self._ids.setdefault(word, len(self._ids)),) for word in words]

    def word_vectors(self, token_ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """No two words are alike."""
        rows = np.zeros((len(token_ids), len(self._ids)), np.float32)
        rows[np.arange(len(token_ids)), token_ids] = 1
        return rows

    def read_jointly(
        self,
        texts: Sequence[str],
        question: str,
        *,
        checkpoint: Callable[[], None] | None = None,
    ) -> list[TokenEvidence]:
        self.calls.append(list(texts))
        found = []
        for text in texts:
            if checkpoint is not None:
                checkpoint()
            words = list(_WORD.finditer(text))
            values = np.array([self.logits.get(m.group().strip(".,"), LOW) for m in words])
            starts = np.array([m.start() for m in words], np.int32)
            found.append(
                TokenEvidence(starts, values.astype(np.float32), values.astype(np.float32))
            )
        return found

    def embed(
        self, texts: Sequence[str], *, checkpoint: Callable[[], None] | None = None
    ) -> list[TokenVectors]:
        """A vector by the letters of each word, so that equal words have equal vectors."""
        self.calls.append(list(texts))
        found = []
        for text in texts:
            words = list(_WORD.finditer(text.lower()))
            rows = np.zeros((len(words), 64), np.float32)
            for row, match in zip(rows, words, strict=True):
                for letter in match.group().strip(".,?"):
                    row[ord(letter) % 64] += 1
            starts = np.array([m.start() for m in words], np.int32)
            found.append(TokenVectors(starts, rows))
        return found
