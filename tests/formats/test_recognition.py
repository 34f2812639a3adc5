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
    assert documents_of(PROMPTS[name]) == [CURIE, TOWER]
    assert question_of(PROMPTS[name]) == QUESTION


@pytest.mark.parametrize("name", SYSTEM_PROMPTS)
def test_system_prompts_of_frameworks_release_their_context_only(name: str) -> None:
    assert documents_of(SYSTEM_PROMPTS[name], Role.SYSTEM, ask=False) == [CURIE, TOWER]


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
        assert documents_of(text) == [CURIE, TOWER], name
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
        assert documents_of(text, Role.SYSTEM, ask=False) == [CURIE, TOWER], text


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
    assert documents_of(text) == [CURIE, TOWER]
    assert question_of(text) == QUESTION
    system = stuff_prompt.CHAT_PROMPT.format_messages(context=CONTEXT, question=QUESTION)[0]
    assert documents_of(str(system.content), Role.SYSTEM, ask=False) == [CURIE, TOWER]
    for text in (
        refine_prompts.DEFAULT_TEXT_QA_PROMPT.format(context_str=CONTEXT, question=QUESTION),
        refine_prompts.DEFAULT_REFINE_PROMPT.format(
            context_str=CONTEXT, question=QUESTION, existing_answer="x"
        ),
    ):
        assert documents_of(text) == [CURIE, TOWER]
        assert question_of(text) == QUESTION


def test_langchain_sources_skip_the_example() -> None:
    pytest.importorskip("langchain_classic")
    from langchain_classic.chains.qa_with_sources import stuff_prompt

    text = stuff_prompt.PROMPT.format(question=QUESTION, summaries=CONTEXT)
    assert documents_of(text) == [CURIE, TOWER]
    assert question_of(text) == QUESTION


# --- borders that a framework shows in its context --------------------------------------------


def rows_of(text: str, role: Role = Role.USER) -> dict[str, int]:
    """Id and row of every document."""
    spans = spans_of(text, role, ask=role is Role.USER)
    return {s.source.id: s.source.row for s in spans if s.source}


def in_llamaindex(context: str) -> str:
    return PROMPTS["llamaindex"].replace(CONTEXT, context)


def printed_nodes(nodes: list[tuple[dict[str, Any], str]]) -> str:
    """What LlamaIndex's own compacting synthesizer sends for these nodes."""
    pytest.importorskip("llama_index.core")
    from llama_index.core.llms import MockLLM
    from llama_index.core.response_synthesizers import CompactAndRefine
    from llama_index.core.schema import NodeWithScore, TextNode

    synthesizer = CompactAndRefine(llm=MockLLM())  # it answers with the prompt
    scored = [
        NodeWithScore(node=TextNode(text=text, metadata=metadata), score=1.0)
        for metadata, text in nodes
    ]
    return str(synthesizer.synthesize(QUESTION, scored))


def test_nodes_are_told_apart_by_their_metadata() -> None:
    text = printed_nodes(
        [
            ({"page_label": "3", "file_path": "/data/curie.pdf"}, f"{CURIE}\n\n{RIVER}"),
            ({"file_name": "tower.md", "title": "The tower"}, TOWER),
            ({"page_label": "4", "file_path": "/data/curie.pdf"}, RIVER),
        ]
    )
    assert found(text) == [
        ("1", "/data/curie.pdf", f"{CURIE}\n\n{RIVER}"),
        ("2", "The tower", TOWER),
        ("3", "/data/curie.pdf", RIVER),
    ]
    assert documents_of(text) == [f"{CURIE}\n\n{RIVER}", TOWER, RIVER]
    assert question_of(text) == QUESTION
    markup = [s.text for s in spans_of(text) if s.markup]
    assert markup[0] == "page_label: 3\nfile_path: /data/curie.pdf\n\n"
    assert set(rows_of(text).values()) == {0}, "they may change places"


def test_metadata_under_keys_of_the_users_own() -> None:
    keys = [{"client": "A", "case_number": "17"}, {"client": "B", "case_number": "18"}]
    text = printed_nodes([(keys[0], CURIE), (keys[1], TOWER)])
    assert [body for _, _, body in found(text)] == [CURIE, TOWER]
    assert set(rows_of(text).values()) == {0}


def test_metadata_of_several_lines() -> None:
    asked = "1. Who was Curie?\n2. Where was she born?"
    metadata = {"file_name": "a.md", "questions_this_excerpt_can_answer": asked}
    text = printed_nodes([(metadata, CURIE), ({**metadata, "file_name": "b.md"}, TOWER)])
    assert [(title, body) for _, title, body in found(text)] == [("a.md", CURIE), ("b.md", TOWER)]


