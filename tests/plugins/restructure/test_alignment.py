from __future__ import annotations

import unicodedata
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.document import Range
from ctxpress.plugins.restructure.alignment import Aligner, align_quote, merge_ranges
from ctxpress.plugins.restructure.folding import fold, splits_word

TOWER = (
    "The Eiffel Tower is a lattice tower in Paris. It was named after Gustave Eiffel — whose firm "
    "built it.\nIt is 330 metres (1,083 ft) tall, about as tall as an 81‑storey building. “It’s "
    "ugly,” said some. Its base is square, 125 m on each side. More than 5.9 million people "
    "visited it in 2022."
)
REEF = "Coral reefs need warm water. They are found near coasts. Fish live in them."
TEXTS = [REEF, TOWER]


def found(quote: str, texts: list[str] | None = None, **options: int) -> tuple[int, list[str]]:
    texts = texts or TEXTS
    alignment = align_quote(quote, texts, **options)
    assert alignment is not None
    text = texts[alignment.text]
    return alignment.text, [text[start:end] for start, end in alignment.ranges]


def test_a_verbatim_quote_is_found_as_it_stands() -> None:
    assert found("They are found near coasts.") == (0, ["They are found near coasts."])
    assert found("  It was named after Gustave Eiffel\n") == (
        1,
        ["It was named after Gustave Eiffel"],
    )


@pytest.mark.parametrize(
    ("quote", "source"),
    [
        ("CORAL REEFS need warm water", "Coral reefs need warm water"),
        ("Coral   reefs\nneed warm water.", "Coral reefs need warm water."),
        ("Coral reefs need warm water!", "Coral reefs need warm water."),
        ("“Coral reefs need warm water.”", "Coral reefs need warm water."),
        ("> Coral reefs need warm water.", "Coral reefs need warm water."),
        ("**Coral reefs** need warm water", "Coral reefs need warm water"),
        ("It's ugly, said some.", "It’s ugly,” said some."),
        ('"It\'s ugly," said some.', "“It’s ugly,” said some."),
        ("Gustave Eiffel - whose firm built it", "Gustave Eiffel — whose firm built it"),
        ("Gustave Eiffel -- whose firm built it", "Gustave Eiffel — whose firm built it"),
        ("Gustave Eiffel—whose firm built it.", "Gustave Eiffel — whose firm built it."),
        ("an 81-storey building", "an 81‑storey building"),
        ("330 metres ( 1,083 ft ) tall", "330 metres (1,083 ft) tall"),
        ("ﬁrm built it", "firm built it"),
        ("whose firm built it. It is 330 metres", "whose firm built it.\nIt is 330 metres"),
    ],
)
def test_a_quote_is_found_whatever_its_looks(quote: str, source: str) -> None:
    assert found(quote)[1] == [source]


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_any_unicode_form_of_a_quote_is_found(
    form: Literal["NFC", "NFD", "NFKC", "NFKD"],
) -> None:
    text = "Im Café „Größe“ saß Ångström; Київ їжак, 한국어 문장, ﬁnale Ⅳ und ½ Liter."
    (quoted,) = found(unicodedata.normalize(form, "Größe saß Ångström; Київ їжак, 한국어"), [text])[
        1
    ]
    assert quoted == "Größe“ saß Ångström; Київ їжак, 한국어"
    (quoted,) = found(unicodedata.normalize(form, "한국어 문장, ﬁnale Ⅳ und ½ Liter."), [text])[1]
    assert quoted == "한국어 문장, ﬁnale Ⅳ und ½ Liter."


def test_a_quote_in_a_script_without_blanks() -> None:
    text = "这座塔位于巴黎。它高三百三十米,是一座铁塔。"
    assert found("它高三百三十米", [text])[1] == ["它高三百三十米"]
    assert found("它高三百三十米，是一座铁塔。", [text])[1] == ["它高三百三十米,是一座铁塔。"]


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        ("It is 33", "It is 330 metres."),
        ("It is 3.", "It is 3.14 metres."),
        ("14 metres", "It is 3.14 metres."),
        ("1 and 083", "1 and 0831"),
        ("art", "A party."),
        ("the cafe", "the cafe\u0301 is"),
        ("the cafe", "the café is"),
    ],
)
def test_no_word_or_number_is_cut_in_two(quote: str, text: str) -> None:
    assert align_quote(quote, [text]) is None


