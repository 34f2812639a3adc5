"""Pieces: everything is read, nothing is longer than a window, sentences know where they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from ctxpress.models.subtokens import encode_literally
from ctxpress.relevance.huggingface.framing import frame_of
from ctxpress.relevance.huggingface.pieces import last_of, read_text
from ctxpress.relevance.sentences import split_sentences
from tests.relevance.huggingface.texts import strings


def make_tokenizer() -> Tokenizer:
    """Every byte a token, so that what a token is of can be seen."""
    alphabet = {letter: n for n, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE({**alphabet, "[A]": 256, "[Z]": 257}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[A] $A [Z]",
        pair="[A] $A [Z] [Z] $B:1 [Z]:1",
        special_tokens=[("[A]", 256), ("[Z]", 257)],
    )
    return tokenizer


TOKENIZER = make_tokenizer()


@settings(deadline=None)
@given(strings, strings, st.integers(2, 90))
def test_pieces_hold_all_of_a_text_and_fit(head: str, text: str, capacity: int) -> None:
    sentences = split_sentences(text)
    read = read_text(TOKENIZER, head, text, sentences, capacity)
    whole = encode_literally(TOKENIZER, head + text)[0].tolist()
    assert read.pieces
    assert all(len(piece) <= capacity for piece in read.pieces)
    assert all(len(part) <= capacity for parts in read.sentences for part in parts)
    assert len(read.within) == len(read.sentences) == len(sentences)
    if len(whole) <= capacity:
        assert [piece.tolist() for piece in read.pieces] == [whole]
        return
    n_head = len(encode_literally(TOKENIZER, head)[0])
    kept = min(n_head, capacity // 4)
    joined = np.concatenate([piece[kept:] for piece in read.pieces]).tolist()
    assert joined == whole[n_head:]
    alone = [part[kept:].tolist() for parts in read.sentences for part in parts]
    assert [token for part in alone for token in part] == whole[n_head:]
    for parts, (start, end) in zip(read.sentences, read.within, strict=True):
        bodies = [piece[kept:].tolist() for piece in read.pieces[start:end]]
        assert bodies
        if len(parts) > 1:
            assert bodies == [part[kept:].tolist() for part in parts]
        else:
            assert str(parts[0][kept:].tolist())[1:-1] in str(bodies[0])


@settings(deadline=None)
@given(strings, st.integers(0, 40), st.integers(2, 60))
def test_the_end_of_a_long_question_stays(text: str, n_head: int, capacity: int) -> None:
    ids = encode_literally(TOKENIZER, text)[0]
    kept = last_of(ids, n_head, capacity)
    assert len(kept) == min(len(ids), capacity)
    if len(ids) > capacity:
        n_first = min(n_head, capacity // 4)
        assert kept[:n_first].tolist() == ids[:n_first].tolist()
        assert kept[n_first:].tolist() == ids[len(ids) - capacity + n_first :].tolist()


def test_a_frame_is_what_the_tokenizer_puts_around() -> None:
    ids = np.array([5, 6], np.int64)
    assert frame_of(TOKENIZER, "x", 1).fill(ids).tolist() == [[256, 0], [5, 0], [6, 0], [257, 0]]
    pair = frame_of(TOKENIZER, "x", 2)
    assert pair.n_tokens == 4
    assert pair.fill(ids, ids[:0])[:, 0].tolist() == [256, 5, 6, 257, 257, 257]
    assert pair.fill(ids, ids)[:, 1].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]


def test_a_window_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="room for 1"):
        read_text(TOKENIZER, "", "text", split_sentences("text"), 1)
