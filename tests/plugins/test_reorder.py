"""The stage `reorder`: the published order, by the right scores, and nothing but the order."""

from __future__ import annotations

import asyncio
import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.arrangement import passages_of
from ctxpress.errors import ConfigError, StageError
from ctxpress.laws import check_laws
from ctxpress.manager import create_plugin_manager
from ctxpress.plugins.reorder import ReorderConfig, ReorderStage, edges_first
from ctxpress.plugins.restructure.config import RestructureConfig
from ctxpress.plugins.restructure.stage import RestructureStage
from ctxpress.relevance.bm25 import BM25Scorer
from ctxpress.stage import Skip, StageContext, StageSkip
from ctxpress.testing import WordCounter, check_stage
from tests.plugins.documents import (
    QUESTION,
    FixedScorer,
    extended,
    listed,
    numbered,
    run,
    tagged,
    texts_of,
    through_pipeline,
)

KEYS = [chr(ord("a") + n) for n in range(12)]
TEXTS = [f"Passage {key} says something about {key * 3}, and at some length." for key in KEYS]


def stage(scorer: FixedScorer | None = None, **options: object) -> ReorderStage:
    config = ReorderConfig.model_validate({"min_documents": 2, **options})
    return ReorderStage(config, None if config.scores == "given" else scorer or FixedScorer())


def with_scores(scores: list[float | None]) -> list[dict[str, object]]:
    return [{"id": str(n), "text": TEXTS[n % 12], "score": score} for n, score in enumerate(scores)]


@pytest.mark.parametrize("k", range(200))
def test_every_document_stands_where_the_paper_puts_it(k: int) -> None:
    placed = edges_first(k)
    assert sorted(placed) == list(range(k))
    for i in range(1, k + 1):
        expected = (i + 1) / 2 if i % 2 else (k + 1) - i / 2
        assert placed.index(i - 1) + 1 == expected


def test_the_best_two_are_at_the_ends() -> None:
    assert edges_first(10) == [0, 2, 4, 6, 8, 9, 7, 5, 3, 1]
    assert edges_first(5) == [0, 2, 4, 3, 1]


@pytest.mark.parametrize("k", [1, 2, 3, 9, 10, 11, 50, 199])
def test_langchain_reverses_it_for_even_numbers(k: int) -> None:
    transformers = pytest.importorskip("langchain_community.document_transformers")
    from langchain_core.documents import Document

    documents = [Document(page_content=str(rank)) for rank in range(k)]
    reordered = transformers.LongContextReorder().transform_documents(documents)
    theirs = [int(one.page_content) for one in reordered]
    ours = edges_first(k)
    assert theirs == (ours if k % 2 else ours[::-1])


@pytest.mark.parametrize("k", [1, 2, 3, 9, 10, 11, 50, 199])
def test_llama_index_reverses_it_for_even_numbers(k: int) -> None:
    pytest.importorskip("llama_index.core")
    from llama_index.core.postprocessor import LongContextReorder
    from llama_index.core.schema import NodeWithScore, TextNode

    nodes = [
        NodeWithScore(node=TextNode(text=str(rank)), score=float(k - rank)) for rank in range(k)
    ]
    theirs = [int(one.node.text) for one in LongContextReorder().postprocess_nodes(nodes)]
    ours = edges_first(k)
    assert theirs == (ours if k % 2 else ours[::-1])


@pytest.mark.parametrize("shape", ["list", "extension"])
def test_documents_go_by_their_own_scores(shape: str) -> None:
    documents = with_scores([0.1, 0.9, 0.5, 0.7, 0.3])
    document = (listed if shape == "list" else extended)(documents)
    after = run(stage(scores="given"), document)
    check_laws(document, after, extractive=True, arranges=True)
    assert texts_of(after) == [TEXTS[n] for n in (1, 2, 0, 4, 3)]
    assert [p.source.id for p in passages_of(after)] == ["1", "2", "0", "4", "3"]
    assert [p.source.score for p in passages_of(after)] == [0.9, 0.5, 0.1, 0.3, 0.7]


