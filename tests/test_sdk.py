"""The SDK as a user of a RAG pipeline meets it: offline, with the bundled model."""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import ctxpress
from ctxpress.document import Block, ContextDocument, Kind, Role, Span
from ctxpress.hookspecs import hookimpl
from ctxpress.manager import create_plugin_manager
from ctxpress.waiting import wait
from tests.conversations import prose
from tests.core.stages import EveryOtherWord

TEXT = prose("sdk", 30)
CODE = "```python\nprint('as it is')\n```"
MIXED = f"{TEXT}\n\n{CODE}\n\nSee https://example.com/a?b=c and <keep>{TEXT}</keep>."


class NoOptions(BaseModel):
    """A stage without options."""


def test_a_text_is_made_of_the_ranges_that_were_kept():
    result = ctxpress.compress(TEXT, keep_ratio=0.5)
    assert result.text == "".join(TEXT[start:end] for start, end in result.kept)
    assert 0 < result.tokens_after <= 0.55 * result.tokens_before
    assert result.reports[0].stage == "token_classification"


def test_everything_is_kept_at_one():
    assert ctxpress.compress(MIXED, keep_ratio=1.0).text == MIXED


def test_code_urls_and_keep_tags_survive():
    text = ctxpress.compress(MIXED, keep_ratio=0.1).text
    assert CODE in text
    assert "https://example.com/a?b=c" in text
    assert f"<keep>{TEXT}</keep>" in text


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.text(max_size=400) | st.lists(st.sampled_from(TEXT.split()), max_size=80).map(" ".join),
    st.floats(0.05, 1.0),
)
def test_any_text_at_any_ratio_comes_out_as_a_subsequence_that_is_not_longer(text, keep_ratio):
    result = ctxpress.compress(text, keep_ratio=keep_ratio)
    assert result.text == "".join(text[start:end] for start, end in result.kept)
    assert list(result.kept) == sorted(result.kept)
    assert result.tokens_after <= result.tokens_before


@pytest.mark.parametrize("target_tokens", [20, 100, 250])
def test_a_token_budget_holds(target_tokens):
    result = ctxpress.compress(TEXT, target_tokens=target_tokens)
    assert 0.8 * target_tokens <= result.tokens_after <= target_tokens


@pytest.mark.parametrize(
    "options",
    [
        {"keep_ratio": 0},
        {"keep_ratio": 1.5},
        {"target_tokens": 0},
        {"keep_ratio": 0.5, "target_tokens": 10},
        {"pipeline": "balancd"},
    ],
    ids=str,
)
def test_wrong_options_are_named(options):
    with pytest.raises(ctxpress.CtxpressError):
        ctxpress.compress(TEXT, **options)


def test_messages_keep_their_shape():
    messages = [
        {"role": "system", "content": "You are a clerk."},
        {"role": "user", "content": f"{prose('a', 60)}\n\nWhat did the members agree on?"},
    ]
    result = ctxpress.compress_messages(messages, pipeline="balanced")
    assert [m["role"] for m in result.messages] == ["system", "user"]
    assert result.messages[0] == messages[0]
    assert result.messages[1]["content"].endswith("What did the members agree on?")
    assert result.tokens_after < result.tokens_before


def test_documents_come_back_with_citations_into_the_originals():
    documents = [
        prose("one"),
        {"id": "b", "title": "Boiler", "text": prose("two"), "score": 0.7},
        ctxpress.Document(text=prose("three"), id="c"),
    ]
    result = ctxpress.compress_documents("When is the offer valid?", documents, keep_ratio=0.3)
    assert [d.id for d in result.documents] == ["0", "b", "c"]
    assert result.documents[1].title == "Boiler"
    assert result.documents[1].score == 0.7
    originals = {"0": prose("one"), "b": prose("two"), "c": prose("three")}
    for document in result.documents:
        pieces = [c for c in result.citations if c.document_id == document.id]
        assert document.text == "".join(originals[document.id][c.start : c.end] for c in pieces)
    ranked = sorted((d for d in result.documents if d.text), key=lambda d: d.place or 0)
    assert result.text == "\n\n".join(d.text for d in ranked) != ""


