from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpress.plugins.restructure.sections import (
    Section,
    parse_sections,
    render_sections,
    says_nothing,
)

Row = tuple[int, int, str | None, str]


def rows(text: str, *titles: str) -> list[Row]:
    return [(s.major, s.minor, s.title, s.quote) for s in parse_sections(text, titles=titles)]


def sections(*rows: Row) -> tuple[Section, ...]:
    return tuple(Section(major=a, minor=b, title=t, quote=q) for a, b, t, q in rows)


TOWER: Row = (1, 1, "Eiffel Tower", "The tower is 330 metres tall.")
PARIS: Row = (1, 2, "Paris", "Paris is the capital of France.")


def test_what_refiner_writes_is_read() -> None:
    text = "1.1. ## AAA\naaa\n\n1.2. ## BBB\nbbb\n\n2.1. ## CCC\nccc"
    assert rows(text) == [(1, 1, "AAA", "aaa"), (1, 2, "BBB", "bbb"), (2, 1, "CCC", "ccc")]


@pytest.mark.parametrize(
    "text",
    [
        "1.1. ## Eiffel Tower\n{A}\n1.2. ## Paris\n{B}",
        "1.1 ## Eiffel Tower\n{A}\n1.2 ## Paris\n{B}",
        "1.1. Eiffel Tower\n{A}\n\n1.2. Paris\n{B}",
        "1.1. Eiffel Tower: {A}\n1.2. Paris: {B}",
        "1.1. ## Eiffel Tower: {A}\n1.2. ## Paris: {B}",
        "**1.1. ## Eiffel Tower**\n{A}\n**1.2. ## Paris**\n{B}",
        "### 1.1. Eiffel Tower\n{A}\n### 1.2. Paris\n{B}",
        "1.1) ## **Eiffel Tower**\r\n\r\n{A}\r\n1.2) ## Paris:\r\n{B}\r\n",
        "* ## Eiffel Tower\n{A}\n* ## Paris\n{B}",
        "- Eiffel Tower: {A}\n- Paris: {B}",
        "## Eiffel Tower\n{A}\n\n## Paris\n{B}",
        "Here are the quotes:\n\n```\n1.1. ## Eiffel Tower\n{A}"
        "\n1.2. ## Paris\n{B}\n```\nTell me what else you need.",
        "Sure! Here are the quotes that help:\n\n1.1. ## Eiffel Tower\n{A}"
        "\n1.2. ## Paris\n{B}\n\n---\n\nI hope this helps!",
        "<think>1.1. ## Eiffel Tower\nis this it?</think>\n1.1. ## Eiffel Tower\n{A}"
        "\n1.2. ## Paris\n{B}",
        "1.1. ## maybe\nhm\n</think>\n1.1. ## Eiffel Tower\n{A}\n1.2. ## Paris\n{B}",
        "1.2. ## Paris\n{B}\n1.1. ## Eiffel Tower\n{A}",
        "3.4. ## Eiffel Tower\n{A}\n3.10. ## Paris\n{B}",
        "1.1. ## Eiffel Tower\n{A}\n1.2. Paris\n{B}",
    ],
)
def test_what_models_make_of_the_form_is_read(text: str) -> None:
    filled = text.replace("{A}", TOWER[3]).replace("{B}", PARIS[3])
    assert rows(filled) == [TOWER, PARIS]


def test_a_quote_goes_on_to_the_next_head() -> None:
    text = "1.1. ## A\nfirst line\n\n- a list\n2. of the document\n## its heading\n1.2. ## B\nother"
    quote = "first line\n\n- a list\n2. of the document\n## its heading"
    assert rows(text) == [(1, 1, "A", quote), (1, 2, "B", "other")]


def test_numbers_are_compared_as_integers() -> None:
    text = "".join(f"1.{n}. ## T\nquote number {n} of many\n" for n in (10, 9, 1))
    assert [row[3].split()[2] for row in rows(text)] == ["1", "9", "10"]