@pytest.mark.parametrize("shape", [tagged, numbered])
def test_documents_go_by_computed_scores_with_their_numbers(shape) -> None:
    document = shape(TEXTS[:4])
    scorer = FixedScorer({"Passage c": 0.9, "Passage a": 0.8, "Passage d": 0.7})
    after = run(stage(scorer), document)
    check_laws(document, after, extractive=True, arranges=True)
    assert texts_of(after) == [TEXTS[n] for n in (2, 3, 1, 0)]
    before = {p.text.strip(): p.markup for p in passages_of(document)}
    assert {p.text.strip(): p.markup for p in passages_of(after)} == before
    assert sorted(after.blocks[-1].text) == sorted(document.blocks[-1].text)


def test_a_title_and_the_question_reach_the_scorer() -> None:
    scorer = FixedScorer()
    run(stage(scorer), listed([{"text": "x", "title": "T"}, {"text": "y"}], "Why?"))
    ((question, texts),) = scorer.asked
    assert question == "Why?"
    assert [(t.text, t.title) for t in texts] == [("x", "T"), ("y", None)]


def test_equals_keep_their_order() -> None:
    after = run(stage(scores="given"), listed(with_scores([0.5] * 6)))
    assert texts_of(after) == [TEXTS[n] for n in edges_first(6)]


def test_given_scores_ask_no_scorer_and_no_question() -> None:
    scorer = FixedScorer()
    documents = with_scores([0.1, 0.9, 0.5])
    after = run(stage(scorer, scores="auto"), listed(documents, None))
    assert texts_of(after) == [TEXTS[n] for n in (1, 0, 2)]
    assert scorer.asked == []


def test_computed_scores_win_where_they_are_asked_for() -> None:
    scorer = FixedScorer({"Passage b": 0.9})
    after = run(stage(scorer, scores="computed"), listed(with_scores([0.9, 0.1, 0.5])))
    assert texts_of(after)[0] == TEXTS[1]


NOT_FINITE = [None, float("nan"), float("inf"), -float("inf"), 10**400]


@pytest.mark.parametrize("score", NOT_FINITE, ids=lambda score: str(score)[:5])
def test_a_score_that_is_none_is_computed_or_named(score) -> None:
    document = listed(with_scores([0.9, score, 0.5]))
    scorer = FixedScorer({"Passage c": 0.9})
    assert texts_of(run(stage(scorer), document))[0] == TEXTS[2]
    assert len(scorer.asked) == 1
    with pytest.raises(StageSkip, match=r"document 2 of 3 \('1'\) has no finite score") as skip:
        run(stage(scores="given"), document)
    assert skip.value.code is Skip.NO_SCORES


@pytest.mark.parametrize("question", [None, "", " \n"])
@pytest.mark.parametrize("scores", ["auto", "computed"])
def test_without_a_question_nothing_is_computed(scores: str, question: str | None) -> None:
    with pytest.raises(StageSkip) as skip:
        run(stage(scores=scores), listed(TEXTS, question))
    assert skip.value.code is Skip.NO_QUESTION


@pytest.mark.parametrize("count", [0, 1, 9])
def test_few_documents_are_left_alone_and_the_skip_says_so(count: int) -> None:
    document = listed(with_scores([float(n) for n in range(count)]))
    with pytest.raises(StageSkip, match=f"{count} documents .* min_documents is 10") as skip:
        run(stage(scores="given", min_documents=10), document)
    assert skip.value.code is Skip.TOO_FEW_DOCUMENTS


def test_each_row_is_put_in_order_by_itself() -> None:
    first, second = tagged(TEXTS[:3]), tagged(TEXTS[3:6])
    block = dataclasses.replace(second.blocks[0], pointer="/messages/1/content")
    document = first.with_blocks((*first.blocks, block))
    scorer = FixedScorer({"Passage b": 0.3, "Passage f": 0.9})
    after = run(stage(scorer), document)
    assert texts_of(after) == [TEXTS[n] for n in (1, 2, 0, 5, 4, 3)]


def test_a_row_that_is_too_short_does_not_keep_a_longer_one_from_its_order() -> None:
    first, second = tagged(TEXTS[:2]), tagged(TEXTS[3:6])
    block = dataclasses.replace(second.blocks[0], pointer="/messages/1/content")
    document = first.with_blocks((*first.blocks, block))
    scorer = FixedScorer({"Passage b": 0.9, "Passage f": 0.9})
    after = run(stage(scorer, min_documents=3), document)
    assert texts_of(after) == [TEXTS[n] for n in (0, 1, 5, 4, 3)]


