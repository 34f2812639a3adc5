"""Haystack: a component that compresses the documents between a retriever and a prompt builder."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ctxpress.document import is_unicode
from ctxpress.errors import MissingDependencyError
from ctxpress.integrations.options import CompressionOptions
from ctxpress.integrations.retrieved import Retrieved, RetrievedCompressor, Survivor, score_of
from ctxpress.results import CompressedDocuments
from ctxpress.sdk import Pipeline

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.utils import deserialize_callable, serialize_callable
except ImportError as error:
    raise MissingDependencyError(
        "ctxpress.integrations.haystack needs the package haystack-ai: "
        "pip install 'ctxpress[haystack]'"
    ) from error

__all__ = ["CtxpressDocumentCompressor"]

SOURCE_ID = "source_id"
"""Where Haystack's own components keep the id of the document that another was made from."""


@component
class CtxpressDocumentCompressor:
    """Compresses retrieved documents; see :class:`CompressionOptions` for what it takes.

    Documents come back as shortened copies with their scores and meta, in the order to which the
    stages brought them, less those that were dropped; ``meta["ctxpress"]`` says what their content
    is made of (see :class:`~ctxpress.integrations.retrieved.Survivor`). Haystack's ids are hashes
    of the content: a document that was shortened has a new one, and the one that it had in
    ``meta["source_id"]``, unless a splitter has left another there. Documents without text, such
    as images, go through.
    """

    def __init__(
        self,
        *,
        pipeline: str | Pipeline | None = None,
        stages: Sequence[Mapping[str, Any]] | None = None,
        config: str | Path | None = None,
        keep_ratio: float | None = None,
        budget_tokens: int | None = None,
        model: str | None = None,
        title_key: str = "title",
        on_report: Callable[[CompressedDocuments], object] | None = None,
    ) -> None:
        """Checks the options and opens nothing; a component with a held pipeline has no file form.

        :raises ConfigError: see :class:`CompressionOptions`.
        """
        self._options = CompressionOptions(
            pipeline=pipeline,
            stages=stages,
            config=config,
            keep_ratio=keep_ratio,
            budget_tokens=budget_tokens,
            model=model,
            title_key=title_key,
            on_report=on_report,
        )
        self._compressor: RetrievedCompressor | None = None
        self._opening = threading.Lock()

    def warm_up(self) -> None:
        """Open the pipeline; Haystack does it before the first run. Models load on first use.

        :raises CtxpressError: see :meth:`CompressionOptions.open`.
        """
        self._open()

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document], query: str | None = None) -> dict[str, list[Document]]:
        """Compress ``documents`` for ``query``.

        :raises ConfigError: a stage needs a query, and there is none.
        :raises StageError: a stage failed and the pipeline is ``strict``.
        """
        found = self._open().run(query, _read(documents))
        return {"documents": [_shortened(documents[one.number], one) for one in found]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, documents: list[Document], query: str | None = None
    ) -> dict[str, list[Document]]:
        """:meth:`run` on the running event loop."""
        found = await self._open().arun(query, _read(documents))
        return {"documents": [_shortened(documents[one.number], one) for one in found]}

    def to_dict(self) -> dict[str, Any]:
        """The component as ``Pipeline.dumps`` writes it; ``on_report`` by the path to import it.

        :raises ConfigError: its pipeline is held by the caller.
        """
        self._options.check_serialisable()
        callback = self._options.on_report
        return default_to_dict(
            self,
            **self._options.model_dump(),
            on_report=None if callback is None else serialize_callable(callback),
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CtxpressDocumentCompressor:
        """What :meth:`to_dict` wrote. Haystack must be told: ``allowed_modules=["ctxpress.*"]``."""
        options = dict(data.get("init_parameters", {}))
        if options.get("on_report") is not None:
            options["on_report"] = deserialize_callable(options["on_report"])
        return default_from_dict(cls, {**data, "init_parameters": options})

    def _open(self) -> RetrievedCompressor:
        with self._opening:
            if self._compressor is None:
                self._compressor = RetrievedCompressor(self._options, question_name="query")
            return self._compressor


def _read(documents: Sequence[Document]) -> list[Retrieved]:
    return [
        Retrieved(
            text=document.content or "",
            id=document.id,
            score=score_of(document.score),
            metadata=document.meta,
        )
        for document in documents
    ]


def _shortened(document: Document, left: Survivor) -> Document:
    meta = {SOURCE_ID: document.id, **left.metadata}
    if left.text == (document.content or ""):
        return dataclasses.replace(document, meta=meta)
    # Without an id Haystack hashes the content, which raises for a lone surrogate.
    new_id = "" if is_unicode(left.text) else document.id
    return dataclasses.replace(document, id=new_id, content=left.text, meta=meta)