def test_with_a_question_the_sentences_that_help_stay_whole():
    answer = "The mill burned down in 1832."
    others = ["Bees dance every morning in the valleys.", "Coral reefs need warm, clear water."]
    texts = [f"{others[0]} {others[1]}", f"{others[1]} {answer}", "The office opens at nine."]
    result = ctxpress.compress_documents("When did the mill burn down?", texts, keep_ratio=0.3)
    assert result.text == answer
    assert [one.dropped is None for one in result.documents] == [False, True, False]
    assert [report.stage for report in result.reports] == ["restructure"]


@pytest.mark.parametrize("question", [None, "", " \n"])
def test_without_a_question_words_leave_every_document(question):
    texts = [prose(name, 12) for name in ("one", "two", "three")]
    result = ctxpress.compress_documents(question, texts, keep_ratio=0.4)
    assert [report.stage for report in result.reports] == ["token_classification"]
    assert all(
        0 < len(one.text) < len(text) for one, text in zip(result.documents, texts, strict=True)
    )


def test_a_budget_holds_among_documents_full_of_markup():
    answer = "The mill burned down in 1832."
    page = "<div class='x'><p>Bees dance.</p><script>var a = '<p>';</script><td>a</td></div>"
    texts = [page, page.replace("Bees", "Crabs"), f"{answer} It was rebuilt by the parish later."]
    result = ctxpress.compress_documents("When did the mill burn?", texts, budget_tokens=11)
    assert result.text == answer
    assert result.tokens_after <= 11


def test_where_nothing_helps_documents_stay_whole_unless_a_budget_forbids_it():
    texts = [
        "Coral reefs need warm water. They grow.",
        "The office opens at nine. It closes at five.",
    ]
    question = "Who painted the ceiling of the chapel?"
    result = ctxpress.compress_documents(question, texts, keep_ratio=0.3)
    assert [one.text for one in result.documents] == texts
    assert result.reports[0].skipped == "nothing_relevant"
    assert ctxpress.compress_documents(question, texts, budget_tokens=8).tokens_after <= 8


def test_a_budget_is_for_all_documents_together():
    documents = [prose("one", 20), prose("two", 60)]
    result = ctxpress.compress_documents(None, documents, budget_tokens=300)
    assert 240 <= result.tokens_after <= 300


def test_a_document_of_a_wrong_shape_is_named():
    with pytest.raises(ctxpress.CtxpressError, match=r"documents\[1\]"):
        ctxpress.compress_documents(None, ["fine", {"txt": "wrong"}])


def test_the_sync_functions_work_inside_a_running_loop():
    async def main():
        return ctxpress.compress(TEXT).text, (await ctxpress.acompress(TEXT)).text

    first, second = asyncio.run(main())
    assert first == second


async def test_a_held_pipeline_repeats_what_it_sent():
    async with ctxpress.Pipeline.from_stages({"use": "token_classification"}) as pipeline:
        messages = [{"role": "user", "content": prose("a", 60) + "\n\nWhat now?"}]
        first = await pipeline.compress_messages(messages)
        messages += [
            {"role": "assistant", "content": "Wait."},
            {"role": "user", "content": prose("b", 60) + "\n\nAnd now?"},
        ]
        second = await pipeline.compress_messages(messages)
    assert second.messages[0] == first.messages[0]
    assert second.messages[0] != messages[0]
    assert second.messages[2] != messages[2]


def test_a_pipeline_comes_from_a_file(tmp_path):
    path = tmp_path / "ctxpress.yaml"
    path.write_text(
        "version: 1\nstore: memory://\npipelines:\n  rag:\n    min_tokens: 10\n    stages:\n"
        "      - {use: token_classification, keep_ratio: 0.3}\n"
    )
    result = ctxpress.compress(TEXT, pipeline="rag", config=path)
    assert result.tokens_after <= 0.35 * result.tokens_before


def test_a_wrong_stage_option_in_a_file_is_named_with_its_line(tmp_path):
    path = tmp_path / "ctxpress.yaml"
    path.write_text(
        "version: 1\npipelines:\n  rag:\n    stages:\n"
        "      - {use: token_classification, keep_ration: 0.3}\n"
    )
    with pytest.raises(
        ctxpress.CtxpressError, match=r"ctxpress\.yaml:5: .*did you mean 'keep_ratio'"
    ):
        ctxpress.compress(TEXT, pipeline="rag", config=path)


