"""Retrieved documents through the proxy: cut, moved and dropped in place, and nothing else.

The prompts are those that RAG frameworks build themselves, sent by the official clients.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import openai
import orjson
import pytest
from ctxpress_proxy import create_app
from ctxpress_proxy.settings import ProxySettings

from ctxpress.config import Config
from ctxpress.formats.json_edit import ReplaceString, apply_edits
from tests.documents import QUESTION, RETRIEVED
from tests.proxy.running import RunningProxy
from tests.proxy.test_clients import provider
from tests.proxy.upstream import FakeUpstream

RESTRUCTURE = {"use": "restructure", "keep_ratio": 0.3, "scorer": "bm25"}
REORDER = {"use": "reorder", "min_documents": 2, "scores": "computed", "scorer": "bm25"}
PIPELINES: dict[str, list[dict[str, Any]]] = {
    "restructure": [RESTRUCTURE],
    "reorder": [REORDER],
    "both": [REORDER, {**RESTRUCTURE, "order": "request"}],
}
BEST = 2  # the document that answers the question


@pytest.fixture(autouse=True)
def speaks_provider(upstream: FakeUpstream) -> None:
    upstream.handler = provider


@dataclass
class Clients:
    """Both clients at one address."""

    openai: openai.AsyncOpenAI
    anthropic: anthropic.AsyncAnthropic
    upstream: FakeUpstream

    async def chat(self, messages: Any, **more: Any) -> bytes:
        """What the upstream receives."""
        await self.openai.chat.completions.create(model="m", messages=messages, **more)
        return self.upstream.last.body

    async def messages(self, messages: Any, **more: Any) -> bytes:
        await self.anthropic.messages.create(model="m", max_tokens=9, messages=messages, **more)
        return self.upstream.last.body


@contextlib.asynccontextmanager
async def clients(url: str, upstream: FakeUpstream) -> AsyncIterator[Clients]:
    async with (
        openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", max_retries=0) as first,
        anthropic.AsyncAnthropic(api_key="k", base_url=url, max_retries=0) as second,
    ):
        yield Clients(first, second, upstream)


@contextlib.asynccontextmanager
async def through(
    upstream: FakeUpstream, folder: Path, stages: list[dict[str, Any]]
) -> AsyncIterator[Clients]:
    """Clients of a proxy with its real pipeline."""
    config = Config.model_validate(
        {
            "version": 1,
            "auth": "passthrough",
            "store": "memory://",
            "upstreams": {"main": {"base_url": upstream.url}},
            "pipelines": {"rag": {"min_tokens": 0, "deadline_ms": 30_000, "stages": stages}},
            "tenants": {"default": {"upstream": "main", "mode": "on", "pipeline": "rag"}},
        }
    )
    settings = ProxySettings(state_dir=folder, secret=b"s" * 32)
    proxy = RunningProxy(create_app(config, settings=settings))
    proxy.thread.start()
    try:
        while not proxy.server.started:
            assert proxy.thread.is_alive(), "the proxy did not start"
        async with clients(proxy.url, upstream) as made:
            yield made
    finally:
        proxy.stop()
        proxy.thread.join()


# --- prompts, built by the frameworks themselves ------------------------------------------------


def langchain_stuff() -> str:
    """What the chain sends to a completion model."""
    pytest.importorskip("langchain_classic")
    from langchain_classic.chains.combine_documents import create_stuff_documents_chain
    from langchain_classic.chains.question_answering import stuff_prompt
    from langchain_core.documents import Document
    from langchain_core.runnables import RunnableLambda

    sent: list[str] = []

    def model(prompt: Any) -> str:
        sent.append(prompt.to_string())
        return "an answer"

    chain = create_stuff_documents_chain(RunnableLambda(model), stuff_prompt.PROMPT)
    documents = [Document(page_content=one.paragraphs) for one in RETRIEVED]
    chain.invoke({"context": documents, "question": QUESTION})
    return sent[0]


def langchain_sources() -> str:
    pytest.importorskip("langchain_classic")
    from langchain_classic.chains.combine_documents import create_stuff_documents_chain
    from langchain_classic.chains.qa_with_sources import stuff_prompt
    from langchain_core.documents import Document
    from langchain_core.runnables import RunnableLambda

    sent: list[str] = []

    def model(prompt: Any) -> str:
        sent.append(prompt.to_string())
        return "an answer"

    chain = create_stuff_documents_chain(
        RunnableLambda(model),
        stuff_prompt.PROMPT,
        document_prompt=stuff_prompt.EXAMPLE_PROMPT,
        document_variable_name="summaries",
    )
    documents = [
        Document(page_content=one.paragraphs, metadata={"source": f"{number}-pl"})
        for number, one in enumerate(RETRIEVED, start=1)
    ]
    chain.invoke({"summaries": documents, "question": QUESTION})
    return sent[0]


def llama_nodes(metadata: bool) -> Any:
    from llama_index.core.schema import NodeWithScore, TextNode

    return [
        NodeWithScore(
            node=TextNode(
                text=one.paragraphs,
                metadata={"page_label": str(number), "file_path": f"/docs/{number}.pdf"}
                if metadata
                else {},
            ),
            score=one.score,
        )
        for number, one in enumerate(RETRIEVED, start=1)
    ]


def llama_text_qa(metadata: bool = False) -> str:
    pytest.importorskip("llama_index.core")
    from llama_index.core.llms import MockLLM
    from llama_index.core.response_synthesizers import get_response_synthesizer

    synthesizer = get_response_synthesizer(llm=MockLLM())  # it answers with the prompt
    return str(synthesizer.synthesize(QUESTION, llama_nodes(metadata)))


def llama_text_qa_with_metadata() -> str:
    return llama_text_qa(metadata=True)


def llama_citations() -> str:
    pytest.importorskip("llama_index.core")
    from llama_index.core.llms import MockLLM
    from llama_index.core.query_engine import CitationQueryEngine
    from llama_index.core.retrievers import BaseRetriever

    class Retriever(BaseRetriever):
        def _retrieve(self, query_bundle: Any) -> Any:
            return llama_nodes(False)

    engine = CitationQueryEngine(retriever=Retriever(), llm=MockLLM())
    return str(engine.query(QUESTION))


def haystack_numbered() -> str:
    pytest.importorskip("haystack")
    from haystack import Document
    from haystack.components.builders import PromptBuilder

    template = (
        "Given these documents, answer the question.\nDocuments:\n"
        "{% for doc in documents %}Document {{ loop.index }}:\n{{ doc.content }}\n\n{% endfor %}"
        "\nQuestion: {{ query }}\nAnswer:"
    )
    builder = PromptBuilder(template=template, required_variables="*")
    documents = [Document(content=one.paragraphs) for one in RETRIEVED]
    return str(builder.run(documents=documents, query=QUESTION)["prompt"])


def in_brackets() -> str:
    body = "\n\n".join(f"[{n}] {one.text}" for n, one in enumerate(RETRIEVED, start=1))
    return f"Answer from the passages and cite them.\n\n{body}\n\nQuestion: {QUESTION}"


def with_titles() -> str:
    body = "\n".join(
        f"Document [{n}](Title: {one.title}) {one.text}" for n, one in enumerate(RETRIEVED, start=1)
    )
    return f"Write a high-quality answer.\n\n{body}\n\nQuestion: {QUESTION}\nAnswer:"


def in_tags() -> str:
    body = "\n".join(
        f'<document index="{n}">\n<source>{one.title}</source>\n<document_content>\n'
        f"{one.paragraphs}\n</document_content>\n</document>"
        for n, one in enumerate(RETRIEVED, start=1)
    )
    return f"<documents>\n{body}\n</documents>\n\nAnswer in one line. {QUESTION}"


@dataclass(frozen=True)
class Prompt:
    """A prompt, how it numbers a document (the group of a pattern), and what is around its text."""

    build: Callable[[], str]
    marker: str | None
    opening: str = ""
    closing: str = ""


PROMPTS = {
    "langchain stuff": Prompt(langchain_stuff, None),
    "langchain sources": Prompt(langchain_sources, r"\nSource: (\d)-pl", opening="Content: "),
    "llama-index": Prompt(llama_text_qa, None),
    "llama-index with metadata": Prompt(
        llama_text_qa_with_metadata, r"page_label: (\d)\nfile_path: /docs/\1\.pdf\n\n"
    ),
    "llama-index citations": Prompt(llama_citations, r"Source (\d):\n"),
    "haystack, numbered": Prompt(haystack_numbered, r"Document (\d):\n"),
    "[1]": Prompt(in_brackets, r"\[(\d)\] "),
    "Document [1](Title: …)": Prompt(
        with_titles,
        rf"Document \[(\d)\]\(Title: (?:{'|'.join(one.title for one in RETRIEVED)})\) ",
    ),
    "<document>": Prompt(
        in_tags,
        r'<document index="(\d)">\n<source>[\w ]+</source>\n<document_content>\n',
        closing="\n</document_content>\n</document>",
    ),
}
SENTENCES = {sentence: number for number, one in enumerate(RETRIEVED) for sentence in one.sentences}


def sentences_in(text: str) -> list[str]:
    """The retrieved sentences in ``text``, in its order."""
    places = {sentence: text.find(sentence) for sentence in SENTENCES}
    found = sorted((at, sentence) for sentence, at in places.items() if at >= 0)
    return [sentence for _, sentence in found]


def around(text: str, prompt: Prompt) -> tuple[str, str]:
    """What stands before the first document, marker included, and behind the last."""
    present = sentences_in(text)
    first, last = text.index(present[0]), text.index(present[-1]) + len(present[-1])
    markers = list(re.finditer(prompt.marker, text)) if prompt.marker else []
    before = [m for m in markers if m.start() < first and m.end() == first]
    behind = [m for m in markers if m.start() == last]
    first = before[0].start() if before else first
    last = behind[0].end() if behind else last
    return text[:first], text[last:]


async def both_ways(
    upstream: FakeUpstream, folder: Path, stages: list[dict[str, Any]], text: str, api: str
) -> tuple[str, str]:
    """The text as it comes through the proxy and as it was sent; no other byte may differ."""
    send = "chat" if api == "openai" else "messages"
    messages = [{"role": "user", "content": text}]
    async with clients(upstream.url, upstream) as direct:
        original = await getattr(direct, send)(messages)
    async with through(upstream, folder, stages) as proxied:
        received = await getattr(proxied, send)(messages)
    blank = ReplaceString("/messages/0/content", ("#",))
    assert apply_edits(received, [blank]) == apply_edits(original, [blank])
    assert orjson.loads(original)["messages"][0]["content"] == text
    return orjson.loads(received)["messages"][0]["content"], text


@pytest.mark.parametrize("stages", PIPELINES)
@pytest.mark.parametrize("name", PROMPTS)
async def test_a_frameworks_prompt(
    name: str, stages: str, upstream: FakeUpstream, tmp_path: Path
) -> None:
    prompt = PROMPTS[name]
    api = "anthropic" if stages == "both" else "openai"
    received, sent = await both_ways(upstream, tmp_path, PIPELINES[stages], prompt.build(), api)
    before, behind = around(sent, prompt)
    assert QUESTION in behind or QUESTION in before
    assert received.startswith(before)
    assert received.endswith(behind), "instructions and question are byte-identical"
    inside = prompt.opening + received[len(before) : len(received) - len(behind)] + prompt.closing
    kept = sentences_in(inside)
    # Nothing but whole sentences, markers and white space.
    rest = inside
    for sentence in kept:
        assert rest.count(sentence) == 1
        rest = rest.replace(sentence, "")
    numbered = markers_of(inside, prompt, kept)
    rest = re.sub(prompt.marker, "", rest) if prompt.marker else rest
    for markup in filter(None, (prompt.opening, prompt.closing)):
        assert rest.count(markup) == len({SENTENCES[sentence] for sentence in kept})
        rest = rest.replace(markup, "")
    assert not rest.strip()
    # Numbers are those of the documents, whatever became of the others.
    assert all(SENTENCES[sentence] == number for sentence, number in numbered)
    order = list(dict.fromkeys(SENTENCES[sentence] for sentence in kept))
    if stages == "reorder":
        assert sorted(kept) == sorted(SENTENCES)
    else:
        assert len(kept) < len(SENTENCES) / 2
        assert set(RETRIEVED[BEST].sentences[:2]) <= set(kept)
    if prompt.marker:
        assert order[0] == BEST, "the best document is first"
    else:
        assert kept == [sentence for sentence in SENTENCES if sentence in kept], "order is kept"


def markers_of(inside: str, prompt: Prompt, kept: list[str]) -> list[tuple[str, int]]:
    """Every kept sentence with the number of the document it stands in."""
    if not prompt.marker:
        return []
    markers = list(re.finditer(prompt.marker, inside))
    assert markers
    trails = "Source: " in prompt.marker  # the number stands behind the text
    found = []
    for sentence in kept:
        at = inside.index(sentence)
        near = (
            next(m for m in markers if m.start() >= at)
            if trails
            else next(m for m in reversed(markers) if m.end() <= at)
        )
        found.append((sentence, int(near[1]) - 1))
    return found


async def test_labels_between_documents_keep_them_in_place(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Words that name the document behind them would name another one."""
    parts = [f"Draft {n}:\n<document>\n{d.text}\n</document>" for n, d in enumerate(RETRIEVED)]
    text = "\n".join([*parts, QUESTION])
    received, _ = await both_ways(upstream, tmp_path, PIPELINES["reorder"], text, "openai")
    assert received == text
    received, _ = await both_ways(upstream, tmp_path, PIPELINES["restructure"], text, "openai")
    assert f"Draft {BEST}:\n<document>\n{RETRIEVED[BEST].sentences[0]}" in received
    assert all(f"Draft {n}:\n" in received for n in range(len(RETRIEVED)))