def test_a_later_place_is_taken_where_the_first_cuts_a_word() -> None:
    alignment = align_quote("art", ["The party was about art."])
    assert alignment is not None
    assert alignment.ranges == (Range(20, 23),)
    assert found("Art", ["The party was about art."])[1] == ["art"]


@pytest.mark.parametrize(
    "quote",
    [
        "It is 330 metres ... about as tall as an 81-storey building.",
        "it is 330 metres … about as tall as an 81-storey building",
        "It is 330 metres [...] about as tall as an 81-storey building.",
    ],
)
def test_an_ellipsis_stands_for_what_is_left_out(quote: str) -> None:
    pieces = found(quote)[1]
    assert pieces[0] == "It is 330 metres"
    assert pieces[1].rstrip(".") == "about as tall as an 81‑storey building"


def test_an_ellipsis_spans_as_little_as_it_can() -> None:
    text = "The tower is old. The bridge is new. The tower is of iron. It is 330 m tall."
    alignment = align_quote("The tower is ... 330 m tall.", [text])
    assert alignment is not None
    assert alignment.ranges[0].start == text.rindex("The tower")


def test_the_parts_around_an_ellipsis_must_stand_in_order() -> None:
    assert align_quote("Fish live ... Coral reefs", [REEF]) is None


def test_an_ellipsis_at_an_end_leaves_nothing_out() -> None:
    assert found("...They are found near coasts...")[1] == ["They are found near coasts."]


def test_an_ellipsis_of_the_source_is_text() -> None:
    text = "He said: well ... maybe. Then he left."
    assert found("well ... maybe", [text])[1] == ["well ... maybe"]


def test_sentences_put_together_are_found_where_they_stand() -> None:
    quote = "Its base is square, 125 m on each side. It was named after Gustave Eiffel"
    assert found(quote)[1] == [
        "It was named after Gustave Eiffel",
        "Its base is square, 125 m on each side.",
    ]


def test_of_a_reworded_quote_the_sources_own_sentence_is_taken() -> None:
    assert found("The base is square, with 125 m on each side.") == (
        1,
        ["Its base is square, 125 m on each side."],
    )
    assert found("More than 6 million people visited it in 2022.") == (
        1,
        ["More than 5.9 million people visited it in 2022."],
    )


def test_a_reworded_quote_of_two_sentences() -> None:
    text = (
        "One is this. Anna Berg was born in Oslo in 1950. She studied law in Bergen. Two is that."
    )
    quote = "Anna Berg was born in Oslo, in 1950, and studied law in Bergen."
    assert found(quote, [text])[1] == [
        "Anna Berg was born in Oslo in 1950. She studied law in Bergen."
    ]


@pytest.mark.parametrize(
    "quote",
    [
        "",
        " \n ",
        "...",
        "?!",
        "The moon is made of green cheese.",
        "The Eiffel Tower is painted green every seven years by a team of sailors.",
        "Coral reefs. Fish live. Fish live.",
        "Fish need square towers near Paris in warm water on each side.",
        "coral water coasts them",
    ],
)
def test_what_the_source_does_not_say_is_dropped(quote: str) -> None:
    assert align_quote(quote, TEXTS) is None


def test_words_scattered_over_a_long_sentence_are_no_quote() -> None:
    text = " ".join(f"item {number} of the long list of things" for number in range(99))
    assert align_quote("item 3 list things", [text]) is None


def test_words_scattered_over_a_long_text_are_no_quote() -> None:
    filler = "Nobody ever knew what happened there during all of those very long winters. " * 5
    words = "The king of Norway sold the castle to a baker".split()
    text = filler.join(f"It was {word} then. " for word in words)
    assert align_quote(" ".join(words), [text]) is None


