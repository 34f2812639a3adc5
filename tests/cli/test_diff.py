"""Deletions as they are shown: nothing is lost, nothing invented."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ctxpress.cli.diff import (
    Mark,
    Piece,
    from_ranges,
    from_texts,
    shorten,
    to_ansi,
    to_markdown,
    to_plain,
)
from ctxpress.document import Range

TEXT = "The delivery is, as I said, late."


def test_ranges_become_pieces() -> None:
    pieces = from_ranges(TEXT, [Range(0, 12), Range(27, 33)])
    assert to_plain(pieces) == "The delivery [-is, as I said,-] late."
    assert to_markdown(pieces) == "The delivery ~~is, as I said,~~ late."
    assert to_ansi(pieces) == "The delivery \x1b[2;9;31mis, as I said,\x1b[0m late."


def test_texts_become_pieces() -> None:
    pieces = from_texts("one two three four", "one three five")
    assert to_plain(pieces) == "one [-two-] three [-four-]{+five+}"


@given(st.text(alphabet="ab \n,", max_size=60), st.data())
def test_pieces_hold_both_texts(original: str, data: st.DataObject) -> None:
    keep = data.draw(st.lists(st.booleans(), min_size=len(original), max_size=len(original)))
    shorter = "".join(c for c, kept in zip(original, keep, strict=True) if kept)
    ranges = [Range(i, i + 1) for i, kept in enumerate(keep) if kept]
    for pieces in (from_texts(original, shorter), from_ranges(original, ranges)):
        assert "".join(p.text for p in pieces if p.mark is not Mark.ADDED) == original
        assert "".join(p.text for p in pieces if p.mark is not Mark.DELETED) == shorter


def test_deletions_stay_together_where_words_repeat() -> None:
    before = "the cat and the dog and the bird and the fish"
    after = "the dog and the fish"
    assert to_plain(from_texts(before, after)) == (
        "the [-cat and the-] dog and the [-bird and the-] fish"
    )


def test_parts_of_words_are_found_by_characters() -> None:
    assert to_plain(from_texts("我们今天开会", "今天会")) == "[-我们-]今天[-开-]会"


def test_text_that_repeats_for_ever_is_quick() -> None:
    pieces = from_texts("a " * 20_000, "a " * 10_000)
    assert "".join(p.text for p in pieces if p.mark is Mark.KEPT) == "a " * 10_000


def test_long_texts_lose_their_middle() -> None:
    pieces = [Piece("a" * 100, Mark.KEPT), Piece("b" * 100, Mark.DELETED)]
    head, tail = shorten(pieces, 60)
    assert head == [Piece("a" * 40, Mark.KEPT)]
    assert tail == [Piece("b" * 20, Mark.DELETED)]
    assert shorten(pieces, 200) == (pieces, [])
    head, tail = shorten([Piece("one two three four five six", Mark.KEPT)], 15)
    assert (head, tail) == ([Piece("one two", Mark.KEPT)], [Piece("six", Mark.KEPT)])
    head, tail = shorten([Piece("ab" * 50, Mark.KEPT), Piece("cd", Mark.DELETED)], 9)
    assert (head, tail) == (
        [Piece("ababab", Mark.KEPT)],
        [Piece("b", Mark.KEPT), Piece("cd", Mark.DELETED)],
    )