# --- our own field ------------------------------------------------------------------------------


@pytest.mark.parametrize("stages", PIPELINES)
async def test_documents_of_our_own_field(
    stages: str, upstream: FakeUpstream, tmp_path: Path
) -> None:
    documents = [
        {"id": f"d{n}", "title": one.title, "text": one.text, "score": one.score}
        for n, one in enumerate(RETRIEVED)
    ]
    messages = [
        {"role": "system", "content": "Be brief.  Thank you."},
        {"role": "user", "content": QUESTION},
    ]
    async with through(upstream, tmp_path, PIPELINES[stages]) as proxied:
        body = orjson.loads(
            await proxied.chat(messages, extra_body={"ctxpress": {"documents": documents}})
        )
    assert set(body) == {"model", "messages"}
    assert [body["messages"][0], body["messages"][-1]] == messages
    (printed,) = body["messages"][1:-1]
    found = re.findall(
        r'<document id="d(\d)" title="([\w ]+)">\n(.*?)\n</document>', printed["content"], re.S
    )
    order = [int(number) for number, _, _ in found]
    assert order[0] == BEST
    for number, title, text in found:
        assert title == RETRIEVED[int(number)].title
        left = text
        for sentence in RETRIEVED[int(number)].sentences:
            left = left.replace(sentence, "")
        assert not left.strip()
    assert sorted(order) == list(range(len(RETRIEVED))) if stages == "reorder" else len(order) < 5


