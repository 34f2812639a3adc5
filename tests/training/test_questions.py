from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from training.questions import (
    Item,
    alone,
    character_labels,
    cloze,
    epoch_examples,
    find_answers,
    load_items,
    split_items,
    with_question,
)

PASSAGE = "The River Ems rises in 1,200 springs. It was first mapped by Ada Lind in 1871."
OTHER = "Springs are places where water comes out of the ground."


def item(number: int = 0, passages: tuple[str, ...] = (PASSAGE, OTHER)) -> Item:
    return Item(
        id=f"R{number:04}",
        question="who mapped the ems",
        answers=("Ada Lind", "the Ada Lind"),
        titles=("Ems", "Spring"),
        passages=passages,
        quoted=(((38, len(PASSAGE)),), ()),
        gold=0,
    )


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        ("Born in the U.S., he left.", "us", []),
        ("Born in the U.S., he left.", "u s", ["U.S"]),
        ("The Beatles, then the beatles.", "Beatles", ["Beatles", "beatles"]),
        ("a man of the people", "Man of People", ["man of the people"]),
        ("in 1995–96", "1995", ["1995"]),
        ("in 19955", "1995", []),
        ("anything", "the", []),
    ],
)
def test_answers_are_found_whatever_their_case_punctuation_and_articles(
    text: str, answer: str, found: list[str]
) -> None:
    assert [text[start:end] for start, end in find_answers(text, [answer])] == found


def test_labels_move_with_the_title_in_front() -> None:
    for seed in range(30):
        example = with_question(item(), 0, random.Random(seed))
        assert example.text.endswith(PASSAGE)
        assert example.text[example.passage_start :] == PASSAGE
        (quote,) = example.quoted
        assert example.text[slice(*quote)].startswith("It was first mapped")
        (answer,) = example.answers
        assert example.text[slice(*answer)] == "Ada Lind"
        quoted, answers, unsure = character_labels(example)
        assert quoted.sum() == len(PASSAGE) - 38
        assert answers.sum() == len("Ada Lind")
        assert not unsure.any()


def test_an_answer_outside_every_quote_is_neither_right_nor_wrong() -> None:
    passages = (PASSAGE + " Ada Lind was Swedish.", "Ada Lind wrote books.")
    example = with_question(item(passages=passages), 1, random.Random(0))
    assert example.answers == ()
    assert [example.text[slice(*part)] for part in example.unsure] == ["Ada Lind"]
    first = with_question(item(passages=passages), 0, random.Random(0))
    assert len(first.answers) == len(first.unsure) == 1


def test_where_nobody_annotated_answers_quotes_say_nothing_about_them() -> None:
    bare = Item("C1", "why", (), ("Ems",), (PASSAGE,), (((0, 10),),), None)
    example = with_question(bare, 0, random.Random(1))
    _, answers, unsure = character_labels(example)
    assert not answers.any()
    assert unsure.sum() == 10


def test_a_passage_alone_has_no_quotes_to_learn() -> None:
    example = alone(item(), 0, random.Random(0))
    assert example.question is None
    assert example.has_answers
    assert not example.has_quotes


def test_a_cloze_does_not_give_its_answer_away() -> None:
    rng = random.Random(5)
    made = [cloze(PASSAGE, rng) for _ in range(200)]
    found = [example for example in made if example is not None]
    assert len(found) > 50
    for example in found:
        (answer,) = example.answers
        (sentence,) = example.quoted
        assert sentence[0] <= answer[0] < answer[1] <= sentence[1]
        assert example.question is not None
        assert example.text[slice(*answer)].lower() not in example.question


def test_no_training_item_holds_a_passage_that_helps_a_held_out_question() -> None:
    items = [item(n, (f"{n // 3} {PASSAGE}", OTHER)) for n in range(300)]
    train, held = split_items(items, 0.1)
    assert 10 < len(held) < 60
    hidden = {part.passages[0] for part in held}
    assert not hidden & {text for part in train for text in part.passages}
    assert all(len(p.passages) == len(p.titles) == len(p.quoted) for p in train)


def test_an_epoch_asks_every_question_of_every_useful_passage() -> None:
    items = [item(n) for n in range(40)]
    examples = list(epoch_examples(items, random.Random(3)))
    asked = [e for e in examples if e.question and e.question.lower().startswith("who mapped the")]
    assert len([e for e in asked if e.quoted]) >= 40


def test_a_quote_outside_its_passage_is_refused(tmp_path: Path) -> None:
    row = {
        "id": "R1",
        "question": "q",
        "answers": [],
        "passages": [{"title": "t", "text": "short"}],
        "gold": None,
        "quotes": [{"major": 1, "minor": 1, "passage": 0, "start": 2, "end": 9}],
    }
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps(row) + "\n", "utf-8")
    with pytest.raises(ValueError, match="item R1: a quote lies outside its passage"):
        load_items(path)
