"""A user's function as a scorer: what it is asked, and what happens where it errs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.errors import DeadlineError, StageError
from ctxpress.relevance import CallableScorer, RelevanceScorer
from ctxpress.relevance.scorer import Titled
from tests.relevance.huggingface.texts import keeps_the_contract, strings, titled


def lengths(question: str, texts: Sequence[str]) -> list[float]:
    return [float(len(text)) for text in texts]


def test_it_is_a_scorer() -> None:
    scorer = CallableScorer(lengths, "lengths/1", languages=["en"])
    assert isinstance(scorer, RelevanceScorer)
    assert scorer.languages == {"en"}
    assert CallableScorer(lengths, "lengths/1").languages is None
    identities = {
        scorer.identity,
        CallableScorer(lengths, "lengths/2").identity,
        CallableScorer(lengths, "lengths/1", sentences=False).identity,
    }
    assert len(identities) == 3


def test_it_is_asked_once_for_each_string_with_its_title() -> None:
    asked: list[tuple[str, list[str]]] = []

    def score(question: str, texts: Sequence[str]) -> list[float]:
        asked.append((question, list(texts)))
        return lengths(question, texts)

    texts = [Titled("One. Two is it.", "T"), Titled("One."), Titled("One.")]
    found = CallableScorer(score, "x").score("Q?", texts)
    assert asked == [("Q?", ["T\nOne. Two is it.", "One.", "T\nOne.", "T\nTwo is it."])]
    assert [one.score for one in found] == [17, 4, 4]
    assert found[0].sentence_scores.tolist() == [(17 + 6) / 2, (17 + 12) / 2]
    assert found[1].sentence_scores.tolist() == [4]
    assert CallableScorer(score, "x").score("Q?", []) == []
    assert len(asked) == 1


def test_without_sentences_only_texts_are_asked_for() -> None:
    asked: list[str] = []

    def score(question: str, texts: Sequence[str]) -> Any:
        asked.extend(texts)
        return np.arange(len(texts), dtype=np.float32)

    found = CallableScorer(score, "x", sentences=False).score(
        "Q?", [Titled("One. Two."), Titled("C")]
    )
    assert asked == ["One. Two.", "C"]
    assert [one.sentence_scores.tolist() for one in found] == [[0, 0], [1]]


@settings(deadline=None)
@given(strings, st.lists(titled, max_size=5))
def test_any_strings_can_be_scored(question: str, texts: list[Titled]) -> None:
    assert keeps_the_contract(texts, CallableScorer(lengths, "x").score(question, texts))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([1.0], r"shape \(1,\) for 2 texts"),
        ([[1.0], [2.0]], r"shape \(2, 1\) for 2 texts"),
        ([1.0, float("nan")], "text 2 has no finite score"),
        ([float("-inf"), 1.0], "text 1 has no finite score"),
        ([1e300, 1.0], "text 1 has no finite score"),
        (["a", "b"], "ValueError"),
        (None, "TypeError|shape"),
    ],
)
def test_an_answer_that_is_not_one_number_a_text_is_an_error(answer: Any, message: str) -> None:
    scorer = CallableScorer(lambda question, texts: answer, "mine/1", sentences=False)
    with pytest.raises(StageError, match=f"mine/1.*({message})"):
        scorer.score("Q?", [Titled("a"), Titled("b")])


def test_a_function_that_fails_is_a_stage_error_and_our_own_errors_stay() -> None:
    def fail(question: str, texts: Sequence[str]) -> list[float]:
        raise KeyError("api key")

    with pytest.raises(StageError, match="mine/1: KeyError: 'api key'"):
        CallableScorer(fail, "mine/1").score("Q?", [Titled("a")])

    def late(question: str, texts: Sequence[str]) -> list[float]:
        raise DeadlineError("over")

    with pytest.raises(DeadlineError):
        CallableScorer(late, "mine/1").score("Q?", [Titled("a")])


def test_it_can_be_stopped_before_the_function_is_called() -> None:
    def stop() -> None:
        raise DeadlineError("over")

    def never(question: str, texts: Sequence[str]) -> list[float]:
        raise AssertionError("was called")

    with pytest.raises(DeadlineError):
        CallableScorer(never, "x").score("Q?", [Titled("a")], checkpoint=stop)


def test_what_cannot_work_is_refused_when_it_is_built() -> None:
    async def later(question: str, texts: Sequence[str]) -> list[float]:
        return []

    with pytest.raises(TypeError, match="coroutine"):
        CallableScorer(later, "x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="blank"):
        CallableScorer(lengths, " ")
