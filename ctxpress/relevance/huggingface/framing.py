"""What a checkpoint's tokenizer puts around a text, or around a question and a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ctxpress.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Frame", "IdArray", "RowArray", "frame_of"]

IdArray = npt.NDArray[np.int64]
RowArray = npt.NDArray[np.int64]
"""(n_tokens, 2): each token's id, and the type that tells the model question from text."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Rows before, between and behind sequences, one more than there are sequences.

    `types`: the type of the tokens of each sequence.
    """

    around: tuple[RowArray, ...]
    types: tuple[int, ...]

    @property
    def n_tokens(self) -> int:
        """How much of a window it takes up."""
        return sum(len(rows) for rows in self.around)

    def fill(self, *sequences: IdArray) -> RowArray:
        """A window: the token ids of each sequence, (n,), within the frame."""
        parts = [self.around[0]]
        for ids, token_type, after in zip(sequences, self.types, self.around[1:], strict=True):
            parts += [np.stack([ids, np.full(len(ids), token_type, np.int64)], axis=1), after]
        return np.concatenate(parts)


def frame_of(tokenizer: Tokenizer, name: str, n_sequences: Literal[1, 2]) -> Frame:
    """The frame around one or two sequences, seen from how letters are encoded.

    :raises ModelError: the tokenizer of the checkpoint `name` encodes them in no such way.
    """
    encoding: Any = tokenizer.encode("a", "b" if n_sequences == 2 else None)
    rows = np.array([encoding.ids, encoding.type_ids], np.int64).T.reshape(-1, 2)
    places = encoding.sequence_ids
    around, types, at = [], [], 0
    for number in range(n_sequences):
        spots = [spot for spot, place in enumerate(places) if place == number]
        if not spots or spots != list(range(spots[0], spots[-1] + 1)) or spots[0] < at:
            raise ModelError(
                f"{name}: its tokenizer has no way to put {n_sequences} texts in order"
            )
        around.append(rows[at : spots[0]])
        types.append(int(rows[spots[0], 1]))
        at = spots[-1] + 1
    around.append(rows[at:])
    return Frame(tuple(around), tuple(types))
