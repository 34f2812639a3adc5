"""What counts as the same words, and which words may not differ."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.plugins.dedupe.facts import Class, classify
from ctxpress.plugins.dedupe.words import Lexicon


def same(one: str, other: str) -> bool:
    lexicon = Lexicon()
    return lexicon.read(one).key == lexicon.read(other).key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The boiler failed.", "  the BOILER\n failed"),
        ("don't", "don’t"),
        ("well-known, he said", "well known he said"),
        ("a **bold** _word_", "a bold word"),
        ("2019–2021", "2019-2021"),
        ("委员会开会。", "委员会 开会"),
    ],
)
def test_case_space_and_punctuation_do_not_count(one: str, other: str) -> None:
    assert same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("it is 5 degrees", "it is -5 degrees"),
        ("it costs 3.5", "it costs 35"),
        ("at 10:30", "at 1030"),
        ("it costs $5", "it costs €5"),
        ("by 5 %", "by 5"),
        ("x < 5", "x > 5"),
        ("It failed.", "It failed?"),
        ("version 1.2.3", "version 1.23"),
        ("कि", "की"),
        ("a1 b", "a 1b"),
    ],
)
def test_signs_points_and_marks_that_mean_something_count(one: str, other: str) -> None:
    assert not same(one, other)


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("boiler", Class.PLAIN),
        ("The", Class.PLAIN),
        ("Okafor", Class.FACT),
        ("NASA", Class.FACT),
        ("B12", Class.FACT),
        ("½", Class.FACT),
        ("get_name", Class.FACT),
        ("x", Class.FACT),
        ("she", Class.FACT),
        ("not", Class.TURNING),
        ("Didn't", Class.TURNING),
        ("nicht", Class.TURNING),
        ("increased", Class.TURNING),
        ("שלום", Class.CASELESS),
    ],
)
def test_classes_of_words(word: str, wanted: Class) -> None:
    assert classify(word, word.casefold(), unspaced=False) is wanted


def test_a_negation_binds_the_word_behind_it() -> None:
    lexicon = Lexicon()
    one = lexicon.read("it does not work and it is cheap")
    other = lexicon.read("it does work and it is not cheap")
    assert one.facts.tolist() != other.facts.tolist()


def test_two_characters_of_chinese_count_as_a_word() -> None:
    assert Lexicon().read("委员会周二开会 now").size == 4.5


@given(st.text())
def test_any_text_is_read_and_its_facts_are_words_of_it(text: str) -> None:
    reading = Lexicon().read(text)
    assert set(reading.facts.tolist()) <= set(reading.words.tolist())
    assert 0 <= reading.size <= len(text)
    assert reading.key == Lexicon().read(text).key
