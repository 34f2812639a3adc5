"""Chunks: every sentence is in one, and leaving some out leaves the others as they are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ctxpress.relevance.chunks import CHUNK_CHARACTERS, Chunk, chunks_of, parts_of
from ctxpress.relevance.scorer import Titled
from ctxpress.relevance.sentences import split_sentences

SENTENCES = st.sampled_from(
    ["It rained. ", "Bees dance, and nobody knows why. ", "Ja. ", "x" * 400 + ". "]
)
TEXTS = st.lists(
    st.tuples(st.lists(SENTENCES, max_size=6).map("".join), st.sampled_from([None, "T"])),
    max_size=6,
)


def numbers(chunk: Chunk) -> list[tuple[int, int]]:
    """The text and the number of each sentence."""
    return [
        (piece.text, number) for piece in chunk.pieces for number in range(piece.first, piece.stop)
    ]


@given(TEXTS)
def test_each_sentence_is_in_one_chunk_and_stands_there_as_in_its_text(
    pairs: list[tuple[str, str | None]],
) -> None:
    texts = [Titled(*pair) for pair in pairs]
    sentences = [split_sentences(text.text) for text in texts]
    chunks = chunks_of(texts, sentences)
    everything = [
        (number, n) for number, ranges in enumerate(sentences) for n in range(len(ranges))
    ]
    assert [found for chunk in chunks for found in numbers(chunk)] == everything
    for chunk in chunks:
        assert_read_as_written(chunk, texts, sentences)
        assert len(chunk.sentences) == 1 or len(chunk.read.text) <= CHUNK_CHARACTERS + len(
            chunk.pieces
        )


@given(TEXTS, st.data())
def test_a_part_has_the_chosen_sentences_of_its_chunk_and_no_other(
    pairs: list[tuple[str, str | None]], data: st.DataObject
) -> None:
    texts = [Titled(*pair) for pair in pairs]
    sentences = [split_sentences(text.text) for text in texts]
    for chunk in chunks_of(texts, sentences):
        size = len(chunk.sentences)
        chosen = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
        part = parts_of(chunk, chosen, texts, sentences)
        wanted = [found for found, flag in zip(numbers(chunk), chosen, strict=True) if flag]
        assert (numbers(part) if part else []) == wanted
        if part is not None:
            assert part.read.title == chunk.read.title
            assert_read_as_written(part, texts, sentences)
        if all(chosen):
            assert part == chunk


def assert_read_as_written(
    chunk: Chunk, texts: list[Titled], sentences: list[tuple[tuple[int, int], ...]]
) -> None:
    for (text, number), (start, end) in zip(numbers(chunk), chunk.sentences, strict=True):
        first, stop = sentences[text][number]
        assert chunk.read.text[start:end] == texts[text].text[first:stop]
