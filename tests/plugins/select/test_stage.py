"""The stage `select`: what stays, what goes, in which order, within which budget."""

from __future__ import annotations

import dataclasses
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.arrangement import passages_of
from ctxpress.errors import ConfigError, DeadlineError, StageError
from ctxpress.laws import check_laws
from ctxpress.manager import create_plugin_manager
from ctxpress.plugins.select import SelectConfig, SelectStage
from ctxpress.relevance.bm25 import BM25Scorer
from ctxpress.stage import Skip, StageSkip
from ctxpress.testing import WordCounter, check_stage
from tests.plugins.documents import (
    QUESTION,
    FixedScorer,
    listed,
    numbered,
    run,
    tagged,
    texts_of,
    through_pipeline,
)

TOWER = "The tower is 330 metres tall, the highest in town."
FAIR = "It was built for a fair in 1889, and should have gone after it."
COAST = "Coral reefs need warm water and are found near the coasts."
BEES = "Bees dance to show the others where the best flowers are."
CURIE = "Marie Curie was born in Warsaw and studied in Paris later."
TEXTS = [COAST, TOWER, BEES, FAIR, CURIE]
SCORES = {"330": 0.95, "fair": 0.6}
count = WordCounter().count


def stage(scorer: FixedScorer | None = None, **options: object) -> SelectStage:
    if "budget_tokens" not in options:
        options = {"keep_ratio": 1.0, **options}
    return SelectStage(SelectConfig.model_validate(options), scorer or FixedScorer(SCORES))


@pytest.mark.parametrize("shape", [listed, tagged, numbered])
def test_what_is_of_use_stays_and_fewer_than_fit_may_win(shape) -> None:
    document = shape(TEXTS)
    after = run(stage(), document)
    check_laws(document, after, extractive=True, arranges=True)
    assert texts_of(after) == [TOWER, FAIR]


def test_the_question_in_a_text_stays_where_it_is() -> None:
    after = run(stage(), tagged(TEXTS))
    text = after.blocks[-1].text
    assert text.startswith("Answer from these.")
    assert text.endswith(QUESTION)
    assert text.count("<document") == text.count("</document>") == 2
    assert 'id="1"' in text
    assert 'id="3"' in text


def test_documents_keep_the_order_of_the_request_unless_the_searchs_is_asked_for() -> None:
    scores = {"330": 0.95, "fair": 0.9, "Curie": 0.7, "Coral": 0.6}
    texts = [COAST, TOWER, FAIR, CURIE]
    assert texts_of(run(stage(FixedScorer(scores)), listed(texts))) == texts
    found = texts_of(run(stage(FixedScorer(scores), order="search"), listed(texts)))
    assert sorted(found) == sorted(texts)
    assert {found[0], found[-1]} == {TOWER, FAIR}


@pytest.mark.parametrize("shape", [listed, tagged, numbered])
@pytest.mark.parametrize("order", ["request", "search"])
@pytest.mark.parametrize("budget", [12, 20, 30, 45, 60])
def test_a_requests_hard_budget_holds(shape, order: str, budget: int) -> None:
    document = shape(TEXTS)
    around = sum(count(b.text) for b in document.blocks) - sum(
        count(p.markup + p.text) for p in passages_of(document)
    )
    scorer = FixedScorer({text[:12]: 0.5 + 0.1 * n for n, text in enumerate(TEXTS)})
    after = run(stage(scorer, order=order), document, target_tokens=budget + around)
    check_laws(document, after, extractive=True, arranges=True)
    most = max(count(p.markup + p.text) for p in passages_of(document))
    if budget >= most:
        assert sum(count(b.text) for b in after.blocks) <= budget + around
    else:
        assert len(texts_of(after)) == 1


