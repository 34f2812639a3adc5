"""LlamaIndex: a node postprocessor for query engines and retrievers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import PrivateAttr

from ctxpress.errors import MissingDependencyError
from ctxpress.integrations.options import CompressionOptions
from ctxpress.integrations.retrieved import (
    METADATA_KEY,
    Retrieved,
    RetrievedCompressor,
    Survivor,
    score_of,
)

try:
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import BaseNode, MetadataMode, Node, NodeWithScore, QueryBundle
except ImportError as error:
    raise MissingDependencyError(
        "ctxpress.integrations.llama_index needs the package llama-index-core: "
        "pip install 'ctxpress[llama-index]'"
    ) from error

__all__ = ["CtxpressNodePostprocessor"]


class CtxpressNodePostprocessor(CompressionOptions, BaseNodePostprocessor):
    """Compresses retrieved nodes; see :class:`CompressionOptions` for what it takes.

    Nodes come back as shortened copies with their ids, scores, relationships and metadata, in the
    order to which the stages brought them, less those that were dropped; those that were given
    stay as they are. ``metadata["ctxpress"]`` says what a node's text is made of (see
    :class:`~ctxpress.integrations.retrieved.Survivor`); it is left out of what models are shown.
    Nodes without text, such as images, go through. Only the text counts for ``budget_tokens``,
    not the metadata that LlamaIndex prints in front of it.
    """

    _compressor: RetrievedCompressor = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Open the pipeline."""
        super().model_post_init(context)
        self._compressor = RetrievedCompressor(self, question_name="query_bundle or query_str")

    @classmethod
    def class_name(cls) -> str:
        """The name in serialised query engines."""
        return "CtxpressNodePostprocessor"

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """The options, for ``from_dict``; ``on_report`` is none of them.

        :raises ConfigError: the pipeline is held by the caller.
        """
        self.check_serialisable()
        return super().to_dict(**kwargs)

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        found = self._compressor.run(_question(query_bundle), _read(nodes))
        return [_shortened(nodes[one.number], one) for one in found]

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        found = await self._compressor.arun(_question(query_bundle), _read(nodes))
        return [_shortened(nodes[one.number], one) for one in found]


def _question(query_bundle: QueryBundle | None) -> str | None:
    return None if query_bundle is None else query_bundle.query_str


def _read(nodes: Sequence[NodeWithScore]) -> list[Retrieved]:
    return [
        Retrieved(
            text=found.node.get_content(metadata_mode=MetadataMode.NONE),
            id=found.node.node_id,
            score=score_of(found.score),
            metadata=found.node.metadata,
        )
        for found in nodes
    ]


def _shortened(found: NodeWithScore, left: Survivor) -> NodeWithScore:
    node = found.node
    update: dict[str, Any] = {
        "metadata": left.metadata,
        "relationships": dict(node.relationships),
        "excluded_llm_metadata_keys": _with_key(node.excluded_llm_metadata_keys),
        "excluded_embed_metadata_keys": _with_key(node.excluded_embed_metadata_keys),
    }
    copy: BaseNode = node.model_copy(update=update)
    if left.text != node.get_content(metadata_mode=MetadataMode.NONE):
        if isinstance(copy, Node) and copy.text_resource is not None:
            # `set_content` would forget the type and the embeddings of the text.
            copy.text_resource = copy.text_resource.model_copy(update={"text": left.text})
        else:
            copy.set_content(left.text)
    return NodeWithScore(node=copy, score=found.score)


def _with_key(keys: Sequence[str]) -> list[str]:
    """``keys`` and ours: what metadata are not excluded are printed into the prompt."""
    return [*keys, *([] if METADATA_KEY in keys else [METADATA_KEY])]
