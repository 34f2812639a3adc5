from __future__ import annotations

import pytest

from ctxpress.plugins.token_classification.structure import find_structure


def bonds(text: str) -> list[str]:
    return [text[start:end] for start, end in find_structure(text).bonds]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('he said "not so fast", then', ['"not so fast"']),
        ("the “old mill” and «la vie»", ["“old mill”", "«la vie»"]),
        ("run `make test -x` now", ["`make test -x`"]),
        ("「明日も」と『本』", ["「明日も」", "『本』"]),
        (
            "see [the docs](https://x.org/a_(b)) or ![pic](a.png)",
            ["[the docs](https://x.org/a_(b))", "![pic](a.png)"],
        ),
        ("as shown [3] and [4, 5], (a) first", ["[3]", "[4, 5]", "(a)"]),
        ("## Costs of it\ntext", ["## Costs of it"]),
        ("don't, it's, the boys' 'n' 5\" nail", []),
        ('one " alone', []),
        ('a 5" nail and a 6" nail', []),
        ('"never closed\nbut here"', []),
        ('"one two three four five six seven eight nine"', []),
        ("“" + "x" * 90 + "”", []),
        ("a | b\nno table", []),
        ("#hashtag is no heading", []),
    ],
)
def test_bonds(text: str, found: list[str]) -> None:
    assert bonds(text) == found


def test_a_table_has_a_head_and_rows() -> None:
    text = "before\n\n| a | b |\n|---|:-:|\n| 1 | 2 |\n| 3 | 4 |\n\nafter | not\n"
    (table,) = find_structure(text).tables
    head, rows = ([text[start:end] for start, end in part] for part in table)
    assert head == ["| a | b |", "|---|:-:|"]
    assert rows == ["| 1 | 2 |", "| 3 | 4 |"]


def test_a_table_without_outer_bars_and_one_without_rows() -> None:
    text = "a | b\n--|--\n1 | 2\n\nx | y\n--|--"
    tables = find_structure(text).tables
    assert [len(rows) for _, rows in tables] == [1, 0]


def test_a_row_swallows_the_quotation_in_it() -> None:
    text = '| a |\n|---|\n| "b c" | [3] |\n'
    assert bonds(text) == ["| a |", "|---|", '| "b c" | [3] |']


def test_markers_win_over_citations() -> None:
    text = "[1] first passage\n- [2] second\n  1. third"
    structure = find_structure(text)
    assert structure.bonds == []
    assert [text[a:b] for a, b in structure.markers] == ["[1] ", "- [2] ", "  1. "]


def test_emphasis_is_found_in_pairs() -> None:
    text = "a **very bold** word, *one* and 2 * 3 * 4 or *args"
    found = [text[a[0] : b[1]] for a, b in find_structure(text).emphasis]
    assert found == ["**very bold**", "*one*"]


@pytest.mark.parametrize("word", ["U.S.", "e.g.", "Mr.", "Inc.", "fig.", "Ph.D."])
def test_abbreviations(word: str) -> None:
    text = f"so {word} it is."
    assert find_structure(text).abbreviations == [text.index(word) + len(word) - 1]


def test_the_word_no_ends_a_sentence_unless_a_number_follows() -> None:
    text = "He said no. See no. 5 and Nos. 6."
    assert find_structure(text).abbreviations == [text.index(". 5"), text.index(". 6")]


def test_an_initial_is_an_abbreviation_only_before_a_name() -> None:
    text = "George W. Bush chose plan B."
    assert find_structure(text).abbreviations == [text.index(". Bush")]