def test_a_number_with_ten_is_not_that_with_one() -> None:
    text = "1.1. ## A\nalpha\n1.10. ## B\nbeta"
    assert rows(text) == [(1, 1, "A", "alpha"), (1, 2, "B", "beta")]


def test_numbers_have_no_gaps_and_a_group_stays_one() -> None:
    text = "7.3. ## A\nalpha\n4.2. ## B\nbeta\n7.1. ## C\ngamma"
    assert rows(text) == [(1, 1, "B", "beta"), (2, 1, "C", "gamma"), (2, 2, "A", "alpha")]


def test_missing_minor_numbers() -> None:
    text = "1. ## A\nalpha\n1. ## B\nbeta\n2. ## C\ngamma"
    assert rows(text) == [(1, 1, "A", "alpha"), (1, 2, "B", "beta"), (2, 1, "C", "gamma")]


def test_bullets_belong_to_the_group_above_them() -> None:
    text = "1.1. ## A\nalpha\n* ## B\nbeta\n2.1. ## C\ngamma\n* ## D\ndelta"
    assert [(a, b, t) for a, b, t, _ in rows(text)] == [
        (1, 1, "A"),
        (1, 2, "B"),
        (2, 1, "C"),
        (2, 2, "D"),
    ]


def test_quotes_that_say_nothing_new_leave() -> None:
    text = (
        "1.1. ## A\nThe tower is tall.\n1.2. ## B\nIn Paris the tower is tall. The tower is tall."
        "\n1.3. ## C\nThe  tower\nis tall.\n2.1. ## D\nIn Paris the tower is tall. The tower is "
        "tall.\n2.2. ## E\nno"
    )
    assert rows(text) == [(1, 1, "B", "In Paris the tower is tall. The tower is tall.")]


def test_a_title_with_a_colon_stays_whole_where_the_quote_follows_below() -> None:
    text = "1.1. ## Star Wars: A New Hope\nThe film came out in 1977."
    assert rows(text) == [(1, 1, "Star Wars: A New Hope", "The film came out in 1977.")]


def test_known_titles_say_where_the_quote_begins() -> None:
    text = "1.1. Star Wars: A New Hope: The film came out in 1977.\n1.2. Paris: It is: big."
    assert rows(text, "Star Wars", "Star Wars: A New Hope", "Paris") == [
        (1, 1, "Star Wars: A New Hope", "The film came out in 1977."),
        (1, 2, "Paris", "It is: big."),
    ]


def test_a_sentence_behind_a_number_is_a_quote_without_a_title() -> None:
    text = "1.1. The tower is 330 metres tall.\n1.2. ## (No Title)\nIt stands in Paris."
    assert rows(text) == [
        (1, 1, None, "The tower is 330 metres tall."),
        (1, 2, None, "It stands in Paris."),
    ]


def test_a_title_without_a_quote_is_none() -> None:
    assert rows("1.1. ## Eiffel Tower\n1.2. ## Paris\nIt is large.") == [
        (1, 1, "Paris", "It is large.")
    ]


NOTHING = [
    "",
    "  \n",
    "NONE",
    "None.",
    "`none`",
    "n/a",
    "```\n```",
    "No relevant information was found in the documents.",
    "There are no relevant quotes.",
    "None of the documents help to answer the question.",
    "The documents do not contain an answer.",
    "I could not find anything relevant.",
    "I couldn't find relevant passages.",
    "<think>Nothing here helps.</think>\n\nNONE",
    "1.1. None",
    "No document helps:\n- Document 1 is about bees.\n- Document 2 is about reefs.",
]


@pytest.mark.parametrize("text", NOTHING)
def test_an_answer_that_nothing_is_relevant_has_no_sections(text: str) -> None:
    assert parse_sections(text) == ()


