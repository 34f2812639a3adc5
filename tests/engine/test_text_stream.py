"""Text comes as soon as it is certain, and never more than that."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ctxpress.engine.text_stream import TextStream
from tests.engine.small_worker import byte_tokenizer

TOKENIZER = byte_tokenizer()


def streamed(text: str, stop: tuple[str, ...] = ()) -> tuple[list[str], TextStream]:
    stream = TextStream(TOKENIZER, stop)
    pieces = [stream.push(token) for token in TOKENIZER(text)["input_ids"]]
    return [*pieces, stream.finish()], stream


@given(st.text(max_size=40))
def test_all_pieces_together_are_the_text(text: str) -> None:
    pieces, _ = streamed(text)
    assert "".join(pieces) == text


SHORT = st.text(alphabet="abé水", min_size=1, max_size=4)


@given(st.text(alphabet="abé水", max_size=30), st.lists(SHORT, max_size=3))
def test_text_ends_before_the_first_stop_string(text: str, stop: list[str]) -> None:
    pieces, stream = streamed(text, tuple(stop))
    found = [text.find(one) for one in stop if one in text]
    joined = "".join(pieces)
    assert stream.stopped == bool(found)
    if not found:
        assert joined == text
    else:
        assert text.startswith(joined)
        assert not any(one in joined for one in stop)


def test_half_characters_are_held_back() -> None:
    pieces, _ = streamed("a水b")
    assert pieces == ["a", "", "", "水", "b", ""]


def test_what_may_become_a_stop_string_is_held_back_and_given_when_it_does_not() -> None:
    pieces, stream = streamed("xENy", ("END",))
    assert pieces == ["x", "", "", "ENy", ""]
    assert not stream.stopped
    pieces, stream = streamed("xEND tail", ("END",))
    assert "".join(pieces) == "x"
    assert stream.stopped


def test_special_tokens_are_no_text() -> None:
    stream = TextStream(TOKENIZER)
    assert stream.push(TOKENIZER.eos_token_id) == ""
