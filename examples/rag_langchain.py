"""RAG with LangChain, offline: retrieve, compress, prompt, and a model that repeats its prompt.

pip install 'ctxpress[langchain]' && python examples/rag_langchain.py
"""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models.fake_chat_models import ParrotFakeChatModel
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough
from rag_documents import QUESTION, search

from ctxpress import CompressedDocuments
from ctxpress.integrations.langchain import ctxpress_runnable

PROMPT = ChatPromptTemplate.from_template(
    "Answer from these documents.\n\n{documents}\n\nQuestion: {question}"
)


class ArchiveRetriever(BaseRetriever):
    """Searches the notes by shared words."""

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return [
            Document(
                page_content=note.text,
                id=note.id,
                metadata={"title": note.title, "relevance_score": score},
            )
            for note, score in search(query)
        ]


def prompt_values(given: dict[str, Any]) -> dict[str, str]:
    """What the prompt shows of the documents: their text."""
    texts = [document.page_content for document in given["documents"]]
    return {"documents": "\n\n".join(texts), "question": given["question"]}


def print_savings(result: CompressedDocuments) -> None:
    """Say what was saved, and why documents were dropped."""
    about = "about " if result.estimated else ""
    print(f"documents: {about}{result.tokens_before} tokens, then {about}{result.tokens_after}")
    for document in result.documents:
        if document.dropped is not None:
            print(f"dropped {document.id}: {document.dropped}")


def main() -> None:
    """Ask once with all of the documents' text and once with the sentences that help."""
    gather = RunnableParallel(documents=ArchiveRetriever(), question=RunnablePassthrough())
    answer = RunnableLambda(prompt_values) | PROMPT | ParrotFakeChatModel()
    compress = ctxpress_runnable(
        stages=[{"use": "dedupe"}, {"use": "restructure", "keep_ratio": 0.4}],
        on_report=print_savings,
    )

    print(f"question: {QUESTION}")
    plain = (gather | answer).invoke(QUESTION)
    gather_less = gather | RunnablePassthrough.assign(documents=compress)
    shorter = (gather_less | RunnablePassthrough.assign(answer=answer)).invoke(QUESTION)
    print(f"prompt: {len(plain.text)} characters, then {len(shorter['answer'].text)}")

    for document in shorter["documents"]:
        kept = document.metadata["ctxpress"]["kept"]
        print(f"\n{document.id} (pieces of the original: {len(kept)})\n{document.page_content}")


if __name__ == "__main__":
    main()