def test_the_configurations_budget_counts_the_documents_with_their_markup() -> None:
    document = tagged([TOWER, TOWER.replace("330", "331"), TOWER.replace("330", "332")])
    scorer = FixedScorer({"330": 0.9, "331": 0.9, "332": 0.9})
    one = [count(p.markup + p.text) for p in passages_of(document)][0]
    for tokens, expected in [(one, 1), (2 * one - 1, 1), (2 * one, 2), (3 * one, 3)]:
        after = run(stage(scorer, budget_tokens=tokens), document)
        assert len(texts_of(after)) == expected


def test_a_requests_ratio_goes_before_the_configuration() -> None:
    scorer = FixedScorer({text[:12]: 0.9 for text in TEXTS})
    document = listed(TEXTS)
    total = sum(map(count, TEXTS))
    assert texts_of(run(stage(scorer, keep_ratio=0.1), document, keep_ratio=1.0)) == TEXTS
    half = run(stage(scorer, budget_tokens=1), document, keep_ratio=0.5)
    assert 0.3 * total < sum(map(count, texts_of(half))) <= 0.5 * total


def test_the_scorer_is_told_how_much_is_to_stay() -> None:
    scorer = FixedScorer(SCORES)
    total = sum(map(count, TEXTS))
    for tokens, expected in [(total // 2, 0.5), (10 * total, 1.0), (1, 1 / total)]:
        run(stage(scorer, budget_tokens=tokens), listed(TEXTS))
        assert scorer.ratios[-1] == pytest.approx(expected, abs=0.02)


def test_documents_with_something_pinned_stay_and_take_their_part_first() -> None:
    pinned = "This is here to stay: <keep>always</keep> and ever, whatever else."
    document = tagged([TOWER, pinned, FAIR])
    costs = [count(p.markup + p.text) for p in passages_of(document)]
    after = run(stage(budget_tokens=costs[0] + costs[1]), document)
    check_laws(document, after, extractive=True, arranges=True)
    assert texts_of(after) == [TOWER, pinned]
    only = run(stage(budget_tokens=costs[1]), document)
    assert texts_of(only) == [pinned]
    assert texts_of(run(stage(budget_tokens=1, order="search"), document)) == [pinned]


def test_where_none_fits_the_best_one_stays() -> None:
    assert texts_of(run(stage(budget_tokens=3), listed(TEXTS))) == [TOWER]
    assert texts_of(run(stage(), listed(TEXTS), target_tokens=1)) == [TOWER]


def test_a_document_longer_than_the_budget_is_passed_over() -> None:
    long = "The tower has 330 steps. " * 40
    assert texts_of(run(stage(budget_tokens=60), listed([long, TOWER, COAST]))) == [TOWER]


def test_of_repeated_documents_one_stays() -> None:
    texts = [TOWER, COAST, TOWER, TOWER.replace("the highest in town", "highest in the town")]
    assert len(texts_of(run(stage(), listed(texts)))) == 1


def test_documents_with_equal_ids_are_told_apart() -> None:
    documents = [{"id": "same", "text": text} for text in TEXTS]
    assert texts_of(run(stage(), listed(documents))) == [TOWER, FAIR]


def test_two_thousand_documents_are_chosen_from_in_bounded_steps() -> None:
    texts = [f"Item {n * 1000} is about things of the kind {n % 7}." for n in range(2_000)]
    texts[1_500], texts[10] = TOWER, FAIR
    scorer = FixedScorer({"metres": 0.95, "fair": 0.6})
    after = run(stage(scorer, max_candidates=32), listed(texts))
    assert texts_of(after) == [FAIR, TOWER]
    assert len(scorer.asked) == 1


def test_only_the_best_candidates_are_combined() -> None:
    scorer = FixedScorer({text[:12]: 0.5 + 0.1 * n for n, text in enumerate(TEXTS)})
    after = run(stage(scorer, max_candidates=2), listed(TEXTS))
    assert texts_of(after) == [FAIR, CURIE]


def test_a_joined_reward_reads_combinations_and_finds_the_best() -> None:
    class Reader(FixedScorer):
        """Likes the two that belong together, and nothing else beside them."""

        def _one(self, sentence: str) -> float:
            return 0.3

        def score(self, question, texts, **options):
            found = super().score(question, texts, **options)
            return [
                dataclasses.replace(
                    one,
                    score=0.9 * (TOWER in t.text) * (FAIR in t.text)
                    + 0.1 * (TOWER in t.text)
                    - 0.05 * len(t.text) / 200,
                )
                for one, t in zip(found, texts, strict=True)
            ]

    after = run(stage(Reader(), reward="joined"), listed(TEXTS))
    assert texts_of(after) == [TOWER, FAIR]


def test_a_joined_reward_refuses_scores_that_do_not_compare() -> None:
    with pytest.raises(StageError, match="not calibrated"):
        run(stage(FixedScorer(calibrated=False), reward="joined"), listed(TEXTS))


@pytest.mark.parametrize("question", [None, "", " \t"])
def test_without_a_question_there_is_nothing_to_choose_by(question: str | None) -> None:
    with pytest.raises(StageSkip) as skip:
        run(stage(), listed(TEXTS, question))
    assert skip.value.code is Skip.NO_QUESTION


@pytest.mark.parametrize("texts", [[], [TOWER], [TOWER, "", " "]])
def test_one_document_leaves_no_choice(texts: list[str]) -> None:
    with pytest.raises(StageSkip) as skip:
        run(stage(), listed(texts))
    assert skip.value.code is Skip.TOO_FEW_DOCUMENTS


def test_where_all_are_pinned_there_is_no_choice() -> None:
    with pytest.raises(StageSkip) as skip:
        run(stage(), tagged([f"<keep>{TOWER}</keep>", f"<keep>{COAST}</keep>"]))
    assert skip.value.code is Skip.PROTECTED


def test_scores_that_are_no_numbers_are_a_stage_error() -> None:
    with pytest.raises(StageError, match="document 2 has no finite score"):
        run(stage(FixedScorer({"330": float("nan")})), listed(TEXTS))


def test_where_scores_tell_nothing_the_budget_is_filled_from_the_front() -> None:
    scorer = FixedScorer(other=0.0, calibrated=False)
    document = listed(TEXTS)
    costs = list(map(count, TEXTS))
    after = run(stage(scorer, budget_tokens=costs[0] + costs[1] + costs[2]), document)
    assert texts_of(after) == TEXTS[:3]


@pytest.mark.parametrize(("left_s", "calls"), [(200, 1), (400, 2), (1000, 5)])
def test_the_search_ends_at_half_of_the_time_that_scoring_left(left_s, calls, monkeypatch) -> None:
    class Clock:
        now_s = float(int(time.monotonic()) + 1)  # whole, so that sums are exact

        def monotonic(self) -> float:
            return self.now_s

    class Slow(FixedScorer):
        """Takes 100 seconds a call, by a clock of its own."""

        def score(self, question, texts, **options):
            found = super().score(question, texts, **options)
            clock.now_s += 100
            return found

    clock = Clock()
    monkeypatch.setattr("ctxpress.plugins.select.stage.time", clock)
    scorer = Slow(SCORES)
    document = listed([f"{text} {n}" for n in range(6) for text in TEXTS])
    options = {"reward": "joined", "iterations": 10_000, "budget_tokens": 100}
    after = run(stage(scorer, **options), document, deadline_s=clock.now_s + 100 + left_s)
    assert len(scorer.asked) == 1 + calls
    assert any("330" in text for text in texts_of(after))
    assert len(texts_of(after)) < 30
    check_laws(document, after, extractive=True, arranges=True)


def test_no_time_at_all_is_an_error_that_the_pipeline_skips_by() -> None:
    with pytest.raises(DeadlineError):
        run(stage(), listed(TEXTS), deadline_s=time.monotonic() - 1)
    over = threading.Event()

    class Ending(FixedScorer):
        def score(self, question, texts, **options):
            found = super().score(question, texts, **options)
            over.set()
            return found

    with pytest.raises(DeadlineError):
        run(stage(Ending(SCORES)), listed(TEXTS), over=over)


@pytest.mark.parametrize("order", ["request", "search"])
def test_it_obeys_every_law(order: str) -> None:
    config = SelectConfig(keep_ratio=0.6, order=order)
    check_stage(
        SelectStage(config, BM25Scorer()),
        documents=[
            tagged(TEXTS),
            numbered(TEXTS),
            listed(TEXTS),
            listed(TEXTS * 4),
            tagged([TOWER, "Code:\n```\nx = 1\n```", "<keep>Stays.</keep> Goes.", "猫" * 30]),
        ],
    )


documents = st.lists(
    st.text(max_size=30) | st.sampled_from([*TEXTS, "", " ", "<keep>a</keep>", "`x`", "猫。" * 9]),
    max_size=9,
)


@settings(max_examples=60, deadline=None)
@given(
    documents,
    st.sampled_from(["request", "search"]),
    st.none() | st.floats(0.01, 1),
    st.none() | st.integers(0, 200),
    st.sampled_from(["The tower?", "?", "猫"]),
)
def test_any_documents_are_all_accounted_for(texts, order, keep_ratio, target_tokens, question):
    document = listed(texts, question)
    made = SelectStage(SelectConfig(order=order), BM25Scorer())
    given = {"keep_ratio": keep_ratio, "target_tokens": target_tokens}
    try:
        after = run(made, document, **given)
    except StageSkip:
        return
    check_laws(document, after, extractive=True, arranges=True)
    before, kept = passages_of(document), passages_of(after)
    assert kept
    assert {p.source for p in before if p.pinned} <= {p.source for p in kept}
    assert {(p.row, p.text) for p in kept} <= {(p.row, p.text) for p in before}
    assert run(made, document, **given) == after


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep_ratio": 0.5, "budget_tokens": 5}, "not both"),
        ({"budget_tokens": 0}, "option 'budget_tokens'"),
        ({"iterations": 0}, "option 'iterations'"),
        ({"exploration": -1}, "option 'exploration'"),
        ({"cost_weight": "x"}, "option 'cost_weight'"),
        ({"max_candidates": 0}, "option 'max_candidates'"),
        ({"order": "score"}, "option 'order'"),
        ({"budget": 3}, "did you mean 'budget_tokens'"),
    ],
)
def test_wrong_options_are_named(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        create_plugin_manager().build_stage("select", {"scorer": "bm25", **options})


def test_the_traits_say_what_it_is() -> None:
    traits = stage(keep_ratio=0.3).traits
    assert traits.query_aware
    assert not traits.query_optional
    assert traits.arranges
    assert traits.extractive
    assert traits.keep_ratio == 0.3
    assert not traits.may_grow
    assert stage().identity == "select/1+fixed/1"


def test_the_sdk_says_what_left_and_why() -> None:
    result = through_pipeline(TEXTS, {"use": "select", "scorer": "bm25"}, strict=True)
    dropped = [one.dropped for one in result.documents]
    assert dropped[1] is None
    assert all(
        reason == "select: not in the best combination for the question"
        for reason in dropped
        if reason is not None
    )
    assert sum(reason is not None for reason in dropped) >= 2
    assert result.tokens_after < result.tokens_before


def test_a_budget_of_the_sdk_reaches_it_and_one_that_cannot_be_met_is_reported() -> None:
    use = {"use": "select", "scorer": "bm25"}
    question = "How tall is the tower and when was the fair?"
    result = through_pipeline(TEXTS, use, question=question, target_tokens=25, strict=True)
    assert 10 < result.tokens_after <= 25
    result = through_pipeline(TEXTS, use, question=question, target_tokens=5, strict=True)
    assert sum(one.dropped is None for one in result.documents) == 1
    assert result.reports[0].skipped is Skip.OVER_BUDGET