def test_the_preferred_text_comes_first_among_equals_only() -> None:
    texts = ["It is tall. Really.", "It is tall. Indeed.", "It is  tall!"]
    assert found("It is tall.", texts)[0] == 0
    assert found("It is tall.", texts, preferred=1)[0] == 1
    assert found("It is tall.", texts, preferred=2)[0] == 0  # others have it word for word
    assert found("it is tall", texts, preferred=2)[0] == 2
    assert found("It is tall.", texts, preferred=7)[0] == 0


def test_a_reworded_quote_is_aligned_to_the_closest_text() -> None:
    texts = [
        "The old stone bridge over the river was built in 1820 by French engineers at night.",
        "The old bridge over the river was built in 1820 by French engineers.",
    ]
    quote = "The old bridge over this river was built in 1820 by French engineers."
    assert found(quote, texts)[0] == 1
    assert found(quote, texts, preferred=0)[0] == 0


def test_merged_ranges_are_apart() -> None:
    text = "ab cd ef"
    ranges = [Range(6, 8), Range(0, 2), Range(3, 4), Range(1, 2)]
    assert merge_ranges(text, ranges) == (Range(0, 4), Range(6, 8))


def check(quote: str, texts: list[str], preferred: int | None) -> None:
    alignment = align_quote(quote, texts, preferred=preferred)
    if alignment is None:
        return
    text = texts[alignment.text]
    last = 0
    assert alignment.ranges
    for start, end in alignment.ranges:
        assert last <= start < end <= len(text)
        assert text[start:end].strip()
        last = end


ALPHABET = st.sampled_from(
    [*"aAbé. ,…-—'’\"0192ﬁ\u0301\u00ad\u200b\n字", "...", " ", "ab", "İ", "ß"]
)
SMALL = st.lists(ALPHABET, max_size=60).map("".join)


@given(SMALL | st.text(), st.lists(SMALL | st.text(), max_size=3), st.none() | st.integers(-2, 3))
@settings(max_examples=200)
def test_any_quote_gives_ranges_of_a_text_or_nothing(
    quote: str, texts: list[str], preferred: int | None
) -> None:
    check(quote, texts, preferred)


@given(st.lists(st.sampled_from(TOWER.split()), max_size=40), st.integers(0, 5))
@settings(max_examples=200)
def test_any_shuffle_of_words_gives_ranges_of_a_text_or_nothing(
    words: list[str], dots: int
) -> None:
    check(" ".join(words[:dots]) + " ... " + " ".join(words[dots:]), TEXTS, 1)


@given(st.data())
def test_every_stretch_of_whole_words_is_found(data: st.DataObject) -> None:
    text = data.draw(SMALL | st.just(TOWER))
    cuts = [at for at in range(len(text) + 1) if not splits_word(text, at)]
    start, end = sorted(data.draw(st.tuples(st.sampled_from(cuts), st.sampled_from(cuts))))
    quote = text[start:end]
    stripped = quote.strip()
    inside = text.find(stripped)
    alignment = align_quote(quote, [text])
    if stripped and not splits_word(text, inside) and not splits_word(text, inside + len(stripped)):
        assert alignment is not None
        assert [text[a:b] for a, b in alignment.ranges] == [stripped]


@given(st.text() | SMALL)
def test_folded_characters_know_their_origin(text: str) -> None:
    folded = fold(text)
    assert len(folded.starts) == len(folded.text)
    assert list(folded.starts) == sorted(folded.starts)
    assert not any(character.isspace() for character in folded.text)
    for character, start in zip(folded.text, folded.starts, strict=True):
        assert character in fold(text[start]).text


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        ("a" * 10_000, "a" * 200_000),
        ("a a a a a a a a b", "a " * 100_000),
        ("the of " * 200, "the of. " * 50_000),
        ("a... " * 60, "a " * 100_000),
        ("word. " * 60 + "none", "wordy. " * 50_000),
        ("x" * 19_999, "é" * 200_000),
        ("art", "party " * 50_000),
        ("(" * 19_000, "(" * 200_000),
    ],
)
def test_hostile_texts_do_not_take_long(quote: str, text: str) -> None:
    aligner = Aligner([text] * 3)
    for _ in range(3):
        alignment = aligner.align(quote, [2])
        assert alignment is None or all(a < b for a, b in alignment.ranges)
