"""Runs `dedupe` over documents and texts, with every law checked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson

from ctxpress.document import Block, ContextDocument
from ctxpress.formats import ParseOptions, parse
from ctxpress.laws import check_laws
from ctxpress.passages import read_documents, to_context
from ctxpress.plugins.dedupe import DedupeConfig, DedupeStage
from ctxpress.stage import StageContext
from ctxpress.testing import WordCounter

BOILER = (
    "The heating system of the north wing failed twice in January. Repairs came to 4,300 euros "
    "each time, and the caretaker, Mrs Okafor, was not told before the second failure. The offer "
    "of the supplier stays valid until 30 June, so a decision is wanted in the next meeting. "
    "Until then the wing is heated with small electric stoves that the school has borrowed. "
    "Parents were asked to give their children warm clothes, and classes end one hour early. "
    "The cost of electricity for these weeks will be paid out of the reserve for repairs."
)
REEFS = (
    "Coral reefs need warm and shallow water. They are found near the coasts of many countries in "
    "the tropics. A third of all fish in the sea spends some part of its life in a reef."
)


async def _inline(work: Any) -> Any:
    return work()


def dedupe(document: ContextDocument, **options: Any) -> ContextDocument:
    """What the stage makes of a document; the laws have been checked."""
    stage = DedupeStage(DedupeConfig(**options))
    context = StageContext(counter=WordCounter(), executor=_inline)
    after = asyncio.run(stage.apply(document, context))
    check_laws(document, after, extractive=True, arranges=True)
    return after


def retrieved(*given: Any) -> ContextDocument:
    """Documents as the SDK gives them."""
    return to_context(read_documents(given), question=None, model=None, options=ParseOptions())


def left_of(*given: Any, **options: Any) -> list[int]:
    """The numbers of those of the documents that stay, at least in part."""
    after = dedupe(retrieved(*given), **options)
    return [number for number, block in enumerate(after.blocks) if not block.dropped]


def texts_of(*given: Any, **options: Any) -> list[str]:
    """What is left of each document."""
    return [block.text for block in dedupe(retrieved(*given), **options).blocks]


def deduped(*blocks: Block, earlier: Sequence[str] = (), **options: Any) -> list[str]:
    """What is left of blocks of one turn."""
    document = ContextDocument(blocks=blocks, earlier=tuple(earlier))
    return [block.text for block in dedupe(document, **options).blocks]


def request(content: Any, format: str = "openai_chat") -> ContextDocument:
    """A parsed request of one user message."""
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": content}]}
    return parse(format, orjson.dumps(body), ParseOptions()).document
