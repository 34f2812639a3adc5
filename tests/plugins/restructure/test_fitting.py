"""Which pieces are chosen, what they cost, and which ranges of a passage that means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.arrangement import Passage
from ctxpress.document import Range, Source
from ctxpress.plugins.restructure.fitting import Choice, Fitting, ranges_to_keep
from ctxpress.plugins.restructure.headings import heading, headings
from ctxpress.plugins.restructure.llm import Quoted
from ctxpress.plugins.restructure.pieces import Piece, Pieces, pieces_of_quotes
from ctxpress.testing import WordCounter

count = WordCounter().count


def passage(
    text: str, number: int = 0, fixed: tuple[Range, ...] = (), **options: object
) -> Passage:
    source = Source(id=f"d{number}")
    fields = {"row": "", "source": source, "pinned": False, **options}
    return Passage(number=number, text=text, fixed=fixed, **fields)  # type: ignore[arg-type]


def pieces(text: str, *scores: float, number: int = 0) -> list[Piece]:
    """The words of a text, with scores."""
    found, at = [], 0
    for word, score in zip(text.split(" "), scores, strict=True):
        end = min(len(text), at + len(word) + 1)
        found.append(Piece(number, Range(at, end), score))
        at = end
    return found


def chosen(choice: Choice, passages: list[Passage]) -> list[str]:
    return [
        "".join(passages[number].text[a:b] for a, b in ranges)
        for number, ranges in sorted(choice.keep.items())
    ]


def test_the_best_pieces_that_fit_are_chosen() -> None:
    text = "one two-2 three four"
    fitting = Fitting([passage(text)], Pieces(tuple(pieces(text, 0.1, 0.9, 0.8, 0.7))), count)
    assert chosen(fitting.choose(3), [passage(text)]) == ["two-2"]
    assert chosen(fitting.choose(4), [passage(text)]) == ["two-2 three"]
    assert chosen(fitting.choose(2), [passage(text)]) == ["three four"]  # the best is too long
    assert chosen(fitting.choose(100), [passage(text)]) == [text]
    assert fitting.choose(0).keep == fitting.choose(-5).keep == {}


def test_what_a_chosen_piece_leans_on_comes_up_at_its_own_score() -> None:
    text = "one two three"
    one, two, three = pieces(text, 0.0, 0.9, 0.5)
    for score, expected in [(0.6, "one two"), (0.4, "two three")]:
        leans = {two: Piece(0, one.range, score)}
        fitting = Fitting([passage(text)], Pieces((two, three), leans), count)
        assert chosen(fitting.choose(2), [passage(text)]) == [expected]
    assert chosen(fitting.choose(3), [passage(text)]) == [text]


def test_a_chain_of_pieces_that_lean_on_each_other_is_followed() -> None:
    text = "one two three four"
    one, two, three, four = pieces(text, 0.0, 0.1, 0.9, 0.2)
    leans = {three: Piece(0, two.range, 0.3), two: Piece(0, one.range, 0.05)}
    fitting = Fitting([passage(text)], Pieces((two, three, four), leans), count)
    assert chosen(fitting.choose(3), [passage(text)]) == ["two three four"]
    assert chosen(fitting.choose(4), [passage(text)]) == [text]


def test_headings_and_protected_text_cost_tokens_once_and_pinned_text_none() -> None:
    fixed = (Range(4, 12),)  # "two-four"
    for pinned, budget in [(False, 1 + 2 + 3), (True, 1 + 2)]:
        passages = [passage("one two-four five", fixed=fixed, pinned=pinned)]
        piece = Piece(0, Range(0, 4), 0.9)
        fitting = Fitting(passages, Pieces((piece,)), count, head_of=lambda one: "two words\n")
        assert fitting.choose(budget - 1).keep == {}
        assert chosen(fitting.choose(budget), passages) == ["one two-four"]


def test_forced_pieces_stay_and_take_their_part_first() -> None:
    text = "one two three"
    one, two, three = pieces(text, 0.1, 0.9, 0.8)
    fitting = Fitting([passage(text)], Pieces((two, three)), count, forced=[one])
    assert chosen(fitting.choose(-1), [passage(text)]) == ["one"]
    assert chosen(fitting.choose(2), [passage(text)]) == ["one two"]


@st.composite
def choices(draw):
    words = draw(st.lists(st.text("ab,.-", min_size=1, max_size=6), min_size=1, max_size=12))
    texts = [" ".join(words[n::3]) for n in range(3) if words[n::3]]
    found = []
    for number, text in enumerate(texts):
        scores = draw(st.lists(st.floats(0, 1), min_size=len(text.split(" ")),
                               max_size=len(text.split(" "))))  # fmt: skip
        found += pieces(text, *scores, number=number)
    return texts, found, draw(st.integers(0, 40))


@given(choices())
def test_costs_that_add_up_are_kept_exactly(given_choice) -> None:
    texts, found, budget = given_choice
    passages = [passage(text, number) for number, text in enumerate(texts)]
    choice = Fitting(passages, Pieces(tuple(found)), count).choose(budget)
    assert sum(map(count, chosen(choice, passages))) <= budget
    for number, score in choice.scores.items():
        assert score <= max(piece.score for piece in found if piece.passage == number)


ranges = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=6).map(
    lambda pairs: [Range(min(pair), max(pair)) for pair in pairs]
)


@given(st.text("ab \n。", min_size=30, max_size=30), ranges, ranges)
def test_ranges_are_apart_ascending_and_hold_all_that_is_protected(text, kept, fixed) -> None:
    fixed = sorted(fixed)
    apart = [a for n, a in enumerate(fixed) if a.start < a.end and
             all(b.end <= a.start for b in fixed[:n])]  # fmt: skip
    found = ranges_to_keep(passage(text, fixed=tuple(apart)), kept)
    assert all(0 <= start < end <= 30 for start, end in found)
    assert all(one.end <= other.start for one, other in zip(found, found[1:], strict=False))
    inside = {n for start, end in found for n in range(start, end)}
    assert inside >= {n for start, end in apart for n in range(start, end)}
    assert {n for r in kept for n in range(*r) if not text[n].isspace()} <= inside
    extra = inside - {n for r in [*kept, *apart] for n in range(*r)}
    assert all(text[n].isspace() for n in extra)
    if found and found != (Range(0, 30),):
        for end, edge in ((found[0].start, min), (found[-1].end - 1, max)):
            of_fixed = {edge(piece.start, piece.end - 1) for piece in apart}
            assert not text[end].isspace() or end in {n for r in apart for n in range(*r)}, of_fixed


@pytest.mark.parametrize(
    ("text", "kept", "fixed", "expected"),
    [
        ("One. Two. Three.", [(0, 5), (10, 16)], [], "One. Three."),
        ("One two three", [(0, 3), (8, 13)], [], "One three"),  # quotes, cut at words
        ("See a.b/c here. Next.", [(16, 21)], [(4, 9)], "a.b/c Next."),
        ("第一。第二 x。第三。", [(0, 3), (8, 11)], [], "第一。第三。"),
        ("\n One. Two.\n", [(0, 7)], [], "One."),
        ("\n One.\n", [(0, 7)], [], "\n One.\n"),
        (" a  b ", [(0, 6)], [(0, 1)], " a  b "),
        ("  \nX y z", [(0, 5)], [(0, 1)], "  \nX"),
    ],
)
def test_words_do_not_run_together_and_ends_are_trimmed(
    text: str, kept: list[tuple[int, int]], fixed: list[tuple[int, int]], expected: str
) -> None:
    one = passage(text, fixed=tuple(Range(*piece) for piece in fixed))
    found = ranges_to_keep(one, [Range(*piece) for piece in kept])
    assert "".join(text[start:end] for start, end in found) == expected


def test_quotes_are_worth_as_much_as_they_come_early() -> None:
    passages = [passage("It is. He was. They are."), passage("Go on.", 1)]
    quotes = [
        Quoted(passage=1, ranges=(Range(0, 6),), major=1),
        Quoted(passage=0, ranges=(Range(0, 14), Range(15, 24)), major=2),
    ]
    found = pieces_of_quotes(passages, quotes)
    assert [(p.passage, p.range) for p in sorted(found.wanted, key=lambda p: -p.score)] == [
        (1, (0, 6)),
        (0, (0, 7)),
        (0, (7, 14)),
        (0, (15, 24)),
    ]
    assert set(found.best) == {0, 1}
    assert set(pieces_of_quotes(passages, []).best) == {0, 1}


def test_a_heading_is_one_line_whatever_the_title() -> None:
    def titled(title: str | None, name: str = "7") -> str:
        return heading(passage("x", source=Source(id=name, title=title)), 2, 10)

    assert titled("A title\n\t with \r breaks ") == "2.10. ## A title with breaks\n"
    assert titled(None) == titled(" \n") == "2.10. ## Document 7\n"
    assert titled(None, "") == "2.10. ## Document 1\n"
    assert titled("\ud800") == "2.10. ## ?\n"
    assert len(titled("long " * 1_000)) < 220


def test_numbers_rise_by_one_in_the_order_of_reading() -> None:
    rows = ["a", "b", "a", "b", "a"]
    passages = [passage("x", n, row=row) for n, row in enumerate(rows)]
    groups = {4: 0, 1: 0, 2: 0, 3: 1, 0: 2}
    found = headings(passages, list(groups), groups)
    numbers = {number: text.split(" ")[0] for number, text in found.items()}
    assert numbers == {4: "1.1.", 2: "1.2.", 0: "2.1.", 1: "3.1.", 3: "4.1."}
