"""The component inside Haystack's pipelines, and as a file."""

from __future__ import annotations

import json
from typing import Any

import pytest
from haystack import Document, Pipeline
from haystack.components.builders import PromptBuilder
from haystack.components.preprocessors import DocumentSplitter
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.core.errors import DeserializationError, SerializationError
from haystack.dataclasses import ByteStream
from haystack.document_stores.in_memory import InMemoryDocumentStore

import ctxpress
from ctxpress.errors import ConfigError
from ctxpress.integrations.haystack import CtxpressDocumentCompressor
from ctxpress.results import CompressedDocuments
from tests.conversations import prose
from tests.integrations.stages import hold

HALF = [{"use": "token_classification", "keep_ratio": 0.5}]
QUESTION = "When is the offer valid?"
TEMPLATE = "{% for one in documents %}{{ one.content }}\n{% endfor %}{{ query }}"

reported: list[CompressedDocuments] = []


def report(result: CompressedDocuments) -> None:
    """A callback that a file can name."""
    reported.append(result)


def rag(**options: Any) -> Pipeline:
    store = InMemoryDocumentStore()
    store.write_documents([Document(content=f"{name}: {prose(name, 12)}") for name in "ab"])
    pipeline = Pipeline()
    pipeline.add_component("retriever", InMemoryBM25Retriever(store))
    pipeline.add_component("compressor", CtxpressDocumentCompressor(**options))
    variables = ["documents", "query"]
    pipeline.add_component("prompt", PromptBuilder(TEMPLATE, required_variables=variables))
    pipeline.connect("retriever.documents", "compressor.documents")
    pipeline.connect("compressor.documents", "prompt.documents")
    return pipeline


INPUTS = {
    "retriever": {"query": QUESTION},
    "compressor": {"query": QUESTION},
    "prompt": {"query": QUESTION},
}


async def test_it_works_in_a_pipeline() -> None:
    pipeline = rag(stages=HALF)
    include = {"retriever", "compressor"}
    found = pipeline.run(INPUTS, include_outputs_from=include)
    assert found == await pipeline.run_async(INPUTS, include_outputs_from=include)
    before, after = found["retriever"]["documents"], found["compressor"]["documents"]
    assert len(before) == len(after) == 2
    for given, left in zip(before, after, strict=True):
        assert 0 < len(left.content) < 0.7 * len(given.content)
        assert left.score == given.score
        assert left.content in found["prompt"]["prompt"]


def test_a_document_that_changes_has_a_new_id_and_names_the_old_one() -> None:
    given = [Document(content=prose("a", 12), embedding=[0.1]), Document(content="Short.")]
    component = CtxpressDocumentCompressor(stages=HALF)
    changed, same = component.run(documents=given, query=QUESTION)["documents"]
    assert changed.id != given[0].id
    assert changed.id == Document(content=changed.content, meta=changed.meta, embedding=[0.1]).id
    assert changed.meta["source_id"] == changed.meta["ctxpress"]["source"] == given[0].id
    assert changed.embedding == [0.1]
    assert (same.id, same.content) == (given[1].id, "Short.")


def test_what_a_splitter_noted_stays() -> None:
    splitter = DocumentSplitter(split_by="word", split_length=100)
    parts = splitter.run([Document(content=prose("a", 30))])["documents"]
    found = CtxpressDocumentCompressor(stages=HALF).run(documents=parts)["documents"]
    assert len(found) == len(parts) > 1
    for part, left in zip(parts, found, strict=True):
        assert left.meta["source_id"] == part.meta["source_id"] != part.id
        assert left.meta["ctxpress"]["source"] == part.id


def test_a_document_that_is_no_text_goes_through() -> None:
    image = Document(blob=ByteStream(b"picture", mime_type="image/png"), score=0.4)
    (left,) = CtxpressDocumentCompressor(stages=HALF).run(documents=[image])["documents"]
    assert (left.id, left.content, left.blob, left.score) == (image.id, None, image.blob, 0.4)
    assert left.meta["ctxpress"]["kept"] == []


def test_what_haystack_cannot_hash_keeps_its_id() -> None:
    text = f"{prose('a', 12)} <keep>\ud800</keep>"
    component = CtxpressDocumentCompressor(stages=HALF)
    (left,) = component.run(documents=[Document(content=text, id="x")])["documents"]
    assert "\ud800" in left.content
    assert len(left.content) < len(text)
    assert left.id == "x"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stages": HALF, "title_key": "name", "on_report": report},
        {"pipeline": "lossless", "budget_tokens": 90, "model": "gpt-4o"},
        {"keep_ratio": 0.25},
    ],
    ids=str,
)
def test_a_pipeline_is_written_down_and_read_back(options: dict[str, Any]) -> None:
    first = rag(**options)
    again = Pipeline.loads(first.dumps(), allowed_modules=["ctxpress.*", "tests.*"])
    assert again.to_dict()["components"] == first.to_dict()["components"]
    reported.clear()
    assert again.run(INPUTS) == first.run(INPUTS)
    assert len(reported) == (2 if "on_report" in options else 0)


def test_the_file_form_is_json_and_bound_to_our_module() -> None:
    component = CtxpressDocumentCompressor(stages=HALF)
    data = component.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert CtxpressDocumentCompressor.from_dict(data).to_dict() == data
    with pytest.raises(DeserializationError):
        Pipeline.loads(rag(stages=HALF).dumps())


def test_what_has_no_file_form_says_so() -> None:
    held = ctxpress.Pipeline.from_stages({"use": "token_classification"})
    with pytest.raises(ConfigError, match="give stages, or its name and the file config"):
        rag(pipeline=held).dumps()
    with pytest.raises(SerializationError, match="lambda"):
        rag(on_report=lambda result: None).dumps()


def test_nothing_is_opened_before_the_first_run() -> None:
    component = CtxpressDocumentCompressor(pipeline="balancd")
    with pytest.raises(ConfigError, match="did you mean 'balanced'"):
        component.warm_up()
    with pytest.raises(ConfigError, match="did you mean 'balanced'"):
        component.run(documents=[Document(content="a")])
    fine = CtxpressDocumentCompressor(pipeline=hold("backwards"))
    fine.warm_up()
    given = [Document(content="a"), Document(content="b")]
    assert [one.content for one in fine.run(documents=given)["documents"]] == ["b", "a"]