@pytest.mark.parametrize("text", [None, b"bytes", 5, ["a list"]])
def test_what_is_no_text_is_named(text):
    with pytest.raises(TypeError, match=f"text: str is needed, not {type(text).__name__}"):
        ctxpress.compress(text)


@pytest.mark.parametrize(
    "options",
    [
        {"keep_ratio": "0.5"},
        {"keep_ratio": True},
        {"target_tokens": 1.5},
        {"question": 5},
        {"model": 5},
    ],
    ids=str,
)
def test_options_of_a_wrong_type_are_named(options):
    with pytest.raises(TypeError, match="is needed, not"):
        ctxpress.compress(TEXT, **options)


@pytest.mark.parametrize(
    "documents",
    [
        "one text",
        b"bytes",
        None,
        {"text": "a"},
        [{"text": "a", "id": 5}],
        [{"text": "a", "score": "1"}],
    ],
    ids=str,
)
def test_documents_of_a_wrong_type_are_named(documents):
    with pytest.raises(ctxpress.CtxpressError, match="documents"):
        ctxpress.compress_documents(None, documents)


@pytest.mark.parametrize("messages", ["text", None, {"role": "user"}, [None], ["text"]], ids=str)
def test_messages_of_a_wrong_type_are_named(messages):
    with pytest.raises(ctxpress.CtxpressError, match="messages"):
        ctxpress.compress_messages(messages)


@pytest.mark.parametrize("stage", ["token_classification", {"keep_ratio": 0.5}], ids=str)
def test_a_stage_that_is_not_named_is_the_callers_error(stage):
    with pytest.raises(ctxpress.CtxpressError, match=r"stages\[0\]"):
        ctxpress.Pipeline.from_stages(stage)


async def test_a_held_pipeline_checks_what_it_is_given():
    async with ctxpress.Pipeline.from_stages({"use": "token_classification"}) as pipeline:
        with pytest.raises(TypeError, match="document"):
            await pipeline.run("text")
        with pytest.raises(ctxpress.CtxpressError, match="keep_ratio"):
            await pipeline.compress_messages([], keep_ratio=5)


async def test_a_held_pipeline_tells_documents_of_ones_own_apart():
    def document(text, protected):
        span = Span.of(text, 0, len(text), Kind.PROSE, protected=protected)
        block = Block(pointer="/0", role=Role.USER, turn=0, message=0, original=text, spans=(span,))
        return ContextDocument(blocks=(block,))

    other = "Most of what was said there by the members was not of any use at all to anybody. " * 9
    other = (other * 9)[: len(TEXT)]
    async with ctxpress.Pipeline.from_stages({"use": "token_classification"}) as pipeline:
        first = await pipeline.run(document(TEXT, False))
        assert first.document.blocks[0].text != TEXT
        protected = await pipeline.run(document(TEXT, True))
        assert protected.document.blocks[0].text == TEXT
        second = await pipeline.run(document(other, False))
        assert second.document.blocks[0].kept != first.document.blocks[0].kept


async def test_a_held_pipeline_decides_anew_for_another_question():
    def document(question):
        spans = (Span.of(TEXT, 0, len(TEXT), Kind.DOCUMENT, protected=False),)
        block = Block(pointer="/0", role=Role.USER, turn=0, message=0, original=TEXT, spans=spans)
        return ContextDocument(blocks=(block,), questions=(question,))

    questions = ["What did the members agree on?", "When is the offer valid?", None]
    async with ctxpress.Pipeline.from_stages({"use": "token_classification"}) as pipeline:
        held = [(await pipeline.run(document(q), keep_ratio=0.3)).document for q in questions]
    alone = [ctxpress.compress(TEXT, keep_ratio=0.3, question=q).text for q in questions]
    assert [one.blocks[0].text for one in held] == alone
    assert len(set(alone)) == 3


