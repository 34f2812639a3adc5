from __future__ import annotations

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
