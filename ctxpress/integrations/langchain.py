"""LangChain: a document compressor for retrievers, and the same as a Runnable for LCEL chains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, PrivateAttr

from ctxpress.errors import ConfigError, MissingDependencyError
from ctxpress.integrations.options import CompressionOptions
from ctxpress.integrations.retrieved import Retrieved, RetrievedCompressor, Survivor, score_of

try:
    from langchain_core.callbacks import Callbacks
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.runnables import Runnable, RunnableLambda
except ImportError as error:
    raise MissingDependencyError(
        "ctxpress.integrations.langchain needs the package langchain-core: "
        "pip install 'ctxpress[langchain]'"
    ) from error

__all__ = ["CtxpressCompressor", "ctxpress_runnable"]


class CtxpressCompressor(CompressionOptions, BaseDocumentCompressor):
    """Compresses retrieved documents; see :class:`CompressionOptions` for what it takes.

    For ``ContextualCompressionRetriever`` and ``DocumentCompressorPipeline``. Documents come back
    as shortened copies with their ids and metadata, in the order to which the stages brought them,
    less those that were dropped; ``metadata["ctxpress"]`` says what their text is made of (see
    :class:`~ctxpress.integrations.retrieved.Survivor`). ``score_key`` is where a reranker left its
    score in the metadata: the higher, the better.
    """

    score_key: str = Field(default="relevance_score", frozen=True)

    _compressor: RetrievedCompressor = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Open the pipeline."""
        super().model_post_init(context)
        self._compressor = RetrievedCompressor(self, question_name="query")

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """Compress ``documents`` for ``query``; ``callbacks`` are not called.

        :raises ConfigError: a stage needs a query, and it is blank.
        :raises StageError: a stage failed and the pipeline is ``strict``.
        """
        found = self._compressor.run(query, self._read(documents))
        return [_shortened(documents[one.number], one) for one in found]

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """:meth:`compress_documents` on the running event loop."""
        found = await self._compressor.arun(query, self._read(documents))
        return [_shortened(documents[one.number], one) for one in found]

    def _read(self, documents: Sequence[Document]) -> list[Retrieved]:
        return [
            Retrieved(
                text=document.page_content,
                id=document.id,
                score=score_of(document.metadata.get(self.score_key)),
                metadata=document.metadata,
            )
            for document in documents
        ]


def ctxpress_runnable(
    *, documents_key: str = "documents", question_key: str = "question", **options: Any
) -> Runnable[dict[str, Any], list[Document]]:
    """:class:`CtxpressCompressor` as a step of a chain: a mapping in, a list of documents out.

    The mapping holds documents under ``documents_key`` and, for stages that read it, the question
    under ``question_key``; more keys do not matter. ``options`` are the compressor's.

    :raises ConfigError: an option is wrong; when called, a mapping of another shape.
    """
    compressor = CtxpressCompressor(**options)

    def read(given: object) -> tuple[list[Document], str]:
        if not isinstance(given, Mapping) or documents_key not in given:
            raise ConfigError(f"a mapping with documents under {documents_key!r} is needed")
        documents, question = given[documents_key], given.get(question_key)
        if isinstance(documents, str) or not isinstance(documents, Sequence):
            raise ConfigError(f"{documents_key}: a list of documents is needed")
        for number, document in enumerate(documents):
            if not isinstance(document, Document):
                kind = type(document).__name__
                raise ConfigError(f"{documents_key}[{number}]: a Document is needed, not {kind}")
        if not isinstance(question, str | None):
            kind = type(question).__name__
            raise ConfigError(f"{question_key}: a string is needed, not {kind}")
        return list(documents), question or ""

    def compress(given: dict[str, Any]) -> list[Document]:
        return list(compressor.compress_documents(*read(given)))

    async def acompress(given: dict[str, Any]) -> list[Document]:
        return list(await compressor.acompress_documents(*read(given)))

    return RunnableLambda(compress, acompress, name="ctxpress")


def _shortened(document: Document, left: Survivor) -> Document:
    return document.model_copy(update={"page_content": left.text, "metadata": left.metadata})
