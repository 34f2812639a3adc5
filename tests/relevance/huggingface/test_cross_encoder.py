"""Cross-encoders: the checkpoint's own logits, for any strings, however they are batched."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.errors import DeadlineError, ModelError
from ctxpress.models.checkpoint import Checkpoint
from ctxpress.relevance import RelevanceScorer
from ctxpress.relevance.huggingface.cross_encoder import CrossEncoderScorer
from ctxpress.relevance.scorer import Titled
from ctxpress.relevance.sentences import split_sentences
from tests.relevance.huggingface.texts import (
    LONG,
    QUESTION,
    TEXTS,
    keeps_the_contract,
    same,
    strings,
    titled,
)


def direct(checkpoint: Checkpoint, question: str, text: str) -> float:
    """What transformers makes of one pair: the logit, or the difference of both."""
    import torch

    encoded = checkpoint.tokenizer(question, text, return_tensors="pt", truncation=False)
    with torch.inference_mode():
        logits = checkpoint.model(**encoded).logits[0]
    return float(logits[1] - logits[0] if len(logits) == 2 else logits[0])


@pytest.fixture(scope="module")
def scorer(reranker: Checkpoint) -> CrossEncoderScorer:
    return CrossEncoderScorer(reranker)


@pytest.fixture(scope="module")
def texts_only(reranker: Checkpoint) -> CrossEncoderScorer:
    return CrossEncoderScorer(reranker, sentences=False)


def test_it_is_a_scorer(scorer: CrossEncoderScorer, reranker: Checkpoint) -> None:
    assert isinstance(scorer, RelevanceScorer)
    assert scorer.languages is None
    assert str(reranker.folder) not in scorer.identity
    other = CrossEncoderScorer(reranker, max_tokens=64, languages=frozenset({"en"}))
    assert other.identity != scorer.identity
    assert other.languages == {"en"}
    assert keeps_the_contract(TEXTS, scorer.score(QUESTION, TEXTS))
    assert scorer.score(QUESTION, []) == []


def test_a_texts_score_is_that_of_transformers(
    scorer: CrossEncoderScorer, texts_only: CrossEncoderScorer, reranker: Checkpoint
) -> None:
    expected = [
        direct(reranker, QUESTION, f"{t.title}\n{t.text}" if t.title else t.text) for t in TEXTS
    ]
    assert np.ptp(expected) > 1e-3
    for one in (scorer, texts_only):
        scores = [found.score for found in one.score(QUESTION, TEXTS)]
        np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_a_sentences_score_is_half_its_own_and_half_its_texts(
    scorer: CrossEncoderScorer, reranker: Checkpoint
) -> None:
    for text, found in zip(TEXTS[:2], scorer.score(QUESTION, TEXTS[:2]), strict=True):
        head = f"{text.title}\n" if text.title else ""
        own = [direct(reranker, QUESTION, head + text.text[a:b]) for a, b in found.sentences]
        expected = [(score + found.score) / 2 for score in own]
        np.testing.assert_allclose(found.sentence_scores, expected, atol=1e-5)
        assert len(set(expected)) > 1


def test_without_sentences_each_has_its_texts_score(texts_only: CrossEncoderScorer) -> None:
    for found in texts_only.score(QUESTION, TEXTS):
        assert np.all(found.sentence_scores == np.float32(found.score))


def test_of_a_long_text_the_best_piece_counts(reranker: Checkpoint) -> None:
    """Pieces are whole sentences, as many as fit: found anew here by transformers' own counts."""
    limit = 128
    scorer = CrossEncoderScorer(reranker, max_tokens=limit, sentences=False)
    sentences = [LONG[a:b] for a, b in split_sentences(LONG)]
    pieces: list[list[str]] = [[]]
    for sentence in sentences:
        joined = "".join([*pieces[-1], sentence])
        if pieces[-1] and len(reranker.tokenizer(QUESTION, joined)["input_ids"]) > limit:
            pieces.append([])
        pieces[-1].append(sentence)
    assert len(pieces) > 5
    expected = [direct(reranker, QUESTION, "".join(piece)) for piece in pieces]
    (found,) = scorer.score(QUESTION, [Titled(LONG)])
    assert found.score == pytest.approx(max(expected), abs=1e-5)
    spread = [score for score, piece in zip(expected, pieces, strict=True) for _ in piece]
    np.testing.assert_allclose(found.sentence_scores, spread, atol=1e-5)


def test_a_sentence_longer_than_a_window_is_read_in_parts(reranker: Checkpoint) -> None:
    scorer = CrossEncoderScorer(reranker, max_tokens=64)
    text = "The heating is paid. " + "Budget " * 400 + "for the coming year. Next time it is less."
    (found,) = scorer.score(QUESTION, [Titled(text, "committee " * 90)])
    assert keeps_the_contract([Titled(text)], [found])
    assert len(found.sentences) == 3
    assert found.score == pytest.approx(float(found.sentence_scores.max()), abs=1e-5)


