from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.errors import DeadlineError, ModelError
from ctxpress.models import TokenScorer, TokenScores
from ctxpress.models.subtokens import encode_literally
from ctxpress.plugins.token_classification import (
    TokenClassificationConfig,
    TokenClassificationStage,
)
from ctxpress.plugins.token_classification.checkpoint import Checkpoint
from ctxpress.plugins.token_classification.huggingface import HuggingFaceTokenScorer
from ctxpress.testing import check_stage

SENTENCE = "The committee met on Tuesday, and 4,300 euros were paid for heating. "


@pytest.fixture(scope="module")
def scorer(checkpoint: Checkpoint) -> HuggingFaceTokenScorer:
    return HuggingFaceTokenScorer(checkpoint)


def same(left: TokenScores, right: TokenScores) -> bool:
    """Same tokens; scores equal but for the rounding of one in a thousand."""
    return (
        np.array_equal(left.starts, right.starts)
        and np.array_equal(left.ends, right.ends)
        and bool(np.all(np.abs(left.keep_scores - right.keep_scores) <= 1.01e-4))
    )


def covered(text: str, scores: TokenScores) -> str:
    """The characters, less blanks, that belong to a token."""
    seen = np.zeros(len(text), bool)
    for start, end in zip(scores.starts, scores.ends, strict=True):
        seen[start:end] = True
    return "".join(c for c, is_seen in zip(text, seen, strict=True) if is_seen and not c.isspace())


def test_it_is_a_scorer(scorer: TokenScorer, folder: Path) -> None:
    (scores,) = scorer.score([SENTENCE])
    assert scores.keep_scores.dtype == np.float32
    assert scores.starts.dtype == scores.ends.dtype == np.int32
    assert scores.use_scores is None
    assert not scorer.reads_questions
    assert scorer.languages is None
    assert scorer.identity.startswith("huggingface/1/folder:")
    assert str(folder) not in scorer.identity
    with pytest.raises(ValueError, match="question"):
        scorer.score([SENTENCE], question="How much?")


def test_scores_are_the_models_own_probabilities(
    scorer: HuggingFaceTokenScorer, checkpoint: Checkpoint
) -> None:
    import torch

    encoded = checkpoint.tokenizer(SENTENCE, return_tensors="pt")
    with torch.inference_mode():
        logits = checkpoint.model(
            input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]
        ).logits
    expected = logits.softmax(-1)[0, 1:-1, 1].numpy()
    offsets = checkpoint.tokenizer(SENTENCE, return_offsets_mapping=True)["offset_mapping"][1:-1]
    visible = [i for i, (start, end) in enumerate(offsets) if SENTENCE[start:end].strip()]
    (scores,) = scorer.score([SENTENCE])
    np.testing.assert_allclose(scores.keep_scores, expected[visible], atol=1.01e-4)


def test_offsets_are_of_the_text_and_hold_no_blanks(scorer: HuggingFaceTokenScorer) -> None:
    text = "  Ärger\u00a0über  😀 2024\n\n新闻内容 x" * 3
    (scores,) = scorer.score([text])
    assert not any(text[start].isspace() for start in scores.starts)
    assert covered(text, scores) == "".join(text.split())


def test_a_text_scores_the_same_alone_and_among_others(scorer: HuggingFaceTokenScorer) -> None:
    texts = [SENTENCE * n for n in (1, 40, 2, 3, 100, 1, 7)]
    for text, scores in zip(texts, scorer.score(texts), strict=True):
        assert same(scores, scorer.score([text])[0])


def test_a_long_text_is_read_in_windows_that_overlap(scorer: HuggingFaceTokenScorer) -> None:
    text = SENTENCE * 300
    (scores,) = scorer.score([text])
    assert len(scores.keep_scores) > 2000
    assert np.all(np.diff(scores.starts) >= 0)
    assert np.all((scores.keep_scores > 0) & (scores.keep_scores < 1))
    (short,) = scorer.score([SENTENCE * 10])
    head = len(short.starts) // 2  # as far as both saw the same context, it is the same token
    np.testing.assert_array_equal(scores.starts[:head], short.starts[:head])


def test_slices_give_the_tokens_of_the_whole(checkpoint: Checkpoint) -> None:
    scorer = HuggingFaceTokenScorer(checkpoint)
    text = (SENTENCE + "新闻  v1.2.3\n") * 600
    token_ids, offsets = encode_literally(scorer._tokenizer, text)
    whole = scorer._tokenizer.encode(text, add_special_tokens=False)
    assert token_ids.tolist() == whole.ids
    assert list(map(tuple, offsets.tolist())) == whole.offsets


def test_concurrent_callers_get_their_own_scores(scorer: HuggingFaceTokenScorer) -> None:
    texts = [f"{n} committee {SENTENCE * (n % 5)} budget {n}" for n in range(40)]
    alone = [scorer.score([text])[0] for text in texts]
    with ThreadPoolExecutor(8) as pool:
        together = [scores for (scores,) in pool.map(lambda text: scorer.score([text]), texts)]
    assert all(map(same, alone, together))


def test_a_cancelled_caller_stops_and_hurts_nobody(scorer: HuggingFaceTokenScorer) -> None:
    over = threading.Event()
    calls = 0

    def checkpoint() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            over.set()
            raise DeadlineError("over")

    with ThreadPoolExecutor(2) as pool:
        cancelled = pool.submit(scorer.score, [SENTENCE * 400], checkpoint=checkpoint)
        other = pool.submit(scorer.score, [SENTENCE])
        with pytest.raises(DeadlineError):
            cancelled.result(30)
        assert same(other.result(30)[0], scorer.score([SENTENCE])[0])


def test_a_failing_model_is_a_model_error(checkpoint: Checkpoint) -> None:
    def failing(**_: object) -> None:
        raise RuntimeError("out of memory")

    scorer = HuggingFaceTokenScorer(checkpoint)
    scorer._model = failing
    with pytest.raises(ModelError, match="out of memory"):
        scorer.score([SENTENCE])


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=()), max_size=60), max_size=3))
def test_any_string_can_be_scored(any_scorer: HuggingFaceTokenScorer, texts: list[str]) -> None:
    for text, scores in zip(texts, any_scorer.score(texts), strict=True):
        assert len(scores.starts) == len(scores.ends) == len(scores.keep_scores)
        assert np.all(scores.starts < scores.ends)
        assert np.all((scores.starts >= 0) & (scores.ends <= len(text)))
        assert np.all(np.isfinite(scores.keep_scores))


@pytest.fixture(scope="session")
def any_scorer(checkpoint: Checkpoint) -> HuggingFaceTokenScorer:
    return HuggingFaceTokenScorer(checkpoint)


@pytest.mark.parametrize("text", ["", "   ", "\n", "[SEP] [MASK] </s>", "<|endoftext|>"])
def test_odd_texts_are_read_literally(scorer: HuggingFaceTokenScorer, text: str) -> None:
    (scores,) = scorer.score([text])
    assert covered(text, scores) == "".join(text.split())


def test_the_native_stage_obeys_the_laws_with_it(checkpoint: Checkpoint) -> None:
    config = TokenClassificationConfig(backend="huggingface", model="tiny")
    check_stage(TokenClassificationStage(config, HuggingFaceTokenScorer(checkpoint)))