def test_a_held_pipeline_works_on_every_loop():
    question = "When is the offer valid?"
    lists = [[prose(f"{a}{b}", 12) for b in range(3)] for a in range(6)]
    alone = [
        ctxpress.compress_documents(question, documents, keep_ratio=0.4).text for documents in lists
    ]
    pipeline = ctxpress.Pipeline.from_stages({"use": "restructure"})

    def call(number):
        work = pipeline.compress_documents(question, lists[number % 6], keep_ratio=0.4)
        return asyncio.run(work).text

    with ThreadPoolExecutor(max_workers=6) as executor:
        assert list(executor.map(call, range(18))) == alone * 3
    asyncio.run(pipeline.aclose())


@pytest.mark.parametrize("store", ["disk://{folder}", "{redis}"])
def test_a_stores_connections_follow_the_loops(store, tmp_path, redis_server):
    url = store.format(folder=tmp_path, redis=redis_server.url)
    pipeline = ctxpress.Pipeline.from_stages(
        {"use": "token_classification"}, store=url, strict=True
    )
    texts = [
        asyncio.run(pipeline.compress_documents(None, [TEXT], keep_ratio=0.4)).text
        for _ in range(3)
    ]
    assert texts == [ctxpress.compress_documents(None, [TEXT], keep_ratio=0.4).text] * 3
    asyncio.run(pipeline.aclose())


async def test_a_held_pipeline_shares_a_budget_out_over_documents():
    async with ctxpress.Pipeline.from_stages({"use": "token_classification"}) as pipeline:
        documents = [prose("one", 20), prose("two", 60)]
        result = await pipeline.compress_documents(None, documents, budget_tokens=300)
        assert 240 <= result.tokens_after <= 300
        with pytest.raises(ctxpress.CtxpressError, match="not both"):
            await pipeline.compress_documents(None, documents, budget_tokens=9, keep_ratio=0.5)


def test_the_protection_of_a_file_holds_for_documents(tmp_path):
    path = tmp_path / "ctxpress.yaml"
    path.write_text(
        "version: 1\nstore: memory://\npipelines:\n  rag:\n    min_tokens: 0\n"
        "    protect: {terms: [members]}\n"
        "    stages:\n      - {use: token_classification, keep_ratio: 0.1}\n"
    )
    text = prose("members", 20) + " The members met."
    result = ctxpress.compress_documents(None, [text], pipeline="rag", config=path)
    assert result.text.count("members") == text.count("members") > 0


def test_context_variables_are_seen_inside_a_running_loop():
    variable = contextvars.ContextVar("variable", default="unset")

    async def read():
        return variable.get()

    async def main():
        variable.set("inner")
        return wait(read())

    variable.set("outer")
    assert wait(read()) == "outer"
    assert asyncio.run(main()) == "inner"


def test_a_pipeline_names_the_stages_that_need_a_question():
    def register(**traits):
        stage = EveryOtherWord(**traits)

        class Plugin:
            @hookimpl
            def register_stages(self, register):
                register("halve", lambda config, resources: stage, NoOptions)

        manager = create_plugin_manager(plugins=[Plugin()])
        return ctxpress.Pipeline.from_stages({"use": "halve"}, manager=manager).question_stages

    assert register() == ()
    assert register(query_aware=True) == ("halve",)
    assert register(query_aware=True, query_optional=True) == ()


def test_a_title_may_hold_what_json_cannot():
    document = {"text": TEXT, "title": "lone \ud800", "id": "\udc00"}
    result = ctxpress.compress_documents(None, [document], keep_ratio=0.5)
    assert result.tokens_after < result.tokens_before
    assert result.documents[0].title == "lone \ud800"


async def test_what_restructure_leaves_is_reordered() -> None:
    texts = [f"The tower of town {n} is {n * 7} metres tall. Bees like it." for n in range(12)]
    texts += ["Coral reefs need warm water.", "The office opens at nine."]
    stages = (
        {"use": "restructure", "keep_ratio": 0.6, "scorer": "bm25"},
        {"use": "reorder", "scorer": "bm25", "min_documents": 2},
    )
    async with ctxpress.Pipeline.from_stages(*stages, strict=True) as pipeline:
        result = await pipeline.compress_documents("How tall is the tower of town 11?", texts)
    assert [report.skipped for report in result.report.stages] == [None, None]
    assert any(one.dropped for one in result.documents)
    assert result.text.startswith("The tower of town 11 is 77 metres tall.")
