"""RAG with Haystack, offline: retrieve, compress, prompt, and a model that repeats its prompt.

    pip install 'ctxpress[haystack]' && python examples/rag_haystack.py

Haystack sends usage statistics to its makers unless ``HAYSTACK_TELEMETRY_ENABLED=False`` is set.
"""

from __future__ import annotations

from typing import Any

from haystack import Document, Pipeline
from haystack.components.builders import ChatPromptBuilder
from haystack.components.generators.chat.mock import MockChatGenerator
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.dataclasses import ChatMessage
from haystack.document_stores.in_memory import InMemoryDocumentStore
from rag_documents import NOTES, QUESTION

from ctxpress import CompressedDocuments
from ctxpress.integrations.haystack import CtxpressDocumentCompressor

TEMPLATE = (
    "Answer from these documents.\n\n"
    "{% for document in documents %}{{ document.content }}\n\n{% endfor %}"
    "Question: {{ question }}"
)


def print_savings(result: CompressedDocuments) -> None:
    """Say what was saved, and why documents were dropped."""
    about = "about " if result.estimated else ""
    print(f"documents: {about}{result.tokens_before} tokens, then {about}{result.tokens_after}")
    for document in result.documents:
        if document.dropped is not None:
            print(f"dropped {document.id}: {document.dropped}")


def create_pipeline(*, compressed: bool) -> Pipeline:
    """Retriever, compressor or not, prompt and model."""
    store = InMemoryDocumentStore()
    store.write_documents(
        [Document(content=note.text, id=note.id, meta={"title": note.title}) for note in NOTES]
    )
    pipeline = Pipeline()
    pipeline.add_component("retriever", InMemoryBM25Retriever(store, top_k=3))
    pipeline.add_component(
        "prompt",
        ChatPromptBuilder(
            template=[ChatMessage.from_user(TEMPLATE)], required_variables=["documents", "question"]
        ),
    )
    pipeline.add_component("model", MockChatGenerator())
    if compressed:
        stages = [{"use": "dedupe"}, {"use": "restructure", "keep_ratio": 0.4}]
        pipeline.add_component(
            "compressor", CtxpressDocumentCompressor(stages=stages, on_report=print_savings)
        )
        pipeline.connect("retriever.documents", "compressor.documents")
        pipeline.connect("compressor.documents", "prompt.documents")
    else:
        pipeline.connect("retriever.documents", "prompt.documents")
    pipeline.connect("prompt.prompt", "model.messages")
    return pipeline


def main() -> None:
    """Ask once with all of the documents' text and once with the sentences that help."""
    inputs: dict[str, Any] = {"retriever": {"query": QUESTION}, "prompt": {"question": QUESTION}}

    print(f"question: {QUESTION}")
    plain = create_pipeline(compressed=False).run(inputs)
    shorter = create_pipeline(compressed=True).run(
        {**inputs, "compressor": {"query": QUESTION}}, include_outputs_from={"compressor"}
    )
    lengths = [len(answer["model"]["replies"][0].text) for answer in (plain, shorter)]
    print(f"prompt: {lengths[0]} characters, then {lengths[1]}")

    for document in shorter["compressor"]["documents"]:
        kept = document.meta["ctxpress"]["kept"]
        source = document.meta["source_id"]
        print(f"\n{source} (pieces of the original: {len(kept)})\n{document.content}")


if __name__ == "__main__":
    main()
