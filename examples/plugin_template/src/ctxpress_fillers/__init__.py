"""A ctxpress stage that deletes filler words from prose. A template for your own stage.

A plugin is a frozen config, a stage, and a hook that registers both. Enable it in the
configuration: ``plugins: {enabled: [ctxpress, ctxpress-fillers]}``, then ``use: fillers``.
"""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict

from ctxpress.document import Block, ContextDocument, Range
from ctxpress.hookspecs import RegisterStage, hookimpl
from ctxpress.resources import Resources
from ctxpress.stage import StageContext, StageTraits

__all__ = ["FillersConfig", "FillersStage", "register_stages"]


class FillersConfig(BaseModel):
    """Every option of the stage; an unknown key in the YAML is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    words: tuple[str, ...] = ("basically", "actually", "you know", "sort of", "like I said")


class FillersStage:
    """Deletes filler words and the blank after each. Extractive: only ranges are kept."""

    traits = StageTraits(languages=frozenset({"en"}))
    identity = "fillers:1"  # change it whenever the same input could give another output

    def __init__(self, config: FillersConfig) -> None:
        words = "|".join(re.escape(word) for word in config.words)
        self._filler = re.compile(rf"\b(?:{words})\b,?[ \t]*", re.IGNORECASE)

    async def apply(self, document: ContextDocument, context: StageContext) -> ContextDocument:
        """Shorten every unprotected span that is still a plain stretch of the original."""
        return document.with_blocks(tuple(self._shorten(block) for block in document.blocks))

    def _shorten(self, block: Block) -> Block:
        spans = []
        for span in block.spans:
            if span.protected or len(span.kept) != 1:
                spans.append(span)
                continue
            start, end = span.kept[0]
            kept, position = [], start
            for match in self._filler.finditer(span.text):
                kept.append(Range(position, start + match.start()))
                position = start + match.end()
            kept.append(Range(position, end))
            pieces = tuple(piece for piece in kept if piece.end > piece.start)
            shorter = span.keep(block.original, pieces)
            spans.append(shorter if shorter.text.strip() else span)
        return block.with_spans(tuple(spans))


def create_stage(config: FillersConfig, resources: Resources) -> FillersStage:
    """The factory; ``resources.get(key, load)`` shares a heavy model between pipelines."""
    return FillersStage(config)


@hookimpl
def register_stages(register: RegisterStage) -> None:
    """Called once when the plugin is loaded."""
    register("fillers", create_stage, FillersConfig)
