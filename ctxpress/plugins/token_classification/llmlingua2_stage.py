"""The stage for mode `llmlingua2`: the library's output in place of each free span.

What it writes has gone through the tokenizer and back: line breaks and repeated blanks are gone, so
it is not made of ranges of the original, and says so in its traits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ctxpress.document import Block, ContextDocument, Kind, Span, is_unicode
from ctxpress.errors import ParityError
from ctxpress.plugins.token_classification.config import TokenClassificationConfig
from ctxpress.plugins.token_classification.llmlingua2 import LLMLingua2Compressor, LLMLingua2Options
from ctxpress.stage import Skip, StageContext, StageSkip, StageTraits

__all__ = ["LLMLingua2Stage"]

_ALGORITHM = "token_classification/llmlingua2/1"
_KINDS = frozenset({Kind.PROSE, Kind.DOCUMENT, Kind.TOOL_RESULT, Kind.INSTRUCTION})
_MIN_RATE = 1e-6


class LLMLingua2Stage:
    """Rewrites prose, tool results and documents as `llmlingua` would. Thread-safe.

    Every free span of a block is a context of the library's call. Its outer blanks stay, so that it
    is not glued to its neighbours. With `context_filter`, a block's documents compete, and the
    worst are dropped.
    """

    def __init__(
        self, config: TokenClassificationConfig, compressor: LLMLingua2Compressor, identity: str
    ) -> None:
        self._compressor = compressor
        self._options = config.library_options(
            force_tokens=config.force_tokens,
            force_reserve_digit=config.force_reserve_digit,
            drop_consecutive=config.drop_consecutive,
        )
        languages = None if config.languages is None else frozenset(config.languages)
        self._identity = f"{_ALGORITHM}+{identity}"
        self._traits = StageTraits(extractive=False, keep_ratio=config.rate, languages=languages)

    @property
    def traits(self) -> StageTraits:
        """It writes text of its own, blind to the question, one block at a time."""
        return self._traits

    @property
    def identity(self) -> str:
        """Versions of the algorithm and of transformers, and the checkpoint's commit or hash."""
        return self._identity

    async def apply(self, document: ContextDocument, context: StageContext) -> ContextDocument:
        """Rewrite the free spans of each block; one that would grow or become blank stays.

        So does one whose text the library answers with an exception.

        :raises StageSkip: when no block has prose that the library can work on.
        :raises ParityError: where the library raises because of an option.
        :raises DeadlineError: when the time budget ends first.
        """
        return await context.run(lambda: self._compress(document, context))

    def _compress(self, document: ContextDocument, context: StageContext) -> ContextDocument:
        free = [
            [index for index, span in enumerate(block.spans) if _workable(span, block.original)]
            for block in document.blocks
        ]
        if not any(free):
            raise StageSkip(
                Skip.NOTHING_TO_COMPRESS,
                "there is no unprotected prose here; code, JSON, questions and protected text stay",
            )
        options = self._asked_for(document.blocks, free, context)
        blocks = list(document.blocks)
        refusals: list[ParityError] = []
        for number, indices in enumerate(free):
            if not indices:
                continue
            try:
                blocks[number] = self._rewrite(blocks[number], indices, options, context)
            except ParityError as error:
                if error.argument != "context":
                    raise
                refusals.append(error)
        if len(refusals) == sum(map(bool, free)):
            raise StageSkip(Skip.NOTHING_TO_COMPRESS, str(refusals[0]))
        return document.with_blocks(tuple(blocks))

    def _asked_for(
        self, blocks: Sequence[Block], free: Sequence[Sequence[int]], context: StageContext
    ) -> LLMLingua2Options:
        """The options with the request's own budget, as a rate, in place of the configured one."""
        rate = context.keep_ratio
        if context.target_tokens is not None:
            count = context.counter.count
            texts = [[blocks[i].spans[k].text for k in indices] for i, indices in enumerate(free)]
            free_tokens = sum(count(text) for block in texts for text in block)
            fixed_tokens = sum(count(block.text) for block in blocks) - free_tokens
            wanted = (context.target_tokens - fixed_tokens) / max(1, free_tokens)
            rate = wanted if rate is None else min(rate, wanted)
        if rate is None:
            return self._options
        return dataclasses.replace(
            self._options, rate=min(1.0, max(_MIN_RATE, rate)), target_token=-1
        )

    def _rewrite(
        self, block: Block, free: list[int], options: LLMLingua2Options, context: StageContext
    ) -> Block:
        spans = list(block.spans)
        documents = [index for index in free if spans[index].kind is Kind.DOCUMENT]
        if not options.use_context_level_filter or len(documents) < 2:
            documents = []
        others = [index for index in free if index not in documents]
        for group, filtered in ((documents, True), (others, False)):
            if not group:
                continue
            target = options.target_token
            if target > 0 and documents and others:
                characters = sum(len(spans[index].text) for index in free)
                share = sum(len(spans[index].text) for index in group) / characters
                target = max(1, round(target * share))
            asked = dataclasses.replace(
                options, use_context_level_filter=filtered, target_token=target
            )
            result = self._compressor.compress(
                [spans[index].text.strip() for index in group], asked, checkpoint=context.checkpoint
            )
            written = dict(zip(result.contexts, result.prompts, strict=True))
            for number, index in enumerate(group):
                spans[index] = _written(spans[index], written.get(number, ""))
        rewritten = block.with_spans(tuple(spans))
        if not rewritten.text.strip():
            return block
        grew = context.counter.count(rewritten.text) > context.counter.count(block.text)
        return block if grew else rewritten


def _workable(span: Span, original: str) -> bool:
    """Whether a span is prose as it came, not protected, that tokenizers can read."""
    if span.protected or span.kind not in _KINDS or not span.text.strip():
        return False
    untouched = span.text == "".join(original[start:end] for start, end in span.kept)
    return untouched and is_unicode(span.text)


def _written(span: Span, text: str) -> Span:
    """The span with other text between its outer blanks."""
    before = span.text[: len(span.text) - len(span.text.lstrip())]
    after = span.text[len(span.text.rstrip()) :]
    text = text.strip()
    text = f"{before}{text}{after}" if text else before or after
    return dataclasses.replace(span, text=text, kept=span.kept if text else ())
