"""Documents in texts: tags, numbers, the tenant's pattern, the frameworks' own prompts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ctxpress.document import Kind, Role, Span
from ctxpress.formats.options import ParseOptions
from ctxpress.formats.recognition import recognise
from ctxpress.formats.segmentation import segment

PLAIN = ParseOptions()
CURIE = "Marie Curie was born in Warsaw in 1867. She studied physics and chemistry in Paris."
TOWER = "The Eiffel Tower is 330 metres tall. It was built for the fair of 1889 in Paris."
RIVER = "The Seine is 777 kilometres long. It flows through Paris and ends in the sea."
TEXTS = (CURIE, TOWER, RIVER)
QUESTION = "How tall is the Eiffel Tower, and when was it built?"
CONTEXT = f"{CURIE}\n\n{TOWER}"


def spans_of(text: str, role: Role = Role.USER, ask: bool = True) -> tuple[Span, ...]:
    kind = Kind.INSTRUCTION if role is Role.SYSTEM else Kind.PROSE
    spans = segment(text, role=role, kind=kind, options=PLAIN, ask=ask)
    assert "".join(span.text for span in spans) == text
    return spans


def documents_of(text: str, role: Role = Role.USER, ask: bool = True) -> list[str]:
    """The released texts; everything else must be protected and no document."""
    spans = spans_of(text, role, ask)
    free = [s for s in spans if not s.protected and s.text.strip()]
    assert all(s.kind is Kind.DOCUMENT and s.source for s in free)
    return [span.text for span in free]


def question_of(text: str) -> str:
    return "".join(s.text for s in spans_of(text) if s.kind is Kind.QUESTION)


def found(text: str, options: ParseOptions = PLAIN) -> list[tuple[str, str | None, str]]:
    return [(d.id, d.title, text[d.start : d.end]) for d in recognise(text, options)]


# --- tags ------------------------------------------------------------------------------------


def test_our_own_printing() -> None:
    text = (
        f'Use these.\n\n<document id="a7" title="Curie &quot;M&quot; &amp; co">\n{CURIE}\n'
        f'</document>\n<document id="b">\n{TOWER}\n</document>\n\n{QUESTION}'
    )
    assert found(text) == [("a7", 'Curie "M" & co', CURIE), ("b", None, TOWER)]
    assert documents_of(text) == [CURIE, TOWER]
    assert question_of(text) == QUESTION
    source = next(s.source for s in spans_of(text) if s.source)
    assert text[source.start :].startswith(CURIE)


def test_anthropics_form() -> None:
    body = "\n".join(
        f'<document index="{n}">\n<source>{n} &amp; x.pdf</source>\n<document_content>\n{t}\n'
        "</document_content>\n</document>"
        for n, t in enumerate(TEXTS, 1)
    )
    text = f"<documents>\n{body}\n</documents>\n\n{QUESTION}"
    assert found(text) == [(str(n), f"{n} & x.pdf", t) for n, t in enumerate(TEXTS, 1)]
    assert documents_of(text) == list(TEXTS)


@pytest.mark.parametrize(
    "text",
    [
        f"<context>\n{CURIE}\n</context>\n{QUESTION}",
        f"<doc id=1>{CURIE}</doc>\n\n{QUESTION}",
        f"<passage>{CURIE}</passage>{QUESTION}",
        f"<context><doc>{CURIE}</doc></context> {QUESTION}",
        f"<search_result><title>T</title><content>{CURIE}</content></search_result>\n{QUESTION}",
        f"<documents>{CURIE}</documents>\n{QUESTION}",
    ],
)
def test_other_tags(text: str) -> None:
    assert [body for _, _, body in found(text)] == [CURIE]
    assert question_of(text) == QUESTION


@pytest.mark.parametrize(
    "text",
    [
        f"Wrap it in `<document>` and `</document>`, {CURIE}",
        f"```xml\n<document>{CURIE}</document>\n```\n{QUESTION}",
        f"<document>{CURIE}",
        f"{CURIE}</document>",
        "<document>\n \n</document>",
        f"<documentation>{CURIE}</documentation>",
    ],
)
def test_what_only_looks_like_tagged_documents(text: str) -> None:
    assert found(text) == []


def test_a_document_cut_inside_a_fence_does_not_hide_the_next() -> None:
    text = f"<doc>{CURIE}\n```\nx\n</doc>\n<doc>{TOWER}\n```\ny\n```\n</doc>\n{QUESTION}"
    assert len(found(text)) == 2


def test_code_in_a_document_stays_and_belongs_to_it() -> None:
    text = f"<doc id='k'>{CURIE} See `x` too.</doc> {QUESTION}"
    code = next(s for s in spans_of(text) if s.kind is Kind.CODE)
    assert code.protected
    assert code.source is not None
    assert code.source.id == "k"


# --- numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marker", "title"),
    [
        ("[{n}] ", None),
        ("[{n}]: ", None),
        ("[{n}] Title: Paris\n", "Paris"),
        ("[{n}] (Paris) ", None),
        ("Document [{n}](Title: Paris (city)) ", "Paris (city)"),
        ("Document {n}: ", None),
        ("Passage {n}:\n", None),
        ("Source {n}:\n", None),
        ("### Document {n}\n", None),
        ("--- Document {n} ---\n", None),
        ("Context #{n}: ", None),
        ("Passage {n} (Title: Paris): ", "Paris"),
    ],
)
@pytest.mark.parametrize("separator", ["\n", "\n\n"])
@pytest.mark.parametrize("tail", [f"\n\nQuestion: {QUESTION}\nAnswer:", f"\n\n{QUESTION}"])
def test_numbered_passages(marker: str, title: str | None, separator: str, tail: str) -> None:
    body = separator.join(marker.format(n=n) + t for n, t in enumerate(TEXTS, 1))
    text = f"Answer from the passages.\n\n{body}{tail}"
    got = found(text)
    assert [i for i, _, _ in got] == ["1", "2", "3"]
    if "(Paris) " not in marker:
        assert [(t, b) for _, t, b in got] == [(title, body) for body in TEXTS]
    assert question_of(text) == QUESTION


@pytest.mark.parametrize(
    "text",
    [
        f"1. {CURIE}\n2. {TOWER}\n3. {RIVER}",
        f"{CURIE} [1] {TOWER} [2]",
        f"[1] {CURIE}\n[3] {TOWER}",
        f"[7] {CURIE}\n[8] {TOWER}",
        "[1] Smith 2020.\n[2] Doe 2021.\n[3] Poe 2022.",
        f"{CURIE * 20}\n\nReferences\n[1] {TOWER}\n[2] {RIVER}",
        f"References\n\n[1] {TOWER}\n[2] {RIVER}",
        f"```\n[1] {CURIE}\n[2] {TOWER}\n```\nwords",
        f"Document 1: {CURIE}",
    ],
)
def test_lists_and_bibliographies_are_no_passages(text: str) -> None:
    assert found(text) == []


def test_the_tenants_own_pattern() -> None:
    options = ParseOptions(
        document_pattern=re.compile(r"^#@ (?P<id>\w+) \| (?P<title>.*)\n(?P<text>.*)$", re.M)
    )
    text = f"#@ k1 | Curie\n{CURIE}\n#@ k2 | Tower\n{TOWER}\n\n{QUESTION}"
    assert found(text, options) == [("k1", "Curie", CURIE), ("k2", "Tower", TOWER)]


# --- framework prompts, as written by hand ---------------------------------------------------

RULE = "---------------------"
PROMPTS = {
    "langchain stuff": (
        "Use the following pieces of context to answer the question at the end. If you don't know "
        "the answer, just say that you don't know, don't try to make up an answer.\n\n"
        f"{CONTEXT}\n\nQuestion: {QUESTION}\nHelpful Answer:"
    ),
    "langchain hub": (
        "You are an assistant for question-answering tasks. Use the following pieces of retrieved "
        f"context to answer the question. Be concise.\nQuestion: {QUESTION} \nContext: {CONTEXT} "
        "\nAnswer:"
    ),
    "langchain quick start": (
        f"Answer the question based only on the following context:\n{CONTEXT}\n\n"
        f"Question: {QUESTION}\n"
    ),
    "llamaindex": (
        f"Context information is below.\n{RULE}\n{CONTEXT}\n{RULE}\nGiven the context information "
        f"and not prior knowledge, answer the query.\nQuery: {QUESTION}\nAnswer: "
    ),
}
SYSTEM_PROMPTS = {
    "langchain chat": (
        "Use the following pieces of context to answer the user's question.\nIf you don't know the "
        f"answer, just say so.\n----------------\n{CONTEXT}"
    ),
    "langchain tutorial": (
        "You are an assistant. Use the following pieces of retrieved context to answer the "
        f"question. Keep it short.\n\n{CONTEXT}"
    ),
    "langchain retrieval": (
        "Answer any use questions based solely on the context below:\n\n"
        f"<context>\n{CONTEXT}\n</context>"
    ),
    "llamaindex context chat": (
        f"Use the context information below to assist the user.\n{RULE}\n{CONTEXT}\n{RULE}\n"
    ),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_of_frameworks(name: str) -> None:
    assert documents_of(PROMPTS[name]) == [CONTEXT]
    assert question_of(PROMPTS[name]) == QUESTION


@pytest.mark.parametrize("name", SYSTEM_PROMPTS)
def test_system_prompts_of_frameworks_release_their_context_only(name: str) -> None:
    assert documents_of(SYSTEM_PROMPTS[name], Role.SYSTEM, ask=False) == [CONTEXT]


def test_other_system_prompts_release_nothing() -> None:
    text = f"You are a guide.\n<context>\n{CONTEXT}\n</context>\n[1] {CURIE}\n[2] {TOWER}"
    assert documents_of(text, Role.SYSTEM, ask=False) == []


def test_numbered_passages_inside_a_frameworks_context() -> None:
    body = f"Source 1:\n{CURIE}\n\nSource 2:\n{TOWER}\n"
    text = PROMPTS["llamaindex"].replace(CONTEXT, body)
    assert documents_of(text) == [CURIE, TOWER]


# --- framework prompts, by the frameworks themselves -----------------------------------------


def test_llamaindex_prints_what_we_read() -> None:
    pytest.importorskip("llama_index.core")
    from llama_index.core.prompts import default_prompts

    for name, keywords in {
        "DEFAULT_TEXT_QA_PROMPT_TMPL": {"context_str": CONTEXT},
        "DEFAULT_TREE_SUMMARIZE_TMPL": {"context_str": CONTEXT},
        "DEFAULT_REFINE_PROMPT_TMPL": {"context_msg": CONTEXT, "existing_answer": "300 m"},
    }.items():
        text = getattr(default_prompts, name).format(query_str=QUESTION, **keywords)
        assert documents_of(text) == [CONTEXT], name
        assert question_of(text) == QUESTION, name


def test_llamaindex_chat_engines_print_what_we_read() -> None:
    pytest.importorskip("llama_index.core")
    from llama_index.core.chat_engine import condense_plus_context, context

    plain: Any = context
    condensed: Any = condense_plus_context
    for text in (
        plain.DEFAULT_CONTEXT_TEMPLATE.format(context_str=CONTEXT),
        plain.DEFAULT_REFINE_TEMPLATE.format(context_msg=CONTEXT, existing_answer="x"),
        condensed.DEFAULT_CONTEXT_PROMPT_TEMPLATE.format(context_str=CONTEXT),
        condensed.DEFAULT_CONTEXT_REFINE_PROMPT_TEMPLATE.format(
            context_msg=CONTEXT, existing_answer="x"
        ),
    ):
        assert documents_of(text, Role.SYSTEM, ask=False) == [CONTEXT], text


def test_llamaindex_citations_skip_the_example() -> None:
    pytest.importorskip("llama_index.core")
    from llama_index.core.query_engine import citation_query_engine

    body = f"Source 1:\n{CURIE}\n\nSource 2:\n{TOWER}\n"
    engine: Any = citation_query_engine
    text = engine.CITATION_QA_TEMPLATE.format(context_str=body, query_str=QUESTION)
    assert documents_of(text) == [CURIE, TOWER]
    assert question_of(text) == QUESTION


def test_langchain_prints_what_we_read() -> None:
    pytest.importorskip("langchain_classic")
    from langchain_classic.chains.question_answering import refine_prompts, stuff_prompt

    text = stuff_prompt.PROMPT.format(context=CONTEXT, question=QUESTION)
    assert documents_of(text) == [CONTEXT]
    assert question_of(text) == QUESTION
    system = stuff_prompt.CHAT_PROMPT.format_messages(context=CONTEXT, question=QUESTION)[0]
    assert documents_of(str(system.content), Role.SYSTEM, ask=False) == [CONTEXT]
    for text in (
        refine_prompts.DEFAULT_TEXT_QA_PROMPT.format(context_str=CONTEXT, question=QUESTION),
        refine_prompts.DEFAULT_REFINE_PROMPT.format(
            context_str=CONTEXT, question=QUESTION, existing_answer="x"
        ),
    ):
        assert documents_of(text) == [CONTEXT]
        assert question_of(text) == QUESTION


def test_langchain_sources_skip_the_example() -> None:
    pytest.importorskip("langchain_classic")
    from langchain_classic.chains.qa_with_sources import stuff_prompt

    text = stuff_prompt.PROMPT.format(question=QUESTION, summaries=CONTEXT)
    assert documents_of(text) == [CONTEXT]
    assert question_of(text) == QUESTION


# --- laws ------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        "<document>", "</document>", "<documents>", "</documents>", '<doc id="1" title="a&amp;b">',
        "</doc>", "<source>s</source>", "<document_content>", "</document_content>", "\n[1] ",
        "\n[2] ", "\nPassage 1: ", "\nPassage 2: ", "some words of a text ", "\n\n", "```\n",
        "Context information is below.\n------\n", "\n------\nGiven the context information",
        "Use the following pieces of context.\n\n", "\nQuestion: ", "<keep>", "</keep>", "`",
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=2000)
@given(st.lists(PIECES, max_size=40).map("".join))
@example("<doc><document><doc><document></doc></doc>")
def test_documents_are_in_order_and_apart(text: str) -> None:
    position = 0
    for document in recognise(text, PLAIN):
        assert position <= document.outer_start <= document.start < document.end
        assert document.end <= document.outer_end <= len(text)
        own = text[document.start : document.end]
        assert own == own.strip()
        position = document.outer_end
