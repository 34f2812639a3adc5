"""The compressor inside LangChain's own parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import BaseDocumentTransformer, Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from pydantic import ValidationError

from ctxpress.errors import ConfigError
from ctxpress.integrations.langchain import CtxpressCompressor, ctxpress_runnable
from ctxpress.results import CompressedDocuments
from tests.conversations import prose
from tests.integrations.stages import hold

HALF = [{"use": "token_classification", "keep_ratio": 0.5}]
DOCUMENTS = [Document(page_content=prose(name, 12), id=name) for name in "ab"]
QUESTION = "When is the offer valid?"


class Everything(BaseRetriever):
    """Retrieves all documents that it has."""

    documents: list[Document]

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return self.documents


class Upper(BaseDocumentTransformer):
    """Another step of a pipeline of compressors."""

    def transform_documents(
        self, documents: Sequence[Document], **kwargs: Any
    ) -> Sequence[Document]:
        return [
            one.model_copy(update={"page_content": one.page_content.upper()}) for one in documents
        ]


async def test_it_works_behind_a_retriever() -> None:
    retriever = ContextualCompressionRetriever(
        base_compressor=CtxpressCompressor(stages=HALF),
        base_retriever=Everything(documents=DOCUMENTS),
    )
    found = retriever.invoke(QUESTION)
    assert found == await retriever.ainvoke(QUESTION)
    assert [one.id for one in found] == ["a", "b"]
    for one, document in zip(found, DOCUMENTS, strict=True):
        assert 0 < len(one.page_content) < 0.7 * len(document.page_content)
    empty = ContextualCompressionRetriever(
        base_compressor=CtxpressCompressor(stages=HALF), base_retriever=Everything(documents=[])
    )
    assert empty.invoke(QUESTION) == await empty.ainvoke(QUESTION) == []


async def test_it_works_among_other_transformers() -> None:
    chain = DocumentCompressorPipeline(
        transformers=[CtxpressCompressor(pipeline=hold("backwards")), Upper()]
    )
    found = chain.compress_documents(DOCUMENTS, QUESTION)
    assert found == await chain.acompress_documents(DOCUMENTS, QUESTION)
    assert [one.page_content for one in found] == [prose(name, 12).upper() for name in "ba"]


def test_a_document_without_an_id_has_no_source_but_a_place() -> None:
    documents = [Document(page_content=prose(name, 12)) for name in "ab"]
    found = CtxpressCompressor(pipeline=hold("backwards")).compress_documents(documents, "")
    notes = [one.metadata["ctxpress"] for one in found]
    assert [(note["source"], note["index"]) for note in notes] == [(None, 1), (None, 0)]
    assert [one.id for one in found] == [None, None]


def test_titles_and_scores_are_read_from_the_metadata() -> None:
    given = [
        {"title": "Reefs", "relevance_score": np.float32(0.5)},
        {"title": 5, "relevance_score": "high", "score": 0.25},
        {"title": " ", "relevance_score": float("nan"), "name": "Tower"},
        {"relevance_score": True, "score": 3},
    ]
    documents = [Document(page_content="A text.", metadata=metadata) for metadata in given]
    results: list[CompressedDocuments] = []
    for options in ({}, {"title_key": "name", "score_key": "score"}):
        CtxpressCompressor(on_report=results.append, **options).compress_documents(documents, "")
    read = [[(one.title, one.score) for one in result.documents] for result in results]
    assert read == [
        [("Reefs", 0.5), (None, None), (None, None), (None, None)],
        [(None, None), (None, 0.25), ("Tower", None), (None, 3.0)],
    ]


def test_options_do_not_change_under_a_pipeline_that_is_open() -> None:
    compressor = CtxpressCompressor(stages=HALF)
    with pytest.raises(ValidationError, match="frozen"):
        compressor.stages = None
    with pytest.raises(ConfigError, match="did you mean 'keep_ratio'"):
        CtxpressCompressor(keep_ration=0.5)


async def test_a_runnable_is_a_step_of_a_chain() -> None:
    step = ctxpress_runnable(stages=HALF)
    given = {"documents": DOCUMENTS, "question": QUESTION, "more": 1}
    expected = CtxpressCompressor(stages=HALF).compress_documents(DOCUMENTS, QUESTION)
    assert step.invoke(given) == expected
    assert await step.ainvoke(given) == expected
    assert step.batch([given] * 3) == [expected] * 3
    assert await step.abatch([given] * 3) == [expected] * 3
    chain = (
        {"documents": RunnableLambda(lambda _: DOCUMENTS), "question": RunnablePassthrough()}
        | step
        | RunnableLambda(lambda documents: "\n\n".join(one.page_content for one in documents))
    )
    assert chain.invoke(QUESTION) == "\n\n".join(one.page_content for one in expected)
    assert await chain.ainvoke(QUESTION) == chain.invoke(QUESTION)


def test_a_runnable_reads_the_keys_that_it_is_told() -> None:
    step = ctxpress_runnable(documents_key="context", question_key="input", stages=HALF)
    expected = CtxpressCompressor(stages=HALF).compress_documents(DOCUMENTS, QUESTION)
    assert step.invoke({"context": tuple(DOCUMENTS), "input": QUESTION}) == expected
    assert len(step.invoke({"context": DOCUMENTS})) == len(DOCUMENTS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("a question", "a mapping with documents under 'documents'"),
        ({"question": QUESTION}, "a mapping with documents under 'documents'"),
        ({"documents": "text"}, "documents: a list of documents is needed"),
        ({"documents": None}, "documents: a list of documents is needed"),
        ({"documents": ["text"]}, r"documents\[0\]: a Document is needed, not str"),
        ({"documents": [], "question": 5}, "question: a string is needed, not int"),
    ],
    ids=str,
)
async def test_a_runnable_names_what_it_cannot_read(given: Any, message: str) -> None:
    step = ctxpress_runnable(stages=HALF)
    with pytest.raises(ConfigError, match=message):
        step.invoke(given)
    with pytest.raises(ConfigError, match=message):
        await step.ainvoke(given)
