"""One face for the three adapters, so that what all promise is tested on all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from haystack import Document as HaystackDocument
from langchain_core.documents import Document as LangChainDocument
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from ctxpress.integrations.haystack import CtxpressDocumentCompressor
from ctxpress.integrations.langchain import CtxpressCompressor
from ctxpress.integrations.llama_index import CtxpressNodePostprocessor

__all__ = ["DRIVERS", "Driver", "Item"]


@dataclass(frozen=True)
class Item:
    """A document in no framework's own shape."""

    text: str
    id: str = "1"
    score: float | None = 0.5
    metadata: dict[str, Any] = field(default_factory=lambda: {"page": 7, "tags": ["a", "b"]})

    @property
    def origin(self) -> dict[str, Any]:
        note: dict[str, Any] = self.metadata["ctxpress"]
        return note


class Driver:
    """Makes an adapter and calls it, on the running loop or not."""

    adapter: type[Any]

    def __init__(self, **options: Any) -> None:
        self.made = self.adapter(**options)

    def given(self, items: Sequence[Item]) -> list[Any]:
        raise NotImplementedError

    def run(self, question: str | None, documents: list[Any]) -> list[Item]:
        raise NotImplementedError

    async def arun(self, question: str | None, documents: list[Any]) -> list[Item]:
        raise NotImplementedError

    def call(self, mode: str, question: str | None, items: Sequence[Item]) -> list[Item]:
        documents = self.given(items)
        if mode == "sync":
            return self.run(question, documents)
        return asyncio.run(self.arun(question, documents))


class LangChain(Driver):
    adapter = CtxpressCompressor

    def given(self, items: Sequence[Item]) -> list[LangChainDocument]:
        return [
            LangChainDocument(
                page_content=item.text,
                id=item.id,
                metadata={**item.metadata, "relevance_score": item.score},
            )
            for item in items
        ]

    def run(self, question: str | None, documents: list[Any]) -> list[Item]:
        return self.read(self.made.compress_documents(documents, question or ""))

    async def arun(self, question: str | None, documents: list[Any]) -> list[Item]:
        return self.read(await self.made.acompress_documents(documents, question or ""))

    def read(self, found: Sequence[LangChainDocument]) -> list[Item]:
        items = []
        for one in found:
            metadata = dict(one.metadata)
            score = metadata.pop("relevance_score")
            items.append(Item(one.page_content, one.id or "", score, metadata))
        return items


class LlamaIndex(Driver):
    adapter = CtxpressNodePostprocessor

    def given(self, items: Sequence[Item]) -> list[NodeWithScore]:
        return [
            NodeWithScore(
                node=TextNode(text=item.text, id_=item.id, metadata=dict(item.metadata)),
                score=item.score,
            )
            for item in items
        ]

    def run(self, question: str | None, documents: list[Any]) -> list[Item]:
        bundle = None if question is None else QueryBundle(question)
        return self.read(self.made.postprocess_nodes(documents, query_bundle=bundle))

    async def arun(self, question: str | None, documents: list[Any]) -> list[Item]:
        found = await self.made.apostprocess_nodes(documents, query_str=question)
        return self.read(found)

    def read(self, found: Sequence[NodeWithScore]) -> list[Item]:
        return [Item(one.text, one.node_id, one.score, one.metadata) for one in found]


class Haystack(Driver):
    adapter = CtxpressDocumentCompressor

    def given(self, items: Sequence[Item]) -> list[HaystackDocument]:
        return [
            HaystackDocument(
                content=item.text, id=item.id, score=item.score, meta=dict(item.metadata)
            )
            for item in items
        ]

    def run(self, question: str | None, documents: list[Any]) -> list[Item]:
        return self.read(self.made.run(documents=documents, query=question)["documents"])

    async def arun(self, question: str | None, documents: list[Any]) -> list[Item]:
        found = await self.made.run_async(documents=documents, query=question)
        return self.read(found["documents"])

    def read(self, found: Sequence[HaystackDocument]) -> list[Item]:
        items = []
        for one in found:
            meta = dict(one.meta)
            items.append(Item(one.content or "", meta.pop("source_id"), one.score, meta))
        return items


DRIVERS: dict[str, type[Driver]] = {
    "langchain": LangChain,
    "llama_index": LlamaIndex,
    "haystack": Haystack,
}