# --- Anthropic's own documents ------------------------------------------------------------------


def search_result(number: int, **more: Any) -> dict[str, Any]:
    one = RETRIEVED[number]
    return {
        "type": "search_result",
        "source": f"https://example.org/{number}",
        "title": one.title,
        "content": [{"type": "text", "text": text} for text in one.paragraphs.split("\n\n")],
        **more,
    }


def plain_document(number: int, **more: Any) -> dict[str, Any]:
    one = RETRIEVED[number]
    source = {"type": "text", "media_type": "text/plain", "data": one.text}
    return {"type": "document", "title": one.title, "source": source, **more}


def texts_of(part: dict[str, Any]) -> list[str]:
    if part["type"] == "search_result":
        return [inner["text"] for inner in part["content"]]
    return [part["source"]["data"]]


def emptied(part: dict[str, Any]) -> dict[str, Any]:
    """A document without its texts."""
    copy: dict[str, Any] = json.loads(json.dumps(part))
    if copy["type"] == "search_result":
        for inner in copy["content"]:
            inner["text"] = ""
    else:
        copy["source"]["data"] = ""
    return copy


SHAPES: dict[str, Callable[..., dict[str, Any]]] = {
    "search_result": search_result,
    "document": plain_document,
}


def check_elements(
    received: list[dict[str, Any]], sent: list[dict[str, Any]], *, dropped: bool
) -> None:
    """Whole elements, best one first, of some only sentences are left."""
    names = [part["title"] for part in sent]
    order = [names.index(part["title"]) for part in received]
    assert order[0] == BEST
    assert len(order) < len(sent) if dropped else sorted(order) == list(range(len(sent)))
    for place, part in zip(order, received, strict=True):
        assert emptied(part) == emptied(sent[place])
        for now, before in zip(texts_of(part), texts_of(sent[place]), strict=True):
            left = now
            for sentence in RETRIEVED[place].sentences:
                if sentence in before:
                    left = left.replace(sentence, "")
            assert now.strip()
            assert not left.strip()


