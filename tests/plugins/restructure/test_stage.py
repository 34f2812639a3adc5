"""The stage `restructure`: what stays, in which order, under which headings, and what is said."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ctxpress.arrangement import passages_of
from ctxpress.document import ContextDocument
from ctxpress.errors import StageError
from ctxpress.laws import check_laws
from ctxpress.plugins.restructure import RestructureConfig, RestructureStage
from ctxpress.relevance.bm25 import BM25Scorer
from ctxpress.relevance.scorer import relevance_of
from ctxpress.relevance.sentences import split_sentences
from ctxpress.stage import Skip, StageSkip
from ctxpress.testing import WordCounter, check_stage
from tests.plugins.documents import (
    FixedScorer,
    extended,
    listed,
    run,
    tagged,
    texts_of,
)

COAST = "Coral reefs need warm water. They are found near the coasts of many lands."
TOWER = "Paris has a tower. It is 330 metres tall. It was painted red at first. Many see it."
FAIR = "Bread is baked here. The Paris tower was built for a fair in 1889. Bees dance."
OTHER = "Some say that the Paris tower is 300 metres tall. Rain falls in May."
TEXTS = [COAST, TOWER, FAIR, OTHER]
SCORES = {"330": 0.9, "fair": 0.6, "300": 0.5}
NUMBERING = re.compile(r"^(\d+)\.(\d+)\. ## (.+)$", re.M)
count = WordCounter().count


def stage(scorer: Any = None, **options: Any) -> RestructureStage:
    config = RestructureConfig.model_validate(
        {"keep_ratio": 1.0, "threshold": 0.1, "drop_below": 0.0, **options}
    )
    return RestructureStage(config, FixedScorer(SCORES) if scorer is None else scorer)


def lawful(built: RestructureStage, document: ContextDocument, **context: Any) -> ContextDocument:
    after = run(built, document, **context)
    traits = built.traits
    check_laws(document, after, extractive=traits.extractive, arranges=traits.arranges)
    return after


def tokens_of(document: ContextDocument) -> int:
    return sum(count(passage.text) for passage in passages_of(document))


def skip_of(built: RestructureStage, document: ContextDocument, **context: Any) -> StageSkip:
    with pytest.raises(StageSkip) as caught:
        run(built, document, **context)
    return caught.value


@pytest.mark.parametrize("shape", [listed, tagged])
def test_the_sentences_that_help_stay_and_the_documents_without_any_leave(shape: Any) -> None:
    after = lawful(stage(context=False), shape(TEXTS))
    assert texts_of(after) == [
        "It is 330 metres tall.",
        "The Paris tower was built for a fair in 1889.",
        "Some say that the Paris tower is 300 metres tall.",
    ]


def test_a_sentence_that_leans_on_another_brings_it_along() -> None:
    after = lawful(stage(), listed([TOWER]))
    assert texts_of(after) == ["Paris has a tower. It is 330 metres tall."]
    alone = lawful(stage(), listed([TOWER]), target_tokens=6)
    assert texts_of(alone) == ["It is 330 metres tall."]


def test_what_leans_counts_for_less_than_what_helps_more() -> None:
    scorer = FixedScorer({"330": 0.9, "fair": 0.6})
    budget = count("It is 330 metres tall.") + count(
        "The Paris tower was built for a fair in 1889."
    )
    after = lawful(stage(scorer), listed([TOWER, FAIR]), target_tokens=budget)
    assert "Paris has a tower" not in " ".join(texts_of(after))
    assert "fair" in " ".join(texts_of(after))


def test_documents_that_agree_stand_together_and_the_best_group_first() -> None:
    near = "Coral reefs of the Red Sea grow slowly and need warm water."
    more = "Warm water is what coral reefs of the Red Sea need to grow."
    tower = "The Eiffel tower in Paris has 1665 steps to the top."
    scorer = FixedScorer({"slowly": 0.9, "steps": 0.8, "what": 0.5})
    document = listed([tower, more, near])
    assert texts_of(lawful(stage(scorer), document)) == [near, more, tower]
    assert texts_of(lawful(stage(scorer, order="request"), document)) == [tower, more, near]


def test_sections_are_numbered_and_a_contradiction_opens_the_next() -> None:
    documents = [
        {"text": "The tower in Paris is 330 metres tall.", "title": "Tower"},
        {"text": "The tower in Paris is 300 metres tall, some say.", "title": "  Old\nbook "},
        {"text": "Bees dance to show where flowers are. " * 20},
        {"text": "The Paris tower has its 330 metres from a new aerial in Paris."},
    ]
    scores = {"330 metres tall": 0.9, "aerial": 0.8, "300": 0.7}
    built = stage(FixedScorer(scores), format="sections", context=False)
    after = lawful(built, listed(documents))
    assert texts_of(after) == [
        "1.1. ## Tower\nThe tower in Paris is 330 metres tall.",
        "1.2. ## Document 4\nThe Paris tower has its 330 metres from a new aerial in Paris.",
        "2.1. ## Old book\nThe tower in Paris is 300 metres tall, some say.",
    ]


words = st.sampled_from(
    "The mill tower river Paris Oslo 1871 1902 330 was is not It They rebuilt tall red. burned. "
    "opened! said? 水は。 \n \n\n `x=1` http://a.b/c <keep>this</keep>".split(" ")
)
texts = st.lists(words, min_size=1, max_size=40).map(" ".join)
shapes = st.sampled_from([listed, tagged])


class BySeed:
    """Chances that depend on the sentence alone, whatever it is."""

    identity = "by-seed/1"
    languages = None

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def score(self, question: str, texts: Any, *, keep_ratio: Any = None, checkpoint: Any = None):
        found = []
        for one in texts:
            ranges = split_sentences(one.text)
            values = [self._chance(one.text[a:b].strip()) for a, b in ranges]
            found.append(relevance_of(ranges, np.array(values, np.float32), calibrated=True))
        return found

    def _chance(self, sentence: str) -> float:
        return (sum(map(ord, sentence)) * (self.seed + 7) % 101) / 101


@settings(max_examples=60, deadline=None)
@given(
    st.lists(texts, min_size=1, max_size=6),
    shapes,
    st.sampled_from([0.05, 0.2, 0.5, 0.9, 1.0]),
    st.sampled_from(["documents", "sections"]),
    st.integers(0, 5),
    st.none() | st.integers(1, 80),
)
@example([TOWER, FAIR], tagged, 1.0, "sections", 0, 30)
def test_whatever_the_documents_the_budget_and_the_laws_hold(
    given_texts: list[str], shape: Any, ratio: float, form: str, seed: int, target: int | None
) -> None:
    document = shape(given_texts)
    built = stage(BySeed(seed), keep_ratio=ratio, format=form, on_empty="drop")
    passages = passages_of(document)
    if not passages:
        assert skip_of(built, document).code is Skip.NOTHING_TO_COMPRESS
        return
    after = lawful(built, document, target_tokens=target)
    pinned = sum(count(p.text[a:b]) for p in passages if p.pinned for a, b in p.fixed)
    free = tokens_of(document) - pinned
    assert tokens_of(after) <= ratio * free + pinned + 1e-6
    protected = sum(count(s.text) for b in document.blocks for s in b.spans if s.protected)
    if target is not None and target >= protected:
        assert sum(count(block.text) for block in after.blocks) <= target
    if form == "documents":
        for passage in passages_of(after):
            if passage.text not in given_texts:
                assert passage.text == passage.text.strip() or passage.fixed
    else:
        found = passages_of(after)
        contiguous([p.text for p in found if not p.pinned or NUMBERING.match(p.text)])


def contiguous(found: Sequence[str]) -> None:
    """Each text begins with a heading, and their numbers rise by one."""
    last = (0, 0)
    for text in found:
        heading = NUMBERING.match(text)
        assert heading is not None, text
        number = (int(heading[1]), int(heading[2]))
        assert number in ((last[0], last[1] + 1), (last[0] + 1, 1))
        last = number


@settings(max_examples=40, deadline=None)
@given(
    st.lists(texts, min_size=1, max_size=5),
    st.sampled_from([0.2, 0.5, 0.8]),
    st.integers(0, 5),
)
def test_a_second_run_with_the_same_budget_drops_nothing(
    given_texts: list[str], ratio: float, seed: int
) -> None:
    built = stage(BySeed(seed), keep_ratio=ratio, on_empty="drop", context=False, order="request")
    try:
        once = lawful(built, listed(given_texts))
    except StageSkip:
        return
    left = texts_of(once)
    sentences = [s for one in given_texts for s in sentences_of(one)]
    if not left or any(s not in sentences for one in left for s in sentences_of(one)):
        return  # sentences that came to stand together are read as one: a text of its own
    budget = sum(map(count, left))
    again = stage(BySeed(seed), on_empty="drop", context=False, order="request")
    twice = lawful(again, listed(left), target_tokens=budget)
    assert texts_of(twice) == left


def sentences_of(text: str) -> list[str]:
    return [text[start:end].strip() for start, end in split_sentences(text)]


@pytest.mark.parametrize("form", ["documents", "sections"])
@pytest.mark.parametrize("backend", [FixedScorer({"330": 0.9, "repairs": 0.5}), BM25Scorer()])
def test_the_stage_obeys_the_laws(form: str, backend: Any) -> None:
    rows = [{"title": f"T{n}", "text": text} for n, text in enumerate(TEXTS)]
    check_stage(
        stage(backend, format=form, keep_ratio=0.4),
        documents=[listed(rows), tagged(TEXTS), extended(rows), listed([TOWER] * 3)],
    )


def test_sections_cost_their_headings_so_that_nothing_grows() -> None:
    document = listed([{"title": "A long title of many words " * 3, "text": t} for t in TEXTS])
    scorer = FixedScorer(other=0.5)
    after = lawful(stage(scorer, format="sections"), document)
    assert tokens_of(after) <= tokens_of(document)
    assert len(texts_of(after)) < len(TEXTS)


def test_headings_of_documents_in_two_rows_rise_in_the_order_of_reading() -> None:
    same = "The tower in Paris is 330 metres tall."
    one, two = tagged([same, FAIR, COAST * 9]), tagged([OTHER, same])
    blocks = tuple(
        dataclasses.replace(block, pointer=f"/{n}", message=n)
        for n, document in enumerate((one, two))
        for block in document.blocks
    )
    scorer = FixedScorer({"330": 0.5, "fair": 0.9, "300": 0.8})
    document = dataclasses.replace(one, blocks=blocks)
    after = lawful(stage(scorer, format="sections", context=False), document)
    contiguous([passage.text for passage in passages_of(after)])
    assert len(passages_of(after)) == 4


class Characters:
    """Every character is a token, so that blanks between sentences cost something, too."""

    identity = "characters:1"
    estimated = True

    def count(self, text: str) -> int:
        return len(text)


def test_the_budget_is_counted_as_the_text_will_stand_there() -> None:
    sentence = "Ten chars.\n\n\n"
    document = listed([sentence * 20])
    built = stage(FixedScorer(other=0.5), keep_ratio=0.5)
    kept = passages_of(run(built, document, counter=Characters()))[0].text
    assert 0.4 * 20 * len(sentence) < len(kept) <= 0.5 * 20 * len(sentence)


def test_blanks_at_the_ends_go_unless_all_of_a_document_stays() -> None:
    document = listed([f"  and so on. \n{TOWER}\n", " It is 330 metres. \n"])
    assert [p.text for p in passages_of(lawful(stage(context=False), document))] == [
        "It is 330 metres tall.",
        " It is 330 metres. \n",
    ]
    cut = listed([" It is 330 metres tall. Rain falls."])
    assert passages_of(lawful(stage(), cut))[0].text == "It is 330 metres tall."


def test_protected_text_of_a_sentence_that_goes_does_not_run_into_the_next() -> None:
    text = "Rain falls, see http://a.example/b and more. It is 330 metres tall. Many see it."
    (kept,) = texts_of(lawful(stage(context=False), listed([text])))
    assert kept == "http://a.example/b It is 330 metres tall."


def test_a_document_of_code_alone_is_judged_as_any_other() -> None:
    code = "```python\ntower = 330\n```\n"
    documents = [code, "```python\nbees = 1\n```\n", COAST]
    assert texts_of(lawful(stage(), listed(documents))) == [code.strip()]


def test_pinned_text_stays_whatever_else_and_is_not_part_of_the_ratio() -> None:
    pinned = "Rain fell. <keep>The 7 keys are under the mat by the green door of the mill.</keep>"
    document = tagged([pinned, TOWER, COAST])
    for ratio in (0.1, 0.4):
        after = lawful(stage(keep_ratio=ratio, on_empty="drop"), document)
        found = " ".join(texts_of(after))
        assert "The 7 keys are under the mat" in found
        assert ("330" in found) is (ratio > 0.1)


def test_of_a_text_that_is_made_of_documents_alone_one_sentence_stays() -> None:
    document = tagged([COAST, TOWER])
    block = document.blocks[-1]
    spans = tuple(span for span in block.spans if span.source is not None)
    alone = document.with_blocks((block.with_spans(spans),))
    scorer = FixedScorer({"Many see": 0.05}, other=0.01)
    assert texts_of(lawful(stage(scorer, on_empty="drop"), alone)) == ["Many see it."]


@pytest.mark.parametrize("question", [None, "", " \n"])
def test_without_a_question_nothing_is_done(question: str | None) -> None:
    assert skip_of(stage(), listed(TEXTS, question)).code is Skip.NO_QUESTION


@pytest.mark.parametrize("documents", [[], [""], [" ", "\n"]])
def test_without_documents_nothing_is_done(documents: list[str]) -> None:
    assert skip_of(stage(), listed(documents)).code is Skip.NOTHING_TO_COMPRESS


def test_where_nothing_is_of_use_the_documents_stay_or_leave() -> None:
    nothing = FixedScorer(other=0.01)
    assert skip_of(stage(nothing), listed(TEXTS)).code is Skip.NOTHING_RELEVANT
    assert texts_of(lawful(stage(nothing, on_empty="drop"), listed(TEXTS))) == []
    after = lawful(stage(nothing, on_empty="drop"), tagged(TEXTS))
    assert texts_of(after) == []
    assert after.blocks[-1].text.startswith("Answer from these.")


def test_documents_that_nothing_is_of_use_in_still_fit_a_hard_budget() -> None:
    scorer = FixedScorer({"Bees": 0.02}, other=0.01)
    after = lawful(stage(scorer), listed(TEXTS), target_tokens=20)
    assert "Bees dance." in " ".join(texts_of(after))
    assert sum(count(block.text) for block in after.blocks) <= 20


def test_where_no_sentence_fits_the_documents_stay_unless_a_hard_budget_forbids_it() -> None:
    built = stage(keep_ratio=0.05)
    skip = skip_of(built, listed([TOWER]))
    assert skip.code is Skip.OVER_BUDGET
    assert "raise keep_ratio" in skip.reason
    assert texts_of(lawful(stage(keep_ratio=0.05, on_empty="drop"), listed([TOWER]))) == []
    assert texts_of(lawful(built, listed([TOWER]), target_tokens=3)) == []


def test_a_longer_sentence_is_passed_over_for_shorter_ones() -> None:
    long = "The 330 metres of it " + "and so on " * 200 + "end here."
    after = lawful(stage(), listed([long, FAIR]), target_tokens=30)
    assert texts_of(after) == ["The Paris tower was built for a fair in 1889."]


def test_a_requests_ratio_goes_before_the_configuration() -> None:
    document = listed(TEXTS)
    scorer = FixedScorer(other=0.5)
    assert texts_of(lawful(stage(scorer, keep_ratio=0.1), document, keep_ratio=1.0)) == TEXTS
    half = lawful(stage(scorer), document, keep_ratio=0.5)
    assert 0.3 * tokens_of(document) < tokens_of(half) <= 0.5 * tokens_of(document)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_an_error_that_names_the_scorer(broken: float) -> None:
    with pytest.raises(StageError, match="fixed/1: document 2 has no finite score"):
        run(stage(FixedScorer({"tower": broken})), listed(TEXTS))


def test_a_threshold_without_chances_is_said_to_have_no_effect() -> None:
    notes: list[str] = []
    run(stage(BM25Scorer()), listed(TEXTS), notes=notes)
    assert len(notes) == 1
    assert notes[0].startswith("threshold has no effect")
    notes.clear()
    run(RestructureStage(RestructureConfig(), BM25Scorer()), listed(TEXTS), notes=notes)
    assert notes == []


def test_documents_leave_only_where_no_sentence_is_likely_to_help() -> None:
    hopeless = FixedScorer({"330": 0.29}, other=0.05)
    assert texts_of(lawful(stage(hopeless, on_empty="drop", drop_below=0.3), listed(TEXTS))) == []
    likely = FixedScorer({"330": 0.31}, other=0.05)
    left = texts_of(lawful(stage(likely, on_empty="drop", drop_below=0.3), listed(TEXTS)))
    assert any("330" in text for text in left)
    kept = texts_of(lawful(stage(hopeless, on_empty="keep", drop_below=0.3), listed(TEXTS)))
    assert any("330" in text for text in kept)


def test_two_thousand_documents_are_read_once_and_grouped_in_bounded_work() -> None:
    documents = [f"Item {n} of the tower is of kind {n % 7}. It has a number." for n in range(2000)]
    scorer = FixedScorer(other=0.5)
    after = lawful(stage(scorer, format="sections"), listed(documents), keep_ratio=0.8)
    assert len(scorer.asked) == 1
    assert 500 < len(passages_of(after)) < 2000
    contiguous([passage.text for passage in passages_of(after)])
