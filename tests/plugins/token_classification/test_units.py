from __future__ import annotations

import numpy as np
import pytest

from ctxpress.plugins.token_classification.pairs import pair_up
from ctxpress.plugins.token_classification.units import Units, cut_units


def cut(text: str, **options: list[int] | list[tuple[int, int]]) -> tuple[Units, list[str]]:
    units = cut_units(text, options.get("cuts", []), options.get("frozen", []))  # type: ignore[arg-type]
    bounds = zip(units.starts.tolist(), units.ends.tolist(), strict=True)
    return units, [text[start:end] for start, end in bounds]


def satellites(text: str) -> dict[str, str]:
    """Each satellite's text and that of its word."""
    units, pieces = cut(text)
    return {pieces[i]: pieces[units.host[i]] for i in np.flatnonzero(units.satellite).tolist()}


@pytest.mark.parametrize(
    "word",
    [
        "1,234.56",
        "v2.10.3-rc1",
        "https://example.org/a?b=c&d=1",
        "jane.doe@example.org",
        "snake_case_id",
        "__init__",
        "**kwargs",
        "arr[0]",
        "10\u00a0000",
        "2024-05-01T10:00:00Z",
        "ns::Type<T>",
        "/usr/lib/x.so.6",
        "U.S.",
        "e.g.",
        "3.14",
        "C++",
        "C#",
        "v1.2",
        "don't",
        "it’s",
        "-5",
        "$9.99",
        "50%",
        "#tag",
        "@user",
        "...",
        "—",
        ":)",
    ],
)
def test_one_word_is_one_unit(word: str) -> None:
    assert cut(f"see {word} here")[1] == ["see", word, "here"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Bulls, they", {",": "Bulls"}),
        ("they said.", {".": "said"}),
        ("in (1995) then", {"(": "1995", ")": "1995"}),
        ("¿qué? no", {"¿": "qué", "?": "qué"}),
        ("wait?! no...", {"?!": "wait", "...": "no"}),
        ("v1.2.", {".": "v1.2"}),
        ("C++,", {",": "C++"}),
        ("a **bold** b", {"**": "bold"}),
        ('"not in pairs,', {",": "pairs"}),
        ("预算。北", {"。": "预算"}),
    ],
)
def test_punctuation_at_the_edges_is_a_satellite(text: str, found: dict[str, str]) -> None:
    assert satellites(text) == found


def test_brackets_are_paired_over_words_and_nested() -> None:
    units, pieces = cut("so (see the [old] figure) then")
    partner = {pieces[i]: pieces[units.partner[i]] for i in range(len(units))}
    assert (partner["("], partner["["]) == (")", "]")


def test_a_bracket_without_a_partner_stays_with_its_word() -> None:
    units, pieces = cut('a) one (two 5" end')
    for lone, word in ((")", "a"), ("(", "two"), ('"', "5")):
        index = pieces.index(lone)
        assert pieces[units.leader[index]] == word
        assert not units.satellite[index]


@pytest.mark.parametrize(
    ("brackets", "partners"),
    [
        ("()", [1, 0]),
        ("(())", [3, 2, 1, 0]),
        ("(()", [-1, 2, 1]),
        ("())", [1, 0, -1]),
        (")(", [-1, -1]),
        (")()(", [-1, 2, 1, -1]),
        ("([)]", [2, 3, 0, 1]),
        ("", []),
    ],
)
def test_pairing(brackets: str, partners: list[int]) -> None:
    families = np.array([10 if character in "()" else 11 for character in brackets], np.uint8)
    opens = np.array([character in "([" for character in brackets], bool)
    assert pair_up(families, opens).tolist() == partners


def test_structure_is_one_unit_each() -> None:
    text = "# The costs\n\nsee [the docs](x) “or not”\n\n| a | b |\n|---|---|\n| 1 | 2 3 |\n"
    units, pieces = cut(text)
    assert pieces == [
        "# The costs", "see", "[the docs](x)", "“or not”", "| a | b |", "|---|---|", "| 1 | 2 3 |",
    ]  # fmt: skip
    assert units.dependent.tolist() == [False] * 4 + [True, True, False]
    assert len(set(units.group[4:].tolist())) == 1
    assert units.words.tolist()[:4] == [3, 1, 2, 2]


def test_pieces_of_a_heading_that_protected_text_breaks_up_share_one_fate() -> None:
    text = "# Release 2.0 notes\n"
    start = text.index("2.0")
    units, pieces = cut(text, frozen=[(start, start + 3)])
    assert pieces == ["# Release ", "2.0", " notes"]
    assert units.leader.tolist() == [0, 1, 0]
    assert units.choosable.tolist() == [True, False, False]


def test_punctuation_beside_protected_text_belongs_to_it() -> None:
    text = "see (https://x.org), now"
    start = text.index("https")
    units, pieces = cut(text, frozen=[(start, start + 13)])
    assert pieces == ["see", "(", "https://x.org", ")", ",", "now"]
    assert units.host.tolist() == [0, 2, 2, 2, 2, 5]
    assert units.partner[1] == 3


def test_a_unit_ends_at_the_border_of_a_span() -> None:
    assert cut("alphabet", cuts=[0, 5, 8])[1] == ["alpha", "bet"]


def test_any_text_has_units_without_gaps_but_blanks() -> None:
    for text in ("", " ", "\n", "\ud800", "\u0301", "a\u0301,\u0301 b", "\u200d(\u200d)"):
        units, pieces = cut(text)
        assert "".join(pieces) == "".join(text.split())
        assert len(units) == len(pieces)