def test_a_context_that_begins_in_the_middle_of_a_node() -> None:
    text = in_llamaindex(f"{CURIE}\n\nfile_path: b.md\n\n{TOWER}\n\nfile_path: c.md\n\n{RIVER}")
    assert [(title, body) for _, title, body in found(text)] == [
        (None, CURIE), ("b.md", TOWER), ("c.md", RIVER),
    ]  # fmt: skip


def test_front_matter_belongs_to_its_node() -> None:
    inner = f"title: Paris\nauthor: me\n\n{TOWER}"
    text = in_llamaindex(f"file_path: a.md\n\n{inner}\n\nfile_path: b.md\n\n{RIVER}")
    assert [(title, body) for _, title, body in found(text)] == [("a.md", inner), ("b.md", RIVER)]


@pytest.mark.parametrize(
    "context",
    [
        f"Alice: Where was Marie Curie born, do you know that?\n\nBob: {CURIE}\n\nAlice: {TOWER}",
        f"Note: this is what is known about the city of Paris.\n\n{CURIE}\n\nNote: {TOWER}",
        f"name: a\nkind: b\n\nname: c\nkind: d\n\n{CURIE}\n\n{TOWER}",
    ],
)
def test_what_only_looks_like_metadata_moves_nothing(context: str) -> None:
    rows = list(rows_of(in_llamaindex(context)).values())
    assert len(rows) > 1
    assert rows == sorted(set(rows)), "each in a row of its own"


def test_paragraphs_keep_their_order_since_they_may_be_of_one_document() -> None:
    text = PROMPTS["langchain stuff"].replace(
        CONTEXT, f"# Paris\n\n{CURIE}\n\n{TOWER}\n\nSo it is."
    )
    bodies = [body for _, _, body in found(text)]
    assert bodies == [f"# Paris\n\n{CURIE}", f"{TOWER}\n\nSo it is."]
    assert rows_of(text) == {"context-1": 0, "context-2": 1}


def test_code_with_blank_lines_is_in_one_paragraph() -> None:
    code = "```python\nfirst = 1 + 2 + 3 + 4 + 5 + 6 + 7\n\nsecond = 8 + 9 + 10 + 11 + 12\n```"
    text = PROMPTS["langchain stuff"].replace(CONTEXT, f"{CURIE}\n\n{code}\n\n{TOWER}")
    assert [body for _, _, body in found(text)] == [CURIE, code, TOWER]


def test_langchains_answers_with_sources_name_their_documents() -> None:
    pytest.importorskip("langchain_classic")
    from langchain_classic.chains.qa_with_sources import stuff_prompt
    from langchain_core.documents import Document
    from langchain_core.prompts import format_document

    printed = [
        format_document(
            Document(page_content=body, metadata={"source": name}), stuff_prompt.EXAMPLE_PROMPT
        )
        for name, body in (("a-pl", f"{CURIE}\n\n{RIVER}"), ("b-pl", TOWER))
    ]
    text = stuff_prompt.PROMPT.format(question=QUESTION, summaries="\n\n".join(printed))
    assert found(text) == [("1", "a-pl", f"{CURIE}\n\n{RIVER}"), ("2", "b-pl", TOWER)]
    assert set(rows_of(text).values()) == {0}
    last = [s for s in spans_of(text) if s.markup][-1]
    assert last.text == "\nSource: b-pl"


def test_a_tag_around_a_whole_context_says_less_than_the_prompt() -> None:
    text = (
        "Answer any use questions based solely on the context below:\n\n"
        f"<context>\n{CONTEXT}\n</context>\n\nQuestion: {QUESTION}"
    )
    assert documents_of(text) == [CURIE, TOWER]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (f"Old:\n<doc>{CURIE}</doc>\nNew:\n<doc>{TOWER}</doc>\n{QUESTION}", [0, 1]),
        (f"<doc>{CURIE}</doc>\n---\n<doc>{TOWER}</doc>\n{QUESTION}", [0, 0]),
        (f"<doc>{CURIE}</doc>\n(from a)\n<doc>{TOWER}</doc><doc>{RIVER}</doc>\n?", [0, 1, 1]),
        (f"[1] {CURIE}\n[2] {TOWER}\n\n{QUESTION}", [0, 0]),
    ],
)
def test_words_between_documents_keep_them_apart(text: str, rows: list[int]) -> None:
    assert list({s.source: s.source.row for s in spans_of(text) if s.source}.values()) == rows


# --- laws ------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        "<document>", "</document>", "<documents>", "</documents>", '<doc id="1" title="a&amp;b">',
        "</doc>", "<source>s</source>", "<document_content>", "</document_content>", "\n[1] ",
        "\n[2] ", "\nPassage 1: ", "\nPassage 2: ", "some words of a text ", "\n\n", "```\n",
        "Context information is below.\n------\n", "\n------\nGiven the context information",
        "Use the following pieces of context.\n\n", "\nQuestion: ", "<keep>", "</keep>", "`",
        "\n\nfile_path: a.md\n\n", "Content: ", "\nSource: s\n", "a: b\nc: d\n\n",
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
