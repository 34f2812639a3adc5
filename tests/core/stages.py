"""Small stages for tests: lawful ones, and one for every way of breaking a law."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import sys
import threading
import time

from ctxpress.document import Kind, Range, Span
from ctxpress.stage import Skip, StageSkip, StageTraits

_WORD = re.compile(r"\S+\s*")


class EveryOtherWord:
    """Keeps words 0, 2, 4, … of every free span; counts its calls."""

    identity = "every-other-word:1"

    def __init__(self, *, keep_ratio=0.5, **traits):
        self.traits = StageTraits(keep_ratio=keep_ratio, **traits)
        self.calls = 0
        self.given = []
        self.contexts = []
        self.questions = []

    async def apply(self, document, context):
        self.calls += 1
        self.contexts.append(context)
        self.questions.append(document.question)
        self.given.append([block.original for block in document.blocks])
        blocks = []
        for block in document.blocks:
            spans = [
                span if span.protected else self.cut(block, span, document.question)
                for span in block.spans
            ]
            blocks.append(block.with_spans(tuple(spans)))
        return document.with_blocks(tuple(blocks))

    def cut(self, block, span, question):
        if len(span.kept) != 1:
            return span
        start = span.kept[0].start
        words = [(m.start() + start, m.end() + start) for m in _WORD.finditer(span.text)]
        first = len(question or "") % 2 if self.traits.query_aware else 0
        kept = tuple(Range(a, b) for a, b in words[first::2])
        return span.keep(block.original, kept) if kept else span


class Broken(EveryOtherWord):
    """Fails in the way it is told to, every ``every`` calls."""

    def __init__(self, how, *, every=1, **options):
        super().__init__(**options)
        self.identity = f"broken:{how}"
        self.how = how
        if how == "grow":
            self.traits = dataclasses.replace(self.traits, extractive=False)
        self.every = every
        self.released = threading.Event()

    async def apply(self, document, context):
        if (self.calls + 1) % self.every:
            return await super().apply(document, context)
        self.calls += 1
        block = document.blocks[0]
        if self.how == "raise":
            raise RuntimeError(f"secret text: {block.text}")
        if self.how == "skip":
            raise StageSkip(Skip.NO_SAVING, "nothing to do here")
        if self.how == "hang":
            await asyncio.sleep(3600)
        if self.how == "hang in a thread":
            await context.run(lambda: self.released.wait(20))
        if self.how == "busy in a thread":
            await context.run(lambda: self.busy(context))
        if self.how == "grow":
            spans = [
                span if span.protected else dataclasses.replace(span, text=span.text * 2)
                for span in block.spans
            ]
            return document.with_blocks((block.with_spans(tuple(spans)),))
        if self.how == "blank":
            return document.with_blocks((block.with_spans(()),))
        if self.how == "touch protected":
            spans = tuple(
                Span(text=span.text.upper(), kind=Kind.PROSE, protected=True, kept=span.kept)
                for span in block.spans
            )
            return document.with_blocks((block.with_spans(spans),))
        raise AssertionError(self.how)

    def busy(self, context):
        while True:
            time.sleep(0.005)
            context.checkpoint()


class Rewriter:
    """Writes text of its own over the first free span of every block."""

    identity = "rewriter:1"
    traits = StageTraits(extractive=False)

    async def apply(self, document, context):
        blocks = []
        for block in document.blocks:
            free = next(i for i, span in enumerate(block.spans) if not span.protected)
            spans = list(block.spans)
            spans[free] = dataclasses.replace(spans[free], text="In short.", kept=())
            blocks.append(block.with_spans(tuple(spans)))
        return document.with_blocks(tuple(blocks))


class Rogue(EveryOtherWord):
    """Does what no stage may, in the way it is told to."""

    def __init__(self, how):
        super().__init__()
        self.identity = f"rogue:{how}"
        self.how = how

    async def apply(self, document, context):
        match self.how:
            case "exit":
                raise SystemExit(3)
            case "exit in a thread":
                await context.run(lambda: sys.exit(3))
            case "cancel":
                raise asyncio.CancelledError
            case "return nothing":
                return None
            case "unknown skip":
                raise StageSkip("tired", "nobody documents this code")
            case "change the input":
                object.__setattr__(document.blocks[0], "spans", ())
                return document
        raise AssertionError(self.how)
