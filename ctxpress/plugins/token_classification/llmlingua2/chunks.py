"""A context as chunks of at most 512 tokens: force tokens marked, cut at ends of sentences.

A chunk is handed on as text and tokenised again for the encoder. That round trip is lossy, and
the losses are part of the published behaviour: line breaks and repeated blanks vanish, an unknown
BERT word becomes the text `[UNK]`, and a chunk that grows beyond 512 tokens loses its tail.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxpress.errors import ParityError

if TYPE_CHECKING:
    from ctxpress.plugins.token_classification.llmlingua2.options import LLMLingua2Options

__all__ = ["CLS", "MAX_FORCE_TOKENS", "PAD", "SEP", "WIDTH", "ForceMap", "cut_chunks", "frame"]

WIDTH = 512
"""Tokens of an encoder's row, framing included; shorter rows are padded to it."""
MAX_FORCE_TOKENS = 100
CLS, SEP, PAD = "[CLS]", "[SEP]", "[PAD]"
"""BERT's names, for both families: XLM-R does not know them and reads `<unk>` for each."""

Tokenize = Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class ForceMap:
    """Force tokens that are not one token of the model, and the added token that stands for each.

    `names` maps in the order in which replacements are made. `ends` are the tokens at which a
    chunk may end.
    """

    names: dict[str, str]
    ends: frozenset[str]

    @classmethod
    def of(cls, options: LLMLingua2Options, tokenize: Tokenize) -> ForceMap:
        """The map for one call.

        :raises ParityError: there are more than 100 force tokens (an `AssertionError`).
        """
        if len(options.force_tokens) > MAX_FORCE_TOKENS:
            raise ParityError(
                f"{len(options.force_tokens)} force_tokens; at most {MAX_FORCE_TOKENS} can be told "
                "apart",
                mirrors=AssertionError,
                argument="force_tokens",
            )
        names = {
            token: f"[NEW{index}]"
            for index, token in enumerate(options.force_tokens)
            if len(tokenize(token)) != 1
        }
        ends = frozenset(options.chunk_end_tokens)
        return cls(names, ends | {names[token] for token in ends if token in names})

    def mark(self, text: str) -> str:
        """`text` with the added tokens in it; inside words, too."""
        for token, name in self.names.items():
            text = text.replace(token, name)
        return text

    def restore(self, text: str) -> str:
        """`text` with what the added tokens stand for."""
        for token, name in self.names.items():
            text = text.replace(name, token)
        return text


def cut_chunks(tokens: Sequence[str], ends: Collection[str]) -> list[Sequence[str]]:
    """`tokens` in chunks of 510 or fewer that end at an end token where there is one.

    Without one, a chunk has 511: one more than fits between the framing tokens.
    """
    room = WIDTH - 2
    chunks: list[Sequence[str]] = []
    start = 0
    while len(tokens) - start > room:
        last = next((k for k in range(start + room, start, -1) if tokens[k] in ends), start + room)
        chunks.append(tokens[start : last + 1])
        start = last + 1
    if start < len(tokens):
        chunks.append(tokens[start:])
    return chunks


def frame(tokens: Sequence[str]) -> list[str]:
    """The encoder's row for a chunk: framed, cut to 512, padded to 512."""
    row = [CLS, *tokens, SEP][:WIDTH]
    return row + [PAD] * (WIDTH - len(row))
