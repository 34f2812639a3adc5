from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from ctxpress.models import load_bundled_tokenizer
from training.data import IGNORED, Passage, label_pieces, load_passages, pieces_of, split
from training.evaluate import baselines, measure, word_scores

MEETING = Passage(
    "1",
    "meeting",
    "m-1",
    tuple("Grad B: OK . It 's due on May 5 . Mr. Smith: So , um , no .".split()),
    (1, 1, 0, 0, 0, 0, 2, 1, 2, 2, 0, 1, 1, 0, 0, 0, 0, 2, 0),
)
WIKI = Passage("2", "wiki", "nq-1", tuple("Oslo. Oslo is the capital.".split()), (2, 1, 0, 0, 2))


def test_labels_stay_with_their_words_under_augmentation() -> None:
    for passage in (MEETING, WIKI):
        for seed in range(200):
            pieces = pieces_of(passage, random.Random(seed))
            judged = [(chars, label) for chars, label in pieces if label != IGNORED]
            assert len(judged) == len(passage.words)
            triples = zip(judged, passage.words, passage.labels, strict=True)
            for (chars, label), word, original in triples:
                assert chars.strip("*_`").lower() == word.strip("*_`").lower()
                assert label >= original  # attached punctuation takes its word's label


def test_plain_pieces_are_the_text() -> None:
    assert "".join(chars for chars, _ in pieces_of(MEETING)) == MEETING.text


def test_every_sub_token_has_its_words_label() -> None:
    labelled = label_pieces(load_bundled_tokenizer(), pieces_of(WIKI))
    words = [
        WIKI.text[a:b] for a, b in zip(labelled.encoded.starts, labelled.encoded.ends, strict=True)
    ]
    assert words == ["Oslo", ".", "Oslo", "is", "the", "capital", "."]
    assert labelled.labels.tolist() == [2, 2, 1, 0, 0, 2, 2]
    assert labelled.weights[0] == pytest.approx(2**-0.5)
    assert labelled.weights[2] == 1.0


def test_split_keeps_sources_and_titles_together() -> None:
    passages = [
        Passage(str(i), "wiki", f"nq-{i // 2}", (f"Title{i // 3}.", "word"), (1, 0))
        for i in range(300)
    ]
    train, held = split(passages, 0.2)
    assert len(train) + len(held) == 300
    assert 30 <= len(held) <= 60
    for key in (lambda p: p.source, lambda p: p.words[0]):
        assert not {key(p) for p in train} & {key(p) for p in held}
    assert split(passages[::-1], 0.2)[1] != []


def test_loading_checks_labels(tmp_path: Path) -> None:
    row = {"id": "1", "domain": "d", "source": "s", "text": "a b", "half": "11", "core": "01"}
    path = tmp_path / "passages.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert load_passages(path)[0].labels == (1, 2)
    path.write_text(json.dumps(row | {"half": "1"}) + "\n")
    with pytest.raises(ValueError, match="labels do not match"):
        load_passages(path)


def test_measures() -> None:
    perfect = [np.array(p.labels, dtype=float) for p in (MEETING, WIKI)]
    quality = measure([MEETING, WIKI], perfect)
    assert quality.auc == {"half": 1.0, "core": 1.0}
    assert quality.f1_at_teacher_rate == {"half": 1.0, "core": 1.0}
    chance = [baselines([WIKI])["random"](p) for p in (MEETING, WIKI)]
    assert measure([MEETING, WIKI], chance).auc["half"] < 1.0


def test_word_scores_are_means_of_sub_tokens() -> None:
    starts = np.array([0, 2, 5], np.int32)
    scores = np.array([0.2, 0.4, 0.9], np.float32)
    assert word_scores(["abcd", "ef", "g"], starts, scores) == pytest.approx([0.3, 0.9, 0.0])