def test_of_a_long_question_the_end_is_read(reranker: Checkpoint) -> None:
    scorer = CrossEncoderScorer(reranker, max_tokens=128)
    many = "meeting " * 400
    asked = scorer.score(many + QUESTION, TEXTS)
    other = scorer.score(many + "Who is Виктор?", TEXTS)
    more = scorer.score("meeting " * 100 + many + QUESTION, TEXTS)
    assert not all(map(same, asked, other))
    assert all(map(same, asked, more))


def test_batches_do_not_change_scores(reranker: Checkpoint) -> None:
    texts = [*TEXTS, Titled(LONG), Titled(""), *TEXTS, Titled(LONG[:900], "Title")]
    single = CrossEncoderScorer(reranker, batch_size=1)
    wide = CrossEncoderScorer(reranker, batch_size=64).score(QUESTION, texts)
    assert all(map(same, single.score(QUESTION, texts), wide))
    for text, found in zip(texts, wide, strict=True):
        assert same(single.score(QUESTION, [text])[0], found)


def test_a_sigmoid_is_applied_where_the_checkpoint_asks_for_it(
    reranker: Checkpoint, texts_only: CrossEncoderScorer
) -> None:
    plain = [found.score for found in texts_only.score(QUESTION, TEXTS)]
    config = reranker.model.config
    for key, value in (
        ("sentence_transformers", {"activation_fn": "torch.nn.modules.activation.Sigmoid"}),
        ("sbert_ce_default_activation_function", "torch.nn.modules.activation.Sigmoid"),
    ):
        setattr(config, key, value)
        try:
            scorer = CrossEncoderScorer(reranker, sentences=False)
        finally:
            delattr(config, key)
        scores = [found.score for found in scorer.score(QUESTION, TEXTS)]
        np.testing.assert_allclose(scores, 1 / (1 + np.exp(-np.array(plain))), atol=1e-5)
        assert scorer.identity != texts_only.identity
        assert keeps_the_contract(TEXTS, scorer.score(QUESTION, TEXTS))
    config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
    try:
        assert CrossEncoderScorer(reranker, sentences=False).identity == texts_only.identity
    finally:
        del config.sentence_transformers


def test_concurrent_callers_get_their_own_scores(scorer: CrossEncoderScorer) -> None:
    calls = [
        (f"{n} heating {QUESTION}", [Titled(f"{n} {LONG[: 90 * (n % 5)]}")]) for n in range(32)
    ]
    alone = [scorer.score(question, texts)[0] for question, texts in calls]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda call: scorer.score(*call)[0], calls))
    assert all(map(same, alone, together))


def test_it_can_be_stopped_between_batches(reranker: Checkpoint) -> None:
    scorer = CrossEncoderScorer(reranker, max_tokens=64, batch_size=1)
    calls = []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise DeadlineError("over")

    with pytest.raises(DeadlineError):
        scorer.score(QUESTION, [Titled(LONG)], checkpoint=stop)
    assert keeps_the_contract(TEXTS, scorer.score(QUESTION, TEXTS))


@settings(max_examples=30, deadline=None)
@given(strings, st.lists(titled, max_size=4))
def test_any_strings_can_be_scored(
    short_windows: CrossEncoderScorer, question: str, texts: list[Titled]
) -> None:
    assert keeps_the_contract(texts, short_windows.score(question, texts))


@pytest.fixture(scope="module")
def short_windows(reranker: Checkpoint) -> CrossEncoderScorer:
    return CrossEncoderScorer(reranker, max_tokens=32, batch_size=64)


class Broken:
    """A model that fails, or gives no numbers."""

    def __init__(self, model: Any, error: Exception | None) -> None:
        self._model, self._error = model, error
        self.config, self.named_modules = model.config, model.named_modules

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
        if self._error is not None:
            raise self._error
        output = self._model(input_ids=input_ids, attention_mask=attention_mask)
        output.logits = output.logits * float("nan")
        return output

    __call__ = forward


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("out of memory\nand more"), "failed on a window: out of memory$"),
        (ValueError(""), "failed on a window: ValueError$"),
        (None, "something else than finite numbers"),
    ],
)
def test_a_failing_model_is_a_model_error_already_when_it_is_built(
    reranker: Checkpoint, error: Exception | None, message: str
) -> None:
    broken = dataclasses.replace(reranker, model=Broken(reranker.model, error))
    with pytest.raises(ModelError, match=message):
        CrossEncoderScorer(broken)


def test_windows_that_hold_no_pair_are_an_error(reranker: Checkpoint) -> None:
    with pytest.raises(ModelError, match="too few"):
        CrossEncoderScorer(reranker, max_tokens=10)
