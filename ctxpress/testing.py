"""For plugin authors: run every law over a stage in one line.

::

    from ctxpress.testing import check_stage

    def test_my_stage_obeys_the_laws():
        check_stage(MyStage(MyConfig()))
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ctxpress.document import Block, ContextDocument, Kind, Role, Span
from ctxpress.errors import LawError
from ctxpress.languages import mask_languages, unmask
from ctxpress.laws import check_laws, restore_of
from ctxpress.stage import Stage, StageContext, StageSkip, StageTraits

__all__ = ["SAMPLES", "WordCounter", "check_stage", "make_block", "make_document"]


class WordCounter:
    """Counts words and punctuation marks: a token counter that needs no files."""

    identity = "words:1"
    estimated = True
    _TOKEN = re.compile(r"\w+|[^\w\s]")

    def count(self, text: str) -> int:
        """Words and marks in ``text``."""
        return sum(1 for _ in self._TOKEN.finditer(text))


_PROTECTED_FOR_WHAT_THEY_ARE = (Kind.JSON, Kind.LOG, Kind.TABLE)


def make_block(
    *parts: str | tuple[str, Kind, bool],
    role: Role = Role.USER,
    turn: int = 0,
    message: int = 0,
    pointer: str = "/messages/0/content",
    digest: bytes | None = None,
    cache_breakpoint: bool = False,
) -> Block:
    """A block of spans: a plain string is unprotected prose, a tuple (text, kind, protected).

    JSON, logs and tables are detachable, as they are where a request is parsed.
    """
    texts = [(part, Kind.PROSE, False) if isinstance(part, str) else part for part in parts]
    original = "".join(text for text, _, _ in texts)
    spans, position = [], 0
    for text, kind, protected in texts:
        end = position + len(text)
        named = kind not in _PROTECTED_FOR_WHAT_THEY_ARE
        spans.append(
            Span.of(original, position, end, kind, protected=protected, detachable=not named)
        )
        position = end
    return Block(
        pointer=pointer,
        role=role,
        turn=turn,
        message=message,
        original=original,
        spans=tuple(spans),
        digest=original.encode("utf-8", "surrogatepass") if digest is None else digest,
        cache_breakpoint=cache_breakpoint,
    )


def make_document(*blocks: Block, question: str | None = None) -> ContextDocument:
    """A document of blocks; ``question`` is that of every turn."""
    turns = max((block.turn for block in blocks), default=0) + 1
    return ContextDocument(blocks=blocks, question=question, questions=(question,) * turns)


_PROSE = (
    "The committee met on Tuesday to go over the budget for the coming year. As you may well "
    "know, the heating system of the north wing failed twice in January, and the repairs came to "
    "4,300 euros each time. Mrs Okafor said that, in her opinion, it would be wiser to replace "
    "the boiler altogether; the offer from the supplier is valid until 30 June. "
)

_JSON = "[\n" + ",\n".join(f'  {{"id": {n}, "name": "pump {n}"}}' for n in range(12)) + "\n]\n"
_LOG = "".join(f"2024-05-01T12:00:{n // 3:02}Z INFO poll\n" for n in range(12))
_TABLE = "| part   |   cost |\n|:-------|-------:|\n| boiler |   4300 |\n| pump   |    120 |\n"

SAMPLES: dict[str, ContextDocument] = {
    "prose": make_document(make_block(_PROSE * 4), question="How much did the repairs cost?"),
    "prose around protected code": make_document(
        make_block(
            _PROSE,
            ("```python\ndef cost(n):\n    return n * 4300\n```\n", Kind.CODE, True),
            _PROSE,
            ("What does cost(2) return?", Kind.QUESTION, True),
        ),
        question="What does cost(2) return?",
    ),
    "all protected": make_document(make_block((_PROSE, Kind.INSTRUCTION, True))),
    "a word": make_document(make_block("Hello")),
    "spaces": make_document(make_block(" \n\t ")),
    "one long word": make_document(make_block("a" * 20_000)),
    "odd characters": make_document(
        make_block(
            "nul \x00 lone \ud800 emoji \U0001f9d1\u200d\U0001f680 rtl \u05e9\u05dc\u05d5\u05dd "
            * 8
        )
    ),
    "chinese": make_document(
        make_block("委员会周二开会讨论明年的预算。北翼的供暖系统一月份坏了两次。" * 6)
    ),
    "a tool result": make_document(
        make_block(
            "Found:\n",
            (_JSON, Kind.JSON, True),
            (_LOG, Kind.LOG, True),
            (_TABLE, Kind.TABLE, True),
            _PROSE,
            role=Role.TOOL,
        ),
        question="What does the boiler cost?",
    ),
    "several blocks": make_document(
        make_block(_PROSE * 2, pointer="/messages/0/content"),
        make_block(_PROSE, role=Role.TOOL, message=1, pointer="/messages/1/content"),
        question="When is the offer valid?",
    ),
}


def check_stage(
    stage: Stage,
    *,
    documents: Iterable[ContextDocument] = (),
    ratios: Iterable[float | None] = (None, 0.1, 0.5, 1.0),
) -> None:
    """Run ``stage`` over nasty samples and ``documents`` at several ratios and check every law.

    Protected spans intact, extractive means extractive, no growth unless declared, nothing
    blank, the input unchanged, the same result twice and under concurrency. A stage whose question
    is optional is run with and without one.

    :raises LawError: naming the sample and the law. What the stage itself raises, except
        ``StageSkip``, is passed on.
    """
    if not isinstance(stage, Stage):
        raise LawError(f"{type(stage).__name__} lacks traits, identity or apply")
    named = [*SAMPLES.items(), *((f"documents[{i}]", d) for i, d in enumerate(documents))]
    asyncio.run(_check_all(stage, named, tuple(ratios)))


async def _check_all(
    stage: Stage, named: list[tuple[str, ContextDocument]], ratios: tuple[float | None, ...]
) -> None:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(max_workers=2) as executor:

        def run(function: Callable[[], Any]) -> asyncio.Future[Any]:
            return loop.run_in_executor(executor, function)

        for ratio in ratios:
            context = StageContext(counter=WordCounter(), executor=run, keep_ratio=ratio)
            for name, document in named:
                try:
                    await _check_one(stage, document, context)
                    if stage.traits.query_optional and document.question is not None:
                        blind = dataclasses.replace(document, question=None)
                        await _check_one(stage, blind, context)
                except LawError as error:
                    raise LawError(f"sample {name!r} at keep_ratio {ratio}: {error}") from error


async def _check_one(stage: Stage, document: ContextDocument, context: StageContext) -> None:
    traits = stage.traits
    groups = (
        [document]
        if traits.scope == "turn"
        else [document.with_blocks((block,)) for block in document.blocks]
    )
    for untouched in groups:
        given = copy.deepcopy(untouched)
        try:
            masked, hidden = mask_languages(given, traits.languages)
            first, second = await asyncio.gather(
                stage.apply(masked, context), stage.apply(masked, context)
            )
        except StageSkip:
            continue
        if given != untouched:
            raise LawError("the stage changed its input")
        check_laws(
            masked,
            first,
            extractive=traits.extractive,
            arranges=traits.arranges,
            restore=restore_of(stage),
        )
        if first != second:
            raise LawError("the same input gave two results")
        after = unmask(first, hidden)
        _check_size(given.blocks, after.blocks, context, traits)


def _check_size(
    given: Sequence[Block], after: Sequence[Block], context: StageContext, traits: StageTraits
) -> None:
    """Law 4's rule of growth: for each block, or for all together where documents may move."""
    if traits.may_grow:
        return
    groups = [(given, after)]
    if not traits.arranges:
        groups = [((old,), (new,)) for old, new in zip(given, after, strict=True)]
    for before, now in groups:
        tokens_in, tokens_out = (
            sum(context.counter.count(block.text) for block in blocks) for blocks in (before, now)
        )
        if tokens_out > tokens_in:
            raise LawError(f"{before[0].pointer}: {tokens_in} tokens grew to {tokens_out}")
