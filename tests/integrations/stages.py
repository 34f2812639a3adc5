"""A plugin whose stages move and drop documents, for pipelines that tests hold."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

import ctxpress
from ctxpress.arrangement import arrange, passages_of
from ctxpress.document import ContextDocument, Range
from ctxpress.hookspecs import RegisterStage, hookimpl
from ctxpress.manager import create_plugin_manager
from ctxpress.resources import Resources
from ctxpress.stage import Skip, StageContext, StageSkip, StageTraits

__all__ = ["DROP_WORD", "hold"]

DROP_WORD = "irrelevant"


class NoOptions(BaseModel):
    """A stage without options."""


class Backwards:
    """Turns the order of documents round, drops those with `DROP_WORD`."""

    identity = "backwards:1"
    traits = StageTraits(scope="turn", arranges=True, drop_reason="beside the point")

    async def apply(self, document: ContextDocument, context: StageContext) -> ContextDocument:
        passages = passages_of(document)
        order = [p.number for p in reversed(passages) if DROP_WORD not in p.text]
        return arrange(document, passages, order)


class FirstSentence:
    """Keeps the first sentence of every document that names the question's last word."""

    identity = "first-sentence:1"
    traits = StageTraits(scope="turn", arranges=True, query_aware=True, drop_reason="no answer")

    async def apply(self, document: ContextDocument, context: StageContext) -> ContextDocument:
        if document.question is None:
            raise StageSkip(Skip.NOTHING_TO_COMPRESS, "there is no question")
        word = document.question.split()[-1].rstrip("?")
        passages = passages_of(document)
        found = [p for p in passages if word in p.text]
        keep = {p.number: [Range(0, p.text.index(".") + 1)] for p in found}
        return arrange(document, passages, [p.number for p in found], keep)


class Broken:
    """Always fails."""

    identity = "broken:1"
    traits = StageTraits()

    async def apply(self, document: ContextDocument, context: StageContext) -> ContextDocument:
        raise RuntimeError("out of order")


class Plugin:
    """Registers them all."""

    @hookimpl
    def register_stages(self, register: RegisterStage) -> None:
        stages: dict[str, Any] = {
            "backwards": Backwards(),
            "first_sentence": FirstSentence(),
            "broken": Broken(),
        }
        for name, stage in stages.items():

            def build(config: NoOptions, resources: Resources, stage: Any = stage) -> Any:
                return stage

            register(name, build, NoOptions)


def hold(*names: str, strict: bool = False) -> ctxpress.Pipeline:
    """A pipeline of the stages with these names."""
    manager = create_plugin_manager(plugins=[Plugin()])
    stages = [{"use": name} for name in names]
    return ctxpress.Pipeline.from_stages(*stages, manager=manager, strict=strict)