@pytest.mark.parametrize("stages", PIPELINES)
@pytest.mark.parametrize("shape", SHAPES)
async def test_elements_are_moved_and_dropped_whole(
    shape: str, stages: str, upstream: FakeUpstream, tmp_path: Path
) -> None:
    sent = [SHAPES[shape](n) for n in range(len(RETRIEVED))]
    question = {"type": "text", "text": QUESTION}
    image = {"type": "image", "source": {"type": "url", "url": "https://example.org/i.png"}}
    async with through(upstream, tmp_path, PIPELINES[stages]) as proxied:
        body = orjson.loads(
            await proxied.messages([{"role": "user", "content": [image, *sent, question]}])
        )
    first, *received, last = body["messages"][0]["content"]
    assert (first, last) == (image, question)
    check_elements(received, sent, dropped=stages != "reorder")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stages", PIPELINES)
async def test_elements_that_answers_cite_go_as_they_came(
    shape: str, stages: str, upstream: FakeUpstream, tmp_path: Path
) -> None:
    parts = [SHAPES[shape](n, citations={"enabled": True}) for n in range(len(RETRIEVED))]
    messages = [{"role": "user", "content": [*parts, {"type": "text", "text": QUESTION}]}]
    async with clients(upstream.url, upstream) as direct:
        original = await direct.messages(messages)
    async with through(upstream, tmp_path, PIPELINES[stages]) as proxied:
        assert await proxied.messages(messages) == original


