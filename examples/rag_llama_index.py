"""RAG with LlamaIndex, offline: retrieve, compress, and a model that repeats its prompt.

pip install 'ctxpress[llama-index]' && python examples/rag_llama_index.py
"""

from __future__ import annotations

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from rag_documents import QUESTION, search

from ctxpress import CompressedDocuments
from ctxpress.integrations.llama_index import CtxpressNodePostprocessor


class ArchiveRetriever(BaseRetriever):
    """Searches the notes by shared words."""

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [
            NodeWithScore(
                node=TextNode(text=note.text, id_=note.id, metadata={"title": note.title}),
                score=score,
            )
            for note, score in search(query_bundle.query_str)
        ]


def print_savings(result: CompressedDocuments) -> None:
    """Say what was saved, and why documents were dropped."""
    about = "about " if result.estimated else ""
    print(f"documents: {about}{result.tokens_before} tokens, then {about}{result.tokens_after}")
    for document in result.documents:
        if document.dropped is not None:
            print(f"dropped {document.id}: {document.dropped}")


def main() -> None:
    """Ask once with all of the nodes' text and once with the sentences that help."""
    compress = CtxpressNodePostprocessor(
        stages=[{"use": "dedupe"}, {"use": "restructure", "keep_ratio": 0.4}],
        on_report=print_savings,
    )
    retriever, model = ArchiveRetriever(), MockLLM()

    print(f"question: {QUESTION}")
    plain = RetrieverQueryEngine.from_args(retriever, llm=model).query(QUESTION)
    shorter = RetrieverQueryEngine.from_args(
        retriever, llm=model, node_postprocessors=[compress]
    ).query(QUESTION)
    print(f"prompt: {len(str(plain))} characters, then {len(str(shorter))}")

    for found in shorter.source_nodes:
        kept = found.metadata["ctxpress"]["kept"]
        print(f"\n{found.node_id} (pieces of the original: {len(kept)})\n{found.text}")


if __name__ == "__main__":
    main()
