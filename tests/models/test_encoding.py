from __future__ import annotations

import pytest

from ctxpress.models import load_bundled_tokenizer
from ctxpress.models.encoding import N_CASES, N_SHAPES, encode_text

NONE, FIRST, ALL, MIXED = range(N_CASES)
GLUED, BLANK, BREAK = range(3)


def shapes_of(text: str) -> list[tuple[str, int, int]]:
    encoded = encode_text(load_bundled_tokenizer(), text)
    assert (encoded.shape_ids < N_SHAPES).all()
    return [
        (text[start:end], shape // N_CASES, shape % N_CASES)
        for start, end, shape in zip(encoded.starts, encoded.ends, encoded.shape_ids, strict=True)
    ]


def test_case_and_boundary_of_each_token() -> None:
    assert shapes_of("The US iPhone, 5\nÉtat") == [
        ("The", BREAK, FIRST),
        ("US", BLANK, ALL),
        ("iPhone", BLANK, MIXED),
        (",", GLUED, NONE),
        ("5", BLANK, NONE),
        ("État", BREAK, FIRST),
    ]


def test_text_without_tokens() -> None:
    encoded = encode_text(load_bundled_tokenizer(), "\n \t")
    assert len(encoded.token_ids) == len(encoded.shape_ids) == len(encoded.starts) == 0


@pytest.mark.parametrize(
    "text",
    [
        "The prices – 1.50 and 2,000 – rose; naïve café owners' faces fell.\n\nSo it goes. " * 900,
        "word \u0301combining " * 3_000,
        "a" * 70_000,
        "委员会周二开会 " * 6_000,
        "\ud800 lone " * 6_000,
    ],
    ids=["prose", "combining", "one word", "chinese", "surrogates"],
)
def test_a_long_text_has_the_tokens_that_it_has_in_one_call(text: str) -> None:
    tokenizer = load_bundled_tokenizer()
    encoded = encode_text(tokenizer, text)
    whole = tokenizer.encode(text.replace("\ud800", "\ufffd"), add_special_tokens=False)
    assert encoded.token_ids.tolist() == whole.ids
    assert list(zip(encoded.starts.tolist(), encoded.ends.tolist(), strict=True)) == whole.offsets
