"""The postprocessor inside LlamaIndex's own parts, and over its kinds of nodes."""

from __future__ import annotations

import json

import pytest
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeRelationship,
    NodeWithScore,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)

import ctxpress
from ctxpress.errors import ConfigError
from ctxpress.integrations.llama_index import CtxpressNodePostprocessor
from tests.conversations import prose
from tests.integrations.stages import hold

HALF = [{"use": "token_classification", "keep_ratio": 0.5}]
QUESTION = "When is the offer valid?"


class Everything(BaseRetriever):
    """Retrieves all nodes that it has."""

    def __init__(self, nodes: list[NodeWithScore]) -> None:
        super().__init__()
        self.nodes = nodes

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self.nodes


def shortened(node: BaseNode) -> BaseNode:
    given = [NodeWithScore(node=node, score=0.5)]
    (found,) = CtxpressNodePostprocessor(stages=HALF).postprocess_nodes(given, query_str=QUESTION)
    return found.node


def test_a_node_keeps_its_kind_and_its_relations() -> None:
    node = TextNode(
        text=prose("a", 12),
        id_="n1",
        metadata={"file": "a.txt"},
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id="d1")},
        start_char_idx=10,
        end_char_idx=900,
        embedding=[0.1, 0.2],
        excluded_llm_metadata_keys=["file"],
    )
    before = node.model_copy(deep=True)
    after = shortened(node)
    assert node == before
    assert isinstance(after, TextNode)
    assert len(after.text) < len(node.text)
    assert after.ref_doc_id == "d1"
    assert (after.start_char_idx, after.end_char_idx, after.embedding) == (10, 900, [0.1, 0.2])
    after.relationships.clear()
    after.metadata.clear()
    after.excluded_llm_metadata_keys.clear()
    assert node == before


def test_the_model_is_not_shown_where_the_text_came_from() -> None:
    after = shortened(TextNode(text=prose("a", 12), metadata={"file": "a.txt"}))
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        content = after.get_content(mode)
        assert "a.txt" in content
        assert "ctxpress" not in content
    again = shortened(after)
    assert again.excluded_llm_metadata_keys == ["ctxpress"]


@pytest.mark.parametrize(
    "node",
    [
        Document(text=prose("a", 12), id_="x"),
        Node(
            text_resource=MediaResource(text=prose("a", 12), mimetype="text/markdown"),
            image_resource=MediaResource(data=b"picture", mimetype="image/png"),
            id_="x",
        ),
        ImageNode(text=prose("a", 12), image="cGljdHVyZQ==", id_="x"),
        IndexNode(text=prose("a", 12), index_id="other", obj={"a": 1}, id_="x"),
    ],
    ids=lambda node: type(node).__name__,
)
def test_every_kind_of_node_is_shortened_and_else_the_same(node: BaseNode) -> None:
    before = node.model_copy(deep=True)
    after = shortened(node)
    assert node == before
    assert type(after) is type(node)
    text = node.get_content(MetadataMode.NONE)
    assert after.get_content(MetadataMode.NONE) == "".join(
        text[start:end] for start, end in after.metadata["ctxpress"]["kept"]
    )
    assert len(after.get_content(MetadataMode.NONE)) < len(text)
    changed = {"metadata", "text", "text_resource", "relationships",
               "excluded_llm_metadata_keys", "excluded_embed_metadata_keys"}  # fmt: skip
    for name in set(type(node).model_fields) - changed:
        assert getattr(after, name) == getattr(node, name), name
    if isinstance(node, Node) and node.text_resource and isinstance(after, Node):
        assert after.text_resource is not None
        assert after.text_resource.mimetype == node.text_resource.mimetype


def test_an_image_without_text_goes_through() -> None:
    node = ImageNode(image="cGljdHVyZQ==", id_="x")
    after = shortened(node)
    assert isinstance(after, ImageNode)
    assert (after.image, after.text, after.metadata["ctxpress"]["kept"]) == (node.image, "", [])


async def test_it_works_in_a_query_engine() -> None:
    nodes = [NodeWithScore(node=TextNode(text=prose(name, 12), id_=name)) for name in "ab"]
    engine = RetrieverQueryEngine.from_args(
        Everything(nodes),
        llm=MockLLM(),
        node_postprocessors=[
            CtxpressNodePostprocessor(pipeline=hold("backwards")),
            CtxpressNodePostprocessor(stages=HALF),
        ],
    )
    answer = engine.query(QUESTION)
    later = await engine.aquery(QUESTION)
    assert [one.node_id for one in answer.source_nodes] == ["b", "a"]
    texts = [one.get_content() for one in answer.source_nodes]
    assert texts == [one.get_content() for one in later.source_nodes]
    assert all(text in str(answer) for text in texts)  # the mock repeats its prompt


def test_a_callback_manager_may_be_set() -> None:
    made = CtxpressNodePostprocessor(stages=HALF)
    manager = CallbackManager([])
    made.callback_manager = manager
    assert made.callback_manager is manager


def test_an_option_that_there_is_not_is_named() -> None:
    with pytest.raises(ConfigError, match="has no option 'keep_ration'; did you mean 'keep_ratio'"):
        CtxpressNodePostprocessor(keep_ration=0.5)


def test_it_can_be_written_down_and_read_back() -> None:
    made = CtxpressNodePostprocessor(stages=HALF, title_key="name", on_report=print)
    assert made.class_name() == "CtxpressNodePostprocessor"
    data = json.loads(made.to_json())
    assert data["class_name"] == "CtxpressNodePostprocessor"
    assert "on_report" not in data
    node = NodeWithScore(node=TextNode(text=prose("a", 12), id_="a"))
    again = CtxpressNodePostprocessor.from_dict(data)
    expected = made.postprocess_nodes([node], query_str=QUESTION)
    assert again.postprocess_nodes([node], query_str=QUESTION) == expected


def test_a_held_pipeline_cannot_be_written_down() -> None:
    held = ctxpress.Pipeline.from_stages({"use": "token_classification"})
    with pytest.raises(ConfigError, match="give stages, or its name and the file config"):
        CtxpressNodePostprocessor(pipeline=held).to_json()
