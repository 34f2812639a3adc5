"""LLMLingua-2 as the `llmlingua` 0.2.2 library computes it, quirks included.

Pan et al. 2024, "LLMLingua-2: Data Distillation for Efficient and Faithful Task-Agnostic Prompt
Compression"; what the library does beyond the paper was found by comparing outputs
(`tests/parity`). Same checkpoint, options, seed and transformers version: same output, and where
the library raises, a `ParityError` that names the exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ctxpress.errors import ParityError
from ctxpress.plugins.token_classification.llmlingua2.chunks import ForceMap, cut_chunks
from ctxpress.plugins.token_classification.llmlingua2.encoder import ChunkEncoder
from ctxpress.plugins.token_classification.llmlingua2.filter import (
    choose_contexts,
    choose_words,
    context_rate,
    context_score,
    fraction,
)
from ctxpress.plugins.token_classification.llmlingua2.options import (
    LLMLingua2Options,
    LLMLingua2Result,
)
from ctxpress.plugins.token_classification.llmlingua2.words import ChunkWords, WordRules

__all__ = ["LLMLingua2Compressor"]

_COUNTER_SPECIALS = (
    "<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|endofprompt|>",
)  # fmt: skip
"""Special tokens of cl100k_base; its encoder refuses texts that hold one."""


class LLMLingua2Compressor:
    """Compresses lists of contexts. Thread-safe; holds a model and no state of a call.

    `count` gives the cl100k_base tokens of a text, names of special tokens read as text.
    """

    def __init__(self, encoder: ChunkEncoder, count: Callable[[str], int]) -> None:
        self._encoder = encoder
        self._count = count

    def compress(
        self,
        contexts: Sequence[str],
        options: LLMLingua2Options | None = None,
        *,
        checkpoint: Callable[[], None] | None = None,
    ) -> LLMLingua2Result:
        """Compress `contexts`; `checkpoint` is called before each batch and may raise to stop.

        :raises ParityError: where the library raises; `mirrors` is its exception's type.
        """
        call = _Call(self._encoder, self._count, options or LLMLingua2Options(), checkpoint)
        return call.run(contexts)


class _Call:
    """One call: the options, and what is remembered while it runs."""

    def __init__(
        self,
        encoder: ChunkEncoder,
        count: Callable[[str], int],
        options: LLMLingua2Options,
        checkpoint: Callable[[], None] | None,
    ) -> None:
        self._encoder = encoder
        self._count_text = count
        self._options = options
        self._checkpoint = checkpoint
        self._counts: dict[str, int] = {}
        self._force_map = ForceMap.of(options, encoder.tokenize)
        self._rules = WordRules(
            family=encoder.family,
            special=encoder.special,
            force_tokens=frozenset(options.force_tokens),
            force_map=self._force_map,
            force_reserve_digit=options.force_reserve_digit,
            token_to_word=options.token_to_word,
        )

    def run(self, contexts: Sequence[str]) -> LLMLingua2Result:
        options = self._options
        origin_tokens = sum(self._count(text) for text in contexts)
        chunked = [self._cut(text) for text in contexts]
        kept = list(range(len(contexts)))
        scored: list[ChunkWords] | None = None
        rate = options.rate
        if options.use_context_level_filter and len(contexts) != 1:
            scored = list(self._read(chunked))
            kept = self._choose(chunked, scored, origin_tokens)
            if len(kept) < len(chunked):
                # Other rows in a batch, other rounding: what is left is encoded again.
                scored = None
            chunked = [chunked[index] for index in kept]
            if options.target_token >= 0:
                reserved = sum(self._count(chunk) for chunks in chunked for chunk in chunks)
                rate = fraction(options.target_token, reserved, "target_token")
        elif options.target_token > 0:
            rate = fraction(options.target_token, origin_tokens, "target_token")
        reduce = max(0, 1 - rate) if options.use_token_level_filter else 0
        prompts = self._shorten(chunked, reduce, scored)
        return LLMLingua2Result(
            prompts=prompts,
            contexts=tuple(kept),
            origin_tokens=origin_tokens,
            compressed_tokens=sum(self._count(prompt) for prompt in prompts),
        )

    def _cut(self, text: str) -> list[str]:
        tokens = self._encoder.tokenize(self._force_map.mark(text))
        chunks = cut_chunks(tokens, self._force_map.ends)
        return [self._encoder.text_of(chunk) for chunk in chunks]

    def _choose(
        self, chunked: list[list[str]], scored: list[ChunkWords], origin_tokens: int
    ) -> list[int]:
        rate = context_rate(self._options, len(chunked), origin_tokens)
        rest = iter(scored)
        scores = [context_score([next(rest) for _ in chunks]) for chunks in chunked]
        return choose_contexts(scores, rate, self._options.force_context_ids)

    def _read(self, chunked: list[list[str]]) -> Iterator[ChunkWords]:
        """The words of all chunks of all contexts, in order.

        One by one: of several chunks that are in error, the first decides what is raised.
        """
        chunks = [chunk for chunks in chunked for chunk in chunks]
        for tokens, probabilities in self._encoder.encode(chunks, self._checkpoint):
            yield self._rules.read(tokens, probabilities)

    def _shorten(
        self, chunked: list[list[str]], reduce: float, scored: list[ChunkWords] | None
    ) -> tuple[str, ...]:
        if reduce <= 0:
            return tuple(
                "".join(self._force_map.restore(chunk) for chunk in chunks) for chunks in chunked
            )
        texts = [
            self._encoder.text_of(choose_words(chunk, reduce, self._options, self._count))
            for chunk in (self._read(chunked) if scored is None else scored)
        ]
        rest = iter(texts)
        return tuple("".join(next(rest) for _ in chunks) for chunks in chunked)

    def _count(self, text: str) -> int:
        """Tokens in `text`, as the library's counter would count or refuse them."""
        known = self._counts.get(text)
        if known is None:
            special = next((name for name in _COUNTER_SPECIALS if name in text), None)
            if special is not None:
                raise ParityError(
                    f"the text holds {special}, which the token counter refuses",
                    mirrors=ValueError,
                    argument="context",
                )
            known = self._counts[text] = self._count_text(text)
        return known
