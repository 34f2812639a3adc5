"""Words as they are compared: forms of one word are one, in any script, for any string."""

from __future__ import annotations

from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.relevance.words import words_among, words_of


@pytest.mark.parametrize(
    "forms",
    [
        "repair repairs repaired repairing",
        "move moves moved moving",
        "city cities",
        "box boxes",
        "church churches",
        "stop stops stopped stopping",
        "quick quickly",
        "company company's companies COMPANY",
        "straße STRASSE",
        "ﬁle file ｆｉｌｅ",
    ],
)
def test_forms_of_a_word_are_one(forms: str) -> None:
    assert len({tuple(words_of(form)) for form in forms.split()}) == 1


@pytest.mark.parametrize(
    "different", ["king ring", "bus bed", "gas grass", "1867 1868", "3.5 35", "red reed", "not no"]
)
def test_different_words_stay_apart(different: str) -> None:
    first, second = different.split()
    assert words_of(first) != words_of(second)
    assert words_of(first)
    assert words_of(second)


def test_function_words_are_left_out_and_negations_are_not() -> None:
    assert words_of("Who is the author of it?") == words_of("author")
    assert words_of("what was this") == []
    assert words_of("it is not so") == ["not"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("供暖系统", ["供暖", "暖系", "系统"]),
        ("猫", ["猫"]),
        ("GPU性能", ["gpu", "性能"]),
        ("사과를", ["사과", "과를"]),
        ("ราคา", ["รา", "าค", "คา"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("שָׁלוֹם", ["שָׁלוֹם"]),
        ("Größe, über", ["grösse", "über"]),
        ("не знаю", ["не", "знаю"]),
        ("e-mail: a_b", ["e", "mail", "b"]),
        ("1,234.50 euros", ["1,234.50", "euro"]),
    ],
)
def test_scripts_have_their_own_units(text: str, expected: list[str]) -> None:
    assert [normalize("NFC", word) for word in words_of(text)] == [
        normalize("NFC", word) for word in expected
    ]


@given(st.text(max_size=200))
def test_any_string_has_words_without_blanks(text: str) -> None:
    for word in words_of(text):
        assert word
        assert not any(character.isspace() for character in word)


@given(st.text(alphabet="abcdefginslyz' ’.", max_size=60))
def test_latin_words_are_never_lost_to_folding(text: str) -> None:
    runs = [run for run in text.split() if len(run) > 8 and run.isalpha()]
    assert len(words_of(" ".join(runs))) == len(runs)


@pytest.mark.parametrize("text", ["a" * 500_000, "猫" * 200_000, "'" * 500_000, "1." * 200_000])
def test_long_texts_take_no_longer_than_they_are_long(text: str) -> None:
    assert len(words_of(text)) <= len(text)  # quadratic work would run into the time limit


WORDS = ["studies", "Studied", "the", "boxes", "塔高い", "running", "runs", "dies", "tied", "3.14"]
STEMS = st.sampled_from(["studi", "box", "run", "die", "di", "ti", "塔高", "3.14"])


@given(
    st.text(max_size=200) | st.lists(st.sampled_from(WORDS), max_size=20).map(" ".join),
    st.sets(STEMS),
)
def test_words_among_are_the_wanted_ones_in_their_places(text: str, wanted: set[str]) -> None:
    expected = [word if word in wanted else None for word in words_of(text)]
    assert words_among(text, wanted) == expected


@given(st.text(st.characters(max_codepoint=127)))
def test_text_in_ascii_has_the_words_that_it_has_among_others(text: str) -> None:
    assert [*words_of(text), "π"] == words_of(f"{text} π")
