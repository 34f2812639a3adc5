"""The cascade: BM25 chooses what the encoder reads; how much is read, and what that says."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.errors import DeadlineError, ModelError
from ctxpress.manager import create_plugin_manager
from ctxpress.models import load_bundled_scorer
from ctxpress.models.bundle import read_manifest
from ctxpress.plugins import scorers
from ctxpress.plugins.restructure import RestructureConfig
from ctxpress.relevance.cascade import CascadeScorer, RelevanceMix
from ctxpress.relevance.chunks import CHUNK_CHARACTERS
from ctxpress.relevance.joint import JointEvidence
from ctxpress.relevance.scorer import RelevanceScorer, Titled
from tests.relevance.readers import TableReader

MIX = RelevanceMix(quote=0.25, answer=0.25, bm25=0.5, bias=-0.5, unread=-6.0)
QUESTION = "How tall is the tower?"
SURE = {"metres": 12.0}
LONGEST = 60
"""No sentence of `documents` has more characters."""


def scorer(reader: TableReader, **options: Any) -> CascadeScorer:
    return CascadeScorer(JointEvidence(reader), MIX, **options)


def documents(count: int, *, answer: int | None = None) -> list[Titled]:
    """Titled texts, the later the less about the question; one may hold the answer."""
    texts = []
    for n in range(count):
        words = "tower " * max(1, (count - n) * 3 // count) + "and other things. "
        words += "It has 330 metres. " if n == answer else "Bees dance. "
        texts.append(Titled(words, f"Title {n}"))
    return texts


def characters(texts: list[Titled]) -> int:
    return sum(len(text.text) for text in texts)


def characters_read(reader: TableReader) -> int:
    """All that was read below titles; the blanks between sentences are theirs."""
    return sum(len(text.partition("\n")[2].replace("\n", "")) for text in reader.read)


def unread(reader: TableReader, texts: list[Titled]) -> list[int]:
    """The texts with titles that the encoder has not seen."""
    titles = {text.partition("\n")[0] for text in reader.read}
    return [n for n, text in enumerate(texts) if text.title not in titles]


def test_it_is_a_scorer_with_chances() -> None:
    reader = TableReader(SURE)
    cascade = scorer(reader, read_at_least=6, read_at_most=64, sure=0.75)
    assert isinstance(cascade, RelevanceScorer)
    assert cascade.languages == frozenset({"en"})
    for part in ("cascade/", "table/1", "bm25/", "affinity/", "6-0.75-64-0.75", repr(MIX)):
        assert part in cascade.identity
    found = cascade.score(QUESTION, documents(4, answer=2))
    assert all(one.calibrated and 0 <= one.score <= 1 for one in found)
    assert max(range(4), key=lambda n: found[n].score) == 2
    ranges, scores = found[2].sentences, found[2].sentence_scores
    best = ranges[int(scores.argmax())]
    assert documents(4, answer=2)[2].text[best.start : best.end] == "It has 330 metres. "


def test_where_it_is_sure_it_reads_no_more() -> None:
    texts = documents(40, answer=0)
    reader = TableReader(SURE)
    scorer(reader, read_at_least=3).score(QUESTION, texts, keep_ratio=0.01)
    assert len(reader.read) == 3
    assert len(reader.calls) == 1


def test_where_it_is_not_sure_it_reads_on_as_far_as_it_may() -> None:
    texts = documents(40, answer=39)
    reader = TableReader(SURE)
    found = scorer(reader, read_at_least=3, read_at_most=10).score(QUESTION, texts, keep_ratio=0.01)
    assert len(reader.calls) == 2
    assert characters_read(reader) <= characters(texts[:10]) + LONGEST
    assert max(one.score for one in found) < 0.1
    reader = TableReader(SURE)
    found = scorer(reader, read_at_least=3, read_share=1.0).score(QUESTION, texts, keep_ratio=0.01)
    assert max(range(40), key=lambda n: found[n].score) == 39


@pytest.mark.parametrize("keep_ratio", [None, 0.01, 0.6, 1.0])
@pytest.mark.parametrize("read_share", [0.01, 0.5, 0.75, 1.0])
def test_a_share_of_the_text_is_read_and_what_is_to_be_kept(
    read_share: float, keep_ratio: float | None
) -> None:
    texts, reader = documents(40), TableReader()
    cascade = scorer(reader, read_at_least=4, read_share=read_share)
    cascade.score(QUESTION, texts, keep_ratio=keep_ratio)
    share = max(read_share, keep_ratio or 0)
    assert 0 <= characters_read(reader) - share * characters(texts) <= LONGEST


def test_few_texts_are_read_whole() -> None:
    texts, reader = documents(8), TableReader()
    scorer(reader, read_share=0.1).score(QUESTION, texts, keep_ratio=0.01)
    assert characters_read(reader) == characters(texts)


def test_a_question_of_function_words_leaves_nothing_out() -> None:
    texts, reader = documents(20), TableReader()
    scorer(reader, read_share=0.5).score("What was it about?", texts, keep_ratio=0.01)
    assert characters_read(reader) == characters(texts)


def test_sentences_least_like_the_question_go_unread() -> None:
    texts, reader = documents(20), TableReader()
    scorer(reader, read_share=0.5).score(QUESTION, texts, keep_ratio=0.01)
    assert "tower" in " ".join(reader.read)
    assert "Bees" not in " ".join(reader.read)


def test_what_is_said_of_a_sentence_is_its_own_where_others_before_it_went_unread() -> None:
    filler = "The tower, the tower. "
    texts = [
        Titled(f"{filler}Bees dance. {filler}It has 330 tower metres.", f"T {n}") for n in range(9)
    ]
    reader = TableReader(SURE)
    found = scorer(reader, read_share=0.84).score(QUESTION, texts)
    assert "Bees" not in " ".join(reader.read)
    for one in found:
        assert int(one.sentence_scores.argmax()) == 3
        assert one.sentence_scores[1] < one.sentence_scores[0]


@pytest.mark.parametrize(
    ("keep_ratio", "expected"), [(0.001, 4), (0.1, 4), (0.5, 20), (0.9, 36), (1.0, 40)]
)
def test_it_reads_more_where_more_is_to_be_kept(keep_ratio: float, expected: int) -> None:
    reader = TableReader(dict.fromkeys(["tower", "metres"], 12.0))  # sure at once
    scorer(reader, read_at_least=4).score(QUESTION, documents(40), keep_ratio=keep_ratio)
    assert len(reader.read) == expected


def test_what_looks_best_by_words_is_read_first() -> None:
    texts = [Titled("Bees dance.", "Bees"), *documents(3), Titled("Reefs grow.", "Reefs")]
    reader = TableReader(SURE)
    scorer(reader, read_at_least=3, read_at_most=3).score(QUESTION, texts)
    assert sorted(unread(reader, texts)) == [0, 4]


def test_sentences_that_were_not_read_rank_below_those_of_use() -> None:
    texts = documents(20, answer=0)
    reader = TableReader(SURE)
    found = scorer(reader, read_at_least=2).score(QUESTION, texts, keep_ratio=0.01)
    others = unread(reader, texts)
    assert len(others) == 18
    highest = max(found[n].score for n in others)
    assert highest < 0.01 < found[0].score
    assert [found[n].score for n in others] == sorted(
        (found[n].score for n in others), reverse=True
    )  # by words, which fall from text to text


def test_with_the_weights_that_ship_unread_sentences_do_not_reach_the_threshold() -> None:
    mix = RelevanceMix(**read_manifest().relevance)
    chance = 1 / (1 + math.exp(-(mix.unread + mix.bm25)))
    assert 0 < chance < RestructureConfig().threshold
    assert mix.quote > 0
    assert mix.answer > 0
    assert mix.bm25 > 0


def test_short_texts_without_titles_are_read_together_in_their_order() -> None:
    turns = [Titled(f"Turn {n}: the tower, okay.") for n in range(100)]
    reader = TableReader()
    found = scorer(reader).score(QUESTION, turns)
    assert len(reader.read) < 10
    assert all(len(text) <= CHUNK_CHARACTERS + 100 for text in reader.read)
    joined = [line for text in sorted(reader.read, key=lambda t: int(t.split()[1][:-1]))
              for line in text.split("\n")]  # fmt: skip
    assert joined == [turn.text for turn in turns]
    assert len(found) == 100
    assert all(len(one.sentences) == 1 for one in found)


def test_texts_with_titles_are_read_by_themselves() -> None:
    texts = [
        Titled("One."),
        Titled("Two."),
        Titled("Three.", "T"),
        Titled("Four."),
        Titled("Five."),
    ]
    reader = TableReader()
    scorer(reader).score(QUESTION, texts)
    assert sorted(reader.read) == ["Four.\nFive.", "One.\nTwo.", "T\nThree."]


def test_what_is_said_of_texts_read_together_belongs_to_the_right_ones() -> None:
    texts = [Titled("Bees dance. They fly."), Titled("It has 330 metres. So it is."), Titled("No.")]
    found = scorer(TableReader(SURE)).score(QUESTION, texts)
    values = np.concatenate([one.sentence_scores for one in found])
    assert int(values.argmax()) == 2
    assert (np.delete(values, 2) < 0.1).all()


def test_a_long_text_is_read_in_chunks_and_the_answer_found_in_its_middle() -> None:
    filler = "The bees of the tower dance again and again. "
    text = filler * 120 + "It has 330 metres. " + filler * 120
    reader = TableReader(SURE)
    (found,) = scorer(reader, read_share=1.0).score(QUESTION, [Titled(text, "T")])
    assert 0 <= len(reader.read) - math.ceil(len(text) / CHUNK_CHARACTERS) <= 1
    assert all(part.startswith("T\n") and len(part) < CHUNK_CHARACTERS + 5 for part in reader.read)
    best = found.sentences[int(found.sentence_scores.argmax())]
    assert text[best.start : best.end] == "It has 330 metres. "
    assert len(found.sentences) == 241


def test_a_sentence_longer_than_a_chunk_is_read_whole() -> None:
    text = "word " * 700 + "metres. Bees."
    reader = TableReader(SURE)
    (found,) = scorer(reader).score(QUESTION, [Titled(text, "T")])
    assert max(map(len, reader.read)) > CHUNK_CHARACTERS
    assert found.sentence_scores[0] > 0.1 > found.sentence_scores[-1]


def test_of_very_many_texts_those_with_the_words_of_the_question_are_read() -> None:
    texts = [Titled(f"Bees dance, number {n}.", f"Bees {n}") for n in range(600)]
    texts[417] = Titled("The tower has 330 metres.", "Tower")
    reader = TableReader(SURE)
    found = scorer(reader, read_at_least=2).score(QUESTION, texts, keep_ratio=0.001)
    assert max(range(600), key=lambda n: found[n].score) == 417
    assert len(reader.read) <= 2


def test_two_thousand_texts_are_read_in_bounded_calls() -> None:
    reader = TableReader()
    found = scorer(reader).score(QUESTION, documents(2_000), keep_ratio=0.9)
    assert len(found) == 2_000
    assert 64 <= len(reader.read) <= 64 / 0.9 + 1
    assert len(reader.calls) <= 2


strings = st.text(max_size=80) | st.sampled_from(["", " \n", "\ud800", "…" * 40, "a" * 5_000])


@settings(deadline=None)
@given(
    strings,
    st.lists(st.tuples(strings, st.none() | strings), max_size=6),
    st.none() | st.floats(0.01, 1),
    st.sampled_from([0.0, 1e30, -1e30, 40.0]),
)
def test_any_strings_have_chances_and_sentences_without_gaps(
    question: str, pairs: list[tuple[str, str | None]], keep_ratio: float | None, value: float
) -> None:
    texts = [Titled(*pair) for pair in pairs]
    reader = TableReader({"a": value, "…": value})
    cascade = scorer(reader, read_at_least=1, read_at_most=3)
    found = cascade.score(question, texts, keep_ratio=keep_ratio)
    assert len(found) == len(texts)
    for one, given_text in zip(found, texts, strict=True):
        assert math.isfinite(one.score)
        assert one.sentence_scores.dtype == np.float32
        assert ((one.sentence_scores >= 0) & (one.sentence_scores <= 1)).all()
        covered = "".join(given_text.text[start:end] for start, end in one.sentences)
        assert covered == given_text.text


def test_no_texts_are_no_work() -> None:
    reader = TableReader()
    assert scorer(reader).score(QUESTION, []) == []
    assert reader.read == []


def test_the_checkpoint_is_called_where_work_is_long() -> None:
    def over() -> None:
        raise DeadlineError("over")

    with pytest.raises(DeadlineError):
        scorer(TableReader()).score(QUESTION, documents(3), checkpoint=over)


def test_the_bundled_scorer_says_the_same_in_any_number_of_threads() -> None:
    texts = [
        Titled("Coral reefs need warm water. They are found near coasts.", "Reef"),
        Titled("The Eiffel Tower in Paris is 330 metres tall. It was built in 1889.", "Tower"),
        Titled("Bees dance to show where flowers are. They never sleep.", "Bees"),
    ]
    mix = RelevanceMix(**read_manifest().relevance)
    results = [
        CascadeScorer(JointEvidence(load_bundled_scorer(threads=threads)), mix).score(
            "How tall is the Eiffel Tower?", texts
        )
        for threads in (1, 3)
    ]
    for one, other in zip(*results, strict=True):
        assert one.sentence_scores.tolist() == other.sentence_scores.tolist()
    found = results[0]
    assert max(range(3), key=lambda n: found[n].score) == 1
    assert int(found[1].sentence_scores.argmax()) == 0


def test_scorers_of_one_manager_share_the_encoder() -> None:
    resources = create_plugin_manager().resources
    bundled, vectors = (resources.create_scorer(name, {}) for name in ("bundled", "vectors"))
    assert bundled.languages == vectors.languages == frozenset({"en"})
    other = resources.create_scorer("bundled", {"read_at_most": 9})
    assert other.identity != bundled.identity
    assert other._joint._reader is bundled._joint._reader is vectors._embedder


@pytest.mark.parametrize("weights", [{}, {"quote": 1.0}, {"quote": 1.0, "colour": 2.0}])
def test_weights_that_do_not_fit_the_model_are_a_model_error(
    weights: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = dataclasses.replace(read_manifest(), relevance=weights)
    monkeypatch.setattr(scorers, "read_manifest", lambda: broken)
    with pytest.raises(ModelError, match=r"manifest\.json, relevance"):
        create_plugin_manager().resources.create_scorer("bundled", {})