def test_what_is_in_order_comes_back_as_it_is() -> None:
    document = listed(with_scores([0.9, 0.5, 0.7]))
    assert run(stage(scores="given"), document) is document


def test_pinned_documents_move_whole() -> None:
    texts = [TEXTS[0], f"{TEXTS[1]} <keep>It stays.</keep>", TEXTS[2]]
    document = tagged(texts)
    after = run(stage(FixedScorer({"Passage b": 0.9})), document)
    check_laws(document, after, extractive=True, arranges=True)
    assert texts_of(after)[0] == texts[1]


def test_documents_with_equal_ids_and_equal_texts_are_all_there() -> None:
    documents = [{"id": "same", "text": "The same.", "score": s} for s in (0.1, 0.9, 0.5)]
    for document in (listed(documents), extended(documents)):
        after = run(stage(scores="given"), document)
        check_laws(document, after, extractive=True, arranges=True)
        assert [p.source.score for p in passages_of(after)] == [0.9, 0.1, 0.5]


def test_empty_texts_are_no_documents_and_stay_where_they_are() -> None:
    documents = with_scores([0.1, 0.9, 0.5])
    documents[1]["text"] = ""
    after = run(stage(scores="given"), listed(documents))
    assert texts_of(after) == [TEXTS[2], TEXTS[0]]


def test_two_thousand_documents() -> None:
    documents = [{"text": f"Number {n}.", "score": float(n)} for n in range(2_000)]
    after = run(stage(scores="given"), listed(documents))
    ranks = [1999 - int(text[7:-1]) for text in texts_of(after)]
    assert ranks == edges_first(2_000)


