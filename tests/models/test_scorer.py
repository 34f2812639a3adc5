from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.models import OnnxTokenScorer, TokenScores, load_bundled_scorer

MEETING = (
    "Project Manager: Okay, so, um, welcome everybody to the, uh, kick-off meeting. We have, you "
    "know, about twenty-five minutes. The remote control should cost at most 12.50 Euro to produce "
    "and we will sell it for 25 Euro. Marketing: Yeah, I think that is, like, quite reasonable."
)
LONG = " ".join(
    f"On day {number} the committee reviewed item {number * 7} and it was decided that the budget "
    f"of the harbour extension would be raised by {number} percent."
    for number in range(60)
)

any_text = st.text(
    st.characters(exclude_categories=()) | st.sampled_from("\ud800\udfff\u200b\u202e\0\n 😀é"),
    max_size=300,
)


def same(one: TokenScores, other: TokenScores) -> bool:
    return (
        np.array_equal(one.starts, other.starts)
        and np.array_equal(one.ends, other.ends)
        and one.keep_scores.tobytes() == other.keep_scores.tobytes()
    )


def word_score(scores: TokenScores, text: str, word: str) -> float:
    start = text.index(word)
    inside = (scores.starts >= start) & (scores.ends <= start + len(word))
    return float(scores.keep_scores[inside].mean())


def check_valid(scores: TokenScores, text: str) -> None:
    n_tokens = len(scores.starts)
    assert len(scores.ends) == len(scores.keep_scores) == n_tokens
    assert scores.starts.dtype == scores.ends.dtype == np.int32
    assert scores.keep_scores.dtype == np.float32
    if n_tokens:
        assert scores.starts[0] >= 0
        assert scores.ends[-1] <= len(text)
        assert (scores.starts <= scores.ends).all()
        assert (np.diff(scores.starts) >= 0).all()
        assert (np.diff(scores.ends) >= 0).all()
        assert ((scores.keep_scores >= 0) & (scores.keep_scores <= 1)).all()


@settings(max_examples=150, deadline=None)
@given(text=any_text)
def test_any_string_gets_valid_ordered_offsets(scorer: OnnxTokenScorer, text: str) -> None:
    (scores,) = scorer.score([text])
    check_valid(scores, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t ",
        "\0",
        "\ud800",
        "a\udfffb",
        "😀😀",
        "\u200b\u200d",
        "שלום עולם",
        "[SEP] [CLS]",
        "ﷺ" * 50,
    ],
)
def test_odd_strings(scorer: OnnxTokenScorer, text: str) -> None:
    (scores,) = scorer.score([text])
    check_valid(scores, text)


def test_names_of_special_tokens_are_text(scorer: OnnxTokenScorer) -> None:
    (scores,) = scorer.score(["[SEP]"])
    assert len(scores.starts) == 3


def test_surrogates_keep_offsets(scorer: OnnxTokenScorer) -> None:
    text = "\ud800 budget \udfff deadline"
    (scores,) = scorer.score([text])
    words = {text[a:b] for a, b in zip(scores.starts, scores.ends, strict=True)}
    assert {"budget", "deadline"} <= words


def test_offsets_count_characters_not_bytes(scorer: OnnxTokenScorer) -> None:
    text = "😀👩‍🚀 Zoë’s naïve budget"
    (scores,) = scorer.score([text])
    words = {text[a:b] for a, b in zip(scores.starts, scores.ends, strict=True)}
    assert {"naïve", "budget"} <= words


def test_one_huge_word_takes_time_in_proportion(scorer: OnnxTokenScorer) -> None:
    def cpu_s(n_characters: int) -> float:
        began_s = time.process_time()
        (scores,) = scorer.score(["x" * n_characters])
        check_valid(scores, "x" * n_characters)
        return time.process_time() - began_s

    assert cpu_s(1_000_000) < 40 * max(cpu_s(100_000), 0.02)


def test_a_text_scores_the_same_whatever_it_is_scored_with(scorer: OnnxTokenScorer) -> None:
    alone = scorer.score([MEETING])[0]
    among = scorer.score([LONG, MEETING, "", "short", MEETING[:100]])
    assert same(alone, among[1])
    assert same(scorer.score(["short"])[0], among[3])


def test_threads_do_not_change_scores(scorer: OnnxTokenScorer) -> None:
    single = load_bundled_scorer(threads=1)
    for one, two in zip(single.score([LONG, MEETING]), scorer.score([LONG, MEETING]), strict=True):
        assert same(one, two)


def test_concurrent_callers_get_the_same_scores(scorer: OnnxTokenScorer) -> None:
    expected = scorer.score([MEETING])[0]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: scorer.score([MEETING])[0], range(24)))
    assert all(same(result, expected) for result in results)


def test_every_token_of_a_long_text_is_scored(scorer: OnnxTokenScorer) -> None:
    (scores,) = scorer.score([LONG])
    assert len(scores.starts) > 1500
    covered = sum(len(LONG[a:b]) for a, b in zip(scores.starts, scores.ends, strict=True))
    assert covered == len(LONG) - LONG.count(" ")
    assert (scores.keep_scores > 0).all()


def test_content_outranks_filler(scorer: OnnxTokenScorer) -> None:
    (scores,) = scorer.score([MEETING])
    content = [word_score(scores, MEETING, word) for word in ("remote", "12.50 Euro", "25 Euro")]
    filler = [
        word_score(scores, MEETING, word) for word in ("um", "uh", "you know", "Okay", "Yeah")
    ]
    assert min(content) > 3 * max(filler)


def test_negation_outranks_articles(scorer: OnnxTokenScorer) -> None:
    text = "The server does not support the old protocol when the flag is set in the configuration."
    (scores,) = scorer.score([text])
    assert word_score(scores, text, "not") > word_score(scores, text, "The")
    assert word_score(scores, text, "protocol") > word_score(scores, text, "is")


def test_checkpoint_is_called_before_each_window_and_may_stop(scorer: OnnxTokenScorer) -> None:
    calls: list[int] = []
    scorer.score([LONG], checkpoint=lambda: calls.append(1))
    assert len(calls) > 4

    def stop() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        scorer.score([LONG], checkpoint=stop)


def test_identity_names_the_model(scorer: OnnxTokenScorer) -> None:
    assert scorer.identity.startswith("ctxpress-minilm-l6-keep/")
    assert scorer.languages == {"en"}


def test_a_question_finds_its_answer(scorer: OnnxTokenScorer) -> None:
    text = "Ada Lind built the mill in 1871. It burned down in 1902 and was never rebuilt."
    for question, answer in (
        ("who built the mill", "Ada Lind"),
        ("when did the mill burn down", "1902"),
        ("when was the mill built", "1871"),
    ):
        (scores,) = scorer.score([text], question=question)
        assert scores.use_scores is not None
        best = int(np.argmax(scores.use_scores))
        assert text[scores.starts[best] : scores.ends[best]] in answer


def test_without_a_question_there_are_no_scores_of_use(scorer: OnnxTokenScorer) -> None:
    (scores,) = scorer.score([MEETING])
    assert scores.use_scores is None


@pytest.mark.parametrize("question", ["", "   ", "?" * 5_000, "\ud800", "who " * 500])
def test_any_string_may_be_the_question(scorer: OnnxTokenScorer, question: str) -> None:
    (scores,) = scorer.score([LONG], question=question)
    check_valid(scores, LONG)
    assert scores.use_scores is not None
    assert np.isfinite(scores.use_scores).all()
    assert len(scores.use_scores) == len(scores.keep_scores)
