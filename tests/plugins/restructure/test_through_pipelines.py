"""`restructure` as callers meet it: results, reports, remembered reasons, endpoints that fail."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel

import ctxpress
from ctxpress.config_file import check_config
from ctxpress.errors import ConfigError, StageError
from ctxpress.hookspecs import hookimpl
from ctxpress.manager import PluginManager, create_plugin_manager
from ctxpress.results import CompressedDocuments
from tests.plugins.documents import QUESTION, FixedScorer
from tests.proxy.upstream import FakeUpstream, Received, Reply

TOWER = "The tower is 330 metres tall. It is painted brown. Rain falls on it in May."
FAIR = "Bees dance. The tower was built for a fair."
COAST = "Coral reefs need warm water."
DOCUMENTS = [
    {"id": "reef", "text": COAST},
    {"id": "tower", "title": "Tower", "text": TOWER},
    {"id": "fair", "text": FAIR},
]
SCORES = {"330 ": 0.9, "fair": 0.6}
KEY = "sk-verysecretkey"


class Options(BaseModel):
    nan: bool = False


class FixedScorers:
    """The plugin that registers the scorer `fixed`."""

    @hookimpl
    def register_scorers(self, register: Any) -> None:
        def create(config: Options, resources: Any) -> FixedScorer:
            return FixedScorer({"tower": float("nan")} if config.nan else SCORES)

        register("fixed", create, Options)


def manager() -> PluginManager:
    return create_plugin_manager(plugins=[FixedScorers()])


def pipeline(*, strict: bool = False, **options: Any) -> ctxpress.Pipeline:
    stage = {"use": "restructure", "scorer": "fixed", "keep_ratio": 0.6, "threshold": 0.03}
    return ctxpress.Pipeline.from_stages({**stage, **options}, strict=strict, manager=manager())


async def compressed(
    documents: Any = DOCUMENTS, question: str | None = QUESTION, *, strict: bool = False, **options
) -> CompressedDocuments:
    async with pipeline(strict=strict, **options) as held:
        return await held.compress_documents(question, documents)


def fates(result: CompressedDocuments) -> list[tuple[str, str, str | None]]:
    return [(one.id, one.state, one.reason) for one in result.report.documents]


async def test_every_document_is_accounted_for() -> None:
    result = await compressed()
    assert result.text == "The tower is 330 metres tall.\n\nThe tower was built for a fair."
    assert fates(result) == [
        ("reef", "dropped", "restructure: of no use for the question"),
        ("tower", "shortened", None),
        ("fair", "shortened", None),
    ]
    reef, tower, fair = result.documents
    assert (reef.place, tower.place, fair.place) == (None, 0, 1)
    assert reef.dropped == "restructure: of no use for the question"
    assert [TOWER[c.start : c.end] for c in result.citations if c.document_id == "tower"] == [
        "The tower is 330 metres tall."
    ]


async def test_a_document_that_would_be_of_use_and_has_no_room_is_told_from_the_others() -> None:
    result = await compressed(keep_ratio=0.25)
    assert [one.dropped for one in result.documents] == [
        "restructure: of no use for the question",
        None,
        "restructure: no sentence of it fits into the budget; raise keep_ratio",
    ]


async def test_a_document_that_hardly_helps_is_not_said_to_lack_room_alone() -> None:
    result = await compressed(keep_ratio=0.25, threshold=0.005)
    assert [one.dropped for one in result.documents] == [
        "restructure: of little use for the question, and the budget is spent on others; "
        "raise keep_ratio",
        None,
        "restructure: no sentence of it fits into the budget; raise keep_ratio",
    ]


async def test_an_identical_call_is_explained_as_the_first_one_was() -> None:
    documents = [*DOCUMENTS, {"id": "reef", "text": COAST}, {"id": "empty", "text": ""}]
    async with pipeline() as held:
        first = await held.compress_documents(QUESTION, documents)
        second = await held.compress_documents(QUESTION, documents)
    assert second.report.blocks_remembered == 4
    assert second.documents == first.documents
    assert second.report.documents == first.report.documents
    assert second.text == first.text
    assert first.documents[-1].dropped == "it has no text"


@pytest.mark.parametrize("form", ["documents", "sections"])
async def test_documents_inside_one_text_are_explained_again_too(form: str) -> None:
    tags = "\n".join(f'<document id="{d["id"]}">{d["text"]}</document>' for d in DOCUMENTS)
    messages = [{"role": "user", "content": f"Use these.\n\n{tags * 3}\n\n{QUESTION}"}]
    async with pipeline(format=form) as held:
        first, second = [await held.compress_messages(messages) for _ in range(2)]
    assert second.messages == first.messages
    assert second.report.blocks_remembered == 1
    assert second.report.documents == first.report.documents
    states = [one.state for one in first.report.documents]
    assert len(states) == 9
    assert {"dropped", "shortened"} <= set(states)


async def test_sections_of_documents_of_one_text_each_are_numbered_through() -> None:
    many = [{"id": str(n), "text": f"Tower {n} has 330 steps. Rain falls. Bees dance. " + COAST}
            for n in range(6)]  # fmt: skip
    result = await compressed(many, format="sections", keep_ratio=0.9, strict=True)
    headings = re.findall(r"^(\d+)\.(\d+)\. ## Document \d$", result.text, re.M)
    assert len(headings) == 6
    assert headings[0] == ("1", "1")
    assert result.tokens_after <= result.tokens_before
    assert {one.state for one in result.report.documents} == {"shortened"}


BAD = {
    "one": [TOWER],
    "duplicates": [TOWER, TOWER, FAIR, FAIR],
    "empty texts": ["", TOWER, " ", "\n\n"],
    "HTML": ["<html><body><p>The tower is <b>330</b> metres.</p><script>x()</script></body>"] * 2,
    "longer than all budgets": ["The 330 metres and " * 5_000, COAST],
    "no sentences": ["330" * 2_000, "\u200b" * 50, "…" * 300],
    "lone surrogates": ["The tower \ud800 is 330 metres tall. Bees dance.", COAST],
    "equal ids": [
        {"id": "a", "text": TOWER},
        {"id": "a", "text": COAST},
        {"id": "a", "text": FAIR},
    ],
    "odd titles": [{"title": "\ud800\n" * 500, "text": TOWER}, {"title": " ", "text": FAIR}],
}


@pytest.mark.parametrize("form", ["documents", "sections"])
@pytest.mark.parametrize("name", BAD)
async def test_bad_input_gives_a_result(name: str, form: str) -> None:
    given = BAD[name]
    result = await compressed(given, format=form)
    assert len(result.documents) == len(given)
    assert result.tokens_after <= result.tokens_before
    for one, document in zip(given, result.documents, strict=True):
        text = one if isinstance(one, str) else one["text"]
        quoted = "".join(text[start:end] for start, end in document.kept)
        assert document.text == quoted or document.text.endswith(f"\n{quoted}")
        assert (document.place is None) == (document.dropped is not None)


async def test_two_thousand_documents_give_a_result() -> None:
    given = [f"The {n}th of the bees." for n in range(1_000, 2_990)] + [TOWER] * 10
    result = await compressed(given, strict=True)
    assert sum(one.dropped is None for one in result.documents) == 10
    assert len(result.report.documents) == 2_000


async def test_no_documents_and_no_question_are_no_errors() -> None:
    assert (await compressed([])).documents == ()
    result = await compressed(question=None)
    assert result.report.stages[0].skipped == "no_question"
    assert [one.text for one in result.documents] == [d["text"] for d in DOCUMENTS]
    assert "no_question" in str(result.report.reason)


async def test_a_question_in_another_language_is_a_question() -> None:
    result = await compressed(
        question="Wie hoch ist der Turm, und wer hat ihn gebaut?", strict=True
    )
    assert "330 metres" in result.text


async def test_scores_that_are_no_numbers_skip_the_stage_or_are_an_error() -> None:
    broken = {"use": "fixed", "nan": True}
    result = await compressed(scorer=broken)
    assert result.report.stages[0].skipped == "stage_failed"
    assert "document 2 has no finite score" in str(result.report.stages[0].reason)
    assert [one.text for one in result.documents] == [d["text"] for d in DOCUMENTS]
    with pytest.raises(StageError, match="document 2 has no finite score"):
        await compressed(scorer=broken, strict=True)


async def test_what_nothing_is_of_use_in_stays_or_leaves() -> None:
    bees = ["Bees dance. They fly.", COAST]
    kept = await compressed(bees)
    assert kept.report.skipped == "nothing_relevant"
    assert "on_empty: drop" in str(kept.report.reason)
    assert [one.state for one in kept.report.documents] == ["kept", "kept"]
    dropped = await compressed(bees, on_empty="drop")
    assert dropped.text == ""
    assert {one.dropped for one in dropped.documents} == {"restructure: of no use for the question"}


@pytest.fixture
async def endpoint() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream().running() as running:
        yield running


def llm(endpoint: FakeUpstream, **options: Any) -> dict[str, Any]:
    return {"backend": "llm", "llm": {"base_url": endpoint.url, "model": "m", **options}}


def answers(text: str) -> Any:
    async def handler(request: Received, reply: Reply) -> None:
        choice = {"index": 0, "finish_reason": "stop"}
        choice["message"] = {"role": "assistant", "content": text}
        await reply.json({"object": "x", "choices": [choice]})

    return handler


async def test_what_the_model_quotes_is_what_stays(endpoint: FakeUpstream) -> None:
    endpoint.handler = answers(
        "1.1. ## Tower\nRain falls on it in May. The tower is 330 metres tall.\n"
        "2.1. ## Document 1\nCoral reefs need warm water.\n"
    )
    result = await compressed(**llm(endpoint), keep_ratio=1.0, format="sections")
    assert (
        result.text
        == (
            "1.1. ## Tower\nThe tower is 330 metres tall. Rain falls on it in May."
            "\n\n2.1. ## Document reef\nCoral reefs need warm water."
        )
        or result.documents[0].dropped
    )
    assert "The tower is 330 metres tall. Rain falls on it in May." in result.text
    assert result.report.stages[0].notes == ()


async def test_quotes_of_a_model_keep_the_budget_the_first_ones_first(
    endpoint: FakeUpstream,
) -> None:
    endpoint.handler = answers(f"1.1. ## Document 3\n{FAIR}\n1.2. ## Tower\n{TOWER}\n")
    result = await compressed(**llm(endpoint), keep_ratio=0.4, strict=True)
    assert result.text.startswith("Bees dance. The tower was built for a fair.")
    assert result.tokens_after <= 0.4 * result.tokens_before


async def test_a_model_that_finds_nothing_empties_the_documents_if_that_is_wanted(
    endpoint: FakeUpstream,
) -> None:
    endpoint.handler = answers("NONE")
    assert (await compressed(**llm(endpoint))).report.skipped == "nothing_relevant"
    assert (await compressed(**llm(endpoint), on_empty="drop")).text == ""


async def test_where_the_endpoint_fails_the_scorer_chooses_and_the_report_says_so(
    endpoint: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFINER_KEY", KEY)

    async def failing(request: Received, reply: Reply) -> None:
        assert request.header("authorization") == f"Bearer {KEY}"
        message = f"Incorrect key {KEY} for {request.body.decode()[:200]}"
        await reply.json({"error": {"message": message, "code": "server_error"}}, 500)

    endpoint.handler = failing
    result = await compressed(**llm(endpoint, api_key_env="REFINER_KEY"), strict=True)
    assert result.text == (await compressed()).text
    (stage,) = result.report.stages
    assert stage.skipped is None
    (note,) = stage.notes
    assert note.startswith("the model gave no quotes, the scorer chose: ")
    assert "500" in note
    assert KEY not in json.dumps(result.report.as_dict())


def test_a_key_that_is_not_there_is_an_error_when_the_pipeline_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"base_url": "http://127.0.0.1:9/v1", "model": "m", "api_key_env": "NO_SUCH_KEY"}
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"llm\.api_key_env: the variable NO_SUCH_KEY is not set"):
        pipeline(backend="llm", llm=options)


ENDPOINT = "{base_url: 'http://127.0.0.1:9', model: m}"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("keep_ratio: 3", "stages[0].keep_ratio: 3 must be at most 1"),
        ("keep_ration: 0.3", "did you mean 'keep_ratio'"),
        ("threshold: 1", "stages[0].threshold: 1 must be less than 1"),
        ("scorer: bm52", "no scorer is called 'bm52'; did you mean 'bm25'"),
        ("scorer: {use: bm52}", "scorer.use: no scorer is called 'bm52'"),
        ("scorer: {use: bm25, k: 2}", "scorer.k: unknown key; did you mean 'k1'"),
        ("scorer: {use: bundled, sure: 1}", "scorer.sure: 1 must be less than 1"),
        ("scorer: {use: vectors, k1: 1}", "scorer.k1: unknown key"),
        ("backend: llm", "llm: needed by backend: llm, and only there"),
        (f"llm: {ENDPOINT}", "llm: needed by backend: llm, and only there"),
        (f"backend: llm, llm: {ENDPOINT[:-1]}, max_tokens: 0}}", "max_tokens"),
        (f"backend: llm, llm: {ENDPOINT[:-1]}, api_key_env: 'a b'}}", "api_key_env"),
        ("backend: llm, llm: {base_url: nowhere, model: m}", "base_url"),
        ("backend: llm, llm: {base_url: 'http://127.0.0.1:9'}", "model"),
        ("format: sections, order: request", "order: request has no sections"),
    ],
)
def test_a_mistake_in_the_configuration_is_named_with_its_place(
    options: str, problem: str, tmp_path: Any
) -> None:
    path = tmp_path / "ctxpress.yaml"
    path.write_text(
        f"version: 1\npipelines:\n  rag:\n    stages:\n      - {{use: restructure, {options}}}\n"
    )
    (found,) = check_config(path)
    assert problem in found
    assert "ctxpress.yaml:5" in found