class Off(FixedScorer):
    """Breaks the contract of a scorer in the way it is told to."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def score(self, question, texts, **options):
        found = super().score(question, texts, **options)
        if self.how == "fewer":
            return found[:-1]
        if self.how == "nan":
            return [*found[:-1], dataclasses.replace(found[-1], score=math.nan)]
        return [*found[:-1], dataclasses.replace(found[-1], sentences=())]


@pytest.mark.parametrize("how", ["fewer", "nan", "sentences"])
def test_a_scorer_that_breaks_its_contract_is_a_stage_error(how: str) -> None:
    with pytest.raises(StageError, match="fixed/1"):
        run(stage(Off(how)), listed(TEXTS))


def test_text_in_a_language_that_the_scorer_does_not_know_is_left_alone() -> None:
    scorer = FixedScorer()
    scorer.languages = frozenset({"en"})
    german = ["Der Ausschuss traf sich am Dienstag, um den Haushalt zu besprechen."] * 3
    with pytest.raises(StageSkip) as skip:
        run(stage(scorer), listed(german))
    assert skip.value.code is Skip.LANGUAGE
    scored = [{"text": text, "score": float(n)} for n, text in enumerate(german)]
    assert run(stage(scorer), listed(scored)) != listed(scored)


@pytest.mark.parametrize(
    ("scores", "aware", "optional"),
    [("given", False, False), ("computed", True, False), ("auto", True, True)],
)
def test_it_depends_on_the_question_only_where_it_may_compute(scores, aware, optional) -> None:
    traits = stage(scores=scores).traits
    assert (traits.query_aware, traits.query_optional and traits.query_aware) == (aware, optional)
    assert traits.arranges
    assert traits.extractive


@pytest.mark.parametrize("scores", ["given", "computed", "auto"])
def test_it_obeys_every_law(scores: str) -> None:
    config = ReorderConfig(min_documents=2, scores=scores)
    check_stage(
        ReorderStage(config, None if scores == "given" else BM25Scorer()),
        documents=[
            tagged(TEXTS),
            numbered(TEXTS),
            listed(TEXTS),
            extended(with_scores([0.1, 0.5, 0.3])),
            tagged([TEXTS[0], "Code:\n```\nx = 1\n```", "<keep>Stays.</keep> Goes.", "猫" * 30]),
        ],
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=12), st.none() | st.floats()), min_size=0, max_size=12),
    st.sampled_from(["given", "auto", "computed"]),
)
def test_any_documents_are_all_accounted_for(documents, scores) -> None:
    given = [{"text": text, "score": score} for text, score in documents]
    document = listed(given)
    try:
        after = run(stage(scores=scores), document)
    except StageSkip:
        return
    check_laws(document, after, extractive=True, arranges=True)
    assert sorted(texts_of(after)) == sorted(texts_of(document))


@pytest.mark.parametrize(
    "options", [{"min_documents": 1}, {"scores": "mine"}, {"scorer": ""}, {"scorer": 3}]
)
def test_wrong_options_are_named(options) -> None:
    with pytest.raises(ConfigError, match=f"option '{next(iter(options))}"):
        create_plugin_manager().build_stage("reorder", options)


def shortening(scorer: FixedScorer) -> RestructureStage:
    return RestructureStage(RestructureConfig(keep_ratio=0.5, threshold=0.0), scorer)


def sharing() -> StageContext:
    async def now(work):
        return work()

    return StageContext(counter=WordCounter(), executor=now)


def test_scores_of_the_stage_before_are_not_computed_again() -> None:
    scorer = FixedScorer({f"something about {key * 3}": n / 12 for n, key in enumerate(KEYS)})
    context = sharing()
    texts = [f"{text} Bees dance every morning in every valley." for text in TEXTS]
    document = asyncio.run(shortening(scorer).apply(listed(texts), context))
    assert texts_of(document) != texts
    ordered = asyncio.run(stage(scorer).apply(document, context))
    assert len(scorer.asked) == 1
    alone = FixedScorer(scorer.scores)
    assert ordered == asyncio.run(stage(alone).apply(document, sharing()))
    assert len(alone.asked) == 1


@pytest.mark.parametrize("change", ["scorer", "question", "more"])
def test_scores_of_another_scorer_question_or_set_of_documents_are_not_taken(change: str) -> None:
    scorer, context = FixedScorer(), sharing()
    asyncio.run(shortening(scorer).apply(listed(TEXTS[:6]), context))
    other = FixedScorer()
    other.identity = "fixed/2" if change == "scorer" else scorer.identity
    question = "How old is the tower?" if change == "question" else QUESTION
    texts = TEXTS[:7] if change == "more" else TEXTS[:6]
    asyncio.run(stage(other).apply(listed(texts, question), context))
    assert len(other.asked) == 1


def test_what_was_looked_at_closely_is_not_scored_again_before_it_is_cut() -> None:
    scorer, context = FixedScorer(), sharing()
    document = asyncio.run(stage(scorer).apply(listed(TEXTS), context))
    cut = asyncio.run(shortening(scorer).apply(document, context))
    assert len(scorer.asked) == 1
    fresh = FixedScorer()
    assert cut == asyncio.run(shortening(fresh).apply(document, sharing()))


def test_what_was_looked_at_less_closely_is_scored_again() -> None:
    scorer, context = FixedScorer(), sharing()
    for ratio in (0.2, 0.6):
        config = RestructureConfig(keep_ratio=ratio, threshold=0.0)
        asyncio.run(RestructureStage(config, scorer).apply(listed(TEXTS), context))
    assert scorer.ratios == [0.2, 0.6]


def test_the_sdk_reports_where_each_document_went() -> None:
    documents = with_scores([float(n) for n in range(11)])
    result = through_pipeline(documents, {"use": "reorder", "scores": "given"}, strict=True)
    assert [one.dropped for one in result.documents] == [None] * 11
    ranked = sorted(result.documents, key=lambda one: -(one.score or 0))
    assert [ranked.index(one) for one in sorted(result.documents, key=lambda d: d.place or 0)] == (
        edges_first(11)
    )
    assert all(one.text == TEXTS[n] for n, one in enumerate(result.documents))


def test_the_report_says_why_nothing_moved() -> None:
    result = through_pipeline(TEXTS[:3], {"use": "reorder", "scorer": "bm25"})
    (report,) = result.reports
    assert report.skipped is Skip.TOO_FEW_DOCUMENTS
    assert "min_documents is 10" in (report.reason or "")