@pytest.mark.parametrize("text", [text for text in NOTHING if "1" not in text])
def test_an_answer_that_nothing_is_relevant_is_told_from_one_without_sections(text: str) -> None:
    assert says_nothing(text)


@pytest.mark.parametrize(
    "text", ["The tower is 330 metres tall.", "Sure, here you are.", "word " * 200 + "not relevant"]
)
def test_an_answer_without_sections_does_not_say_that_nothing_is_relevant(text: str) -> None:
    assert parse_sections(text) == ()
    assert not says_nothing(text)


def test_an_unfinished_thought_is_no_answer() -> None:
    assert parse_sections("<think>Perhaps\n1.1. ## A\nalpha beta") == ()


def test_sections_are_written_as_refiner_writes_them() -> None:
    given = sections((1, 1, "T", "quote"), (1, 2, "T\n2", "two\nlines"), (2, 1, None, "untitled"))
    assert render_sections(given) == "1.1. ## T\nquote\n1.2. ## T 2\ntwo\nlines\n2.1.\nuntitled"
    assert render_sections(()) == ""


WORDS = st.text(st.characters(categories=["L", "M", "P", "S", "N"]), max_size=8)
# What follows the first letters is any text, so no line is a head, a fence or a farewell.
LINES = st.builds(
    lambda words: "It " + " ".join(" ".join(words).split()) + " ends", st.lists(WORDS, max_size=6)
)
QUOTES = st.lists(LINES | st.just(""), min_size=1, max_size=4).map("\n".join).map(str.strip)
TITLES = st.none() | st.builds("Title {}".format, st.text("abcÄß: 12()", max_size=10)).map(
    lambda title: " ".join(title.split()).rstrip(" :")
)


@st.composite
def lists_of_sections(draw: st.DrawFn) -> tuple[Section, ...]:
    quotes = draw(st.lists(QUOTES.filter(lambda q: len(q) > 2), max_size=14))
    found: list[Section] = []
    major = minor = 0
    for number, quote in enumerate(quotes):
        if not major or draw(st.booleans()):
            major, minor = major + 1, 0
        minor += 1
        own = f"{quote}\nIt is number {number}: {quote[::-1]!r} behind."
        found.append(Section(major=major, minor=minor, title=draw(TITLES), quote=own))
    texts = [" ".join(section.quote.split()) for section in found]
    if any(a in b for i, a in enumerate(texts) for j, b in enumerate(texts) if i != j):
        return tuple(found[:1])
    return tuple(found)


@given(lists_of_sections())
def test_what_is_written_is_read_back(given: tuple[Section, ...]) -> None:
    assert parse_sections(render_sections(given)) == given


@given(st.text() | st.text("1.2#* -\n:`~abN<>/think", max_size=300))
@settings(max_examples=300)
def test_any_text_is_read_and_numbered_without_gaps(text: str) -> None:
    found = parse_sections(text, titles=["a", text[:5]])
    numbers = [(section.major, section.minor) for section in found]
    expected: list[tuple[int, int]] = []
    for major, minor in numbers:
        last = expected[-1] if expected else (0, 0)
        assert (major, minor) in ((last[0], last[1] + 1), (last[0] + 1, 1))
        expected.append((major, minor))
    assert all(len(section.quote) >= 3 for section in found)
    assert says_nothing(text) in (True, False)


@pytest.mark.parametrize(
    "text",
    [
        "#" * 200_000,
        "1." * 100_000,
        " " * 200_000,
        "---\n\n" * 40_000,
        "1.1. ## A\nx\n\n" + "---\n\n" * 40_000,
        "1.1. ## a\nqqq\n" * 15_000,
        "*_" * 100_000,
        "- \n" * 60_000,
        "1.1. " + "a: " * 60_000,
        "[\n" * 100_000,
        "1.1. ## T\n" + "\u2028 " * 90_000,
    ],
)
def test_hostile_answers_do_not_take_long(text: str) -> None:
    assert len(parse_sections(text)) <= 512