async def test_documents_on_either_side_of_an_image_stay_there(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://example.org/i.png"}}
    sent = [search_result(n) for n in range(len(RETRIEVED))]
    content = [*sent[:2], image, *sent[2:], {"type": "text", "text": QUESTION}]
    async with through(upstream, tmp_path, PIPELINES["reorder"]) as proxied:
        body = orjson.loads(await proxied.messages([{"role": "user", "content": content}]))
    received = body["messages"][0]["content"]
    assert received[2] == image
    assert sorted(map(sent.index, received[:2])) == [0, 1]
    assert sorted(map(sent.index, received[3:-1])) == [2, 3, 4]
    assert received[3] == sent[BEST]


# --- tool results -------------------------------------------------------------------------------


@pytest.mark.parametrize("stages", PIPELINES)
@pytest.mark.parametrize("shape", SHAPES)
async def test_search_results_that_a_tool_found(
    shape: str, stages: str, upstream: FakeUpstream, tmp_path: Path
) -> None:
    sent = [SHAPES[shape](n) for n in range(len(RETRIEVED))]
    call = {"type": "tool_use", "id": "t1", "name": "search", "input": {"q": "tower"}}
    note = {"type": "text", "text": "5 results"}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [note, *sent]}
    messages = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    async with through(upstream, tmp_path, PIPELINES[stages]) as proxied:
        body = orjson.loads(await proxied.messages(messages))
    assert body["messages"][:2] == messages[:2]
    (received,) = body["messages"][2]["content"]
    assert {**received, "content": None} == {**result, "content": None}
    assert received["content"][0] == note
    check_elements(received["content"][1:], sent, dropped=stages != "reorder")


@pytest.mark.parametrize("stages", PIPELINES)
async def test_passages_that_a_tool_printed(
    stages: str, upstream: FakeUpstream, tmp_path: Path
) -> None:
    printed = "\n\n".join(f"[{n}] {one.text}" for n, one in enumerate(RETRIEVED, start=1))
    call = {
        "id": "t1",
        "type": "function",
        "function": {"name": "search", "arguments": '{"q":  "tower"}'},
    }
    messages = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t1", "content": printed},
    ]
    async with through(upstream, tmp_path, PIPELINES[stages]) as proxied:
        body = orjson.loads(await proxied.chat(messages))
    assert body["messages"][:2] == messages[:2]
    received = body["messages"][2]["content"]
    kept = sentences_in(received)
    numbered = markers_of(received, PROMPTS["[1]"], kept)
    assert all(SENTENCES[sentence] == number for sentence, number in numbered)
    assert received.startswith(f"[{BEST + 1}] {RETRIEVED[BEST].sentences[0]}")
    assert len(kept) == len(SENTENCES) if stages == "reorder" else len(kept) < 10
