"""Readers take the documented forms and name file and line of all others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ctxpress.document import Range
from ctxpress.errors import CtxpressError
from ctxpress.evaluation.datasets import DataError, MeetingItem, read_items
from tests.evaluation.samples import MEETINGS, QUESTIONS, SETS, write_sets


def test_every_set_is_read_in_order(tmp_path: Path) -> None:
    write_sets(tmp_path)
    for name, rows in SETS.items():
        assert len(read_items(tmp_path, name)) == len(rows)
    assert [item.question for item in read_items(tmp_path, "nq")] == [
        row["question"] for row in QUESTIONS
    ]
    assert all(item.question is None for item in read_items(tmp_path, "gsm8k"))
    assert [item.text for item in read_items(tmp_path, "nq", 1)] == [QUESTIONS[0]["text"]]


def test_nothing_is_lost_of_an_untouched_text(tmp_path: Path) -> None:
    write_sets(tmp_path)
    for name in SETS:
        for item in read_items(tmp_path, name):
            assert item.score(item.text, (Range(0, len(item.text)),)).value == 1
            assert item.score("", ()).value == 0


@pytest.mark.parametrize(
    ("name", "line", "problem"),
    [
        ("nq", "{", "not JSON"),
        ("nq", "[" * 100_000, "not JSON"),
        ("nq", "[]", "an object is needed, not list"),
        ("nq", '{"question": "q", "answers": "1995", "text": "t"}', "answers: a list of strings"),
        ("nq", '{"question": "q", "answers": [], "text": "t"}', "answers: a list of strings"),
        ("nq", '{"question": "q", "answers": [1], "text": "t"}', "answers: a list of strings"),
        ("nq", '{"question": "q", "answers": ["a"]}', "text: a string that is not blank"),
        ("nq", '{"question": " ", "answers": ["a"], "text": "t"}', "question: a string"),
        ("gsm8k", '{"answer": "3"}', "question: a string"),
        ("meeting", '{"question": "q", "turns": ["a"], "relevant": [1]}', "1 is no index of 1"),
        ("meeting", '{"question": "q", "turns": ["a"], "relevant": [true]}', "True is no index"),
        ("meeting", '{"question": "q", "turns": ["a"], "relevant": []}', "a list of indices"),
        ("meeting", '{"question": "q", "turns": "a", "relevant": [0]}', "turns: a list of strings"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, name: str, line: str, problem: str) -> None:
    path = tmp_path / f"{name}_dev.jsonl"
    path.write_text(f"{json.dumps(SETS[name][0])}\n\n{line}\n", "utf-8")
    with pytest.raises(DataError) as error:
        read_items(tmp_path, name)
    assert str(error.value).startswith(f"{path}:3: ")
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_a_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nq_dev.jsonl: no such file"):
        read_items(tmp_path, "nq")
    with pytest.raises(DataError, match="no set is called 'trivia'; there are nq, gsm8k, meeting"):
        read_items(tmp_path, "trivia")
    (tmp_path / "nq_dev.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read_items(tmp_path, "nq")
    (tmp_path / "nq_dev.jsonl").write_bytes(b"\n\n")
    with pytest.raises(DataError, match="no items"):
        read_items(tmp_path, "nq")


def test_a_meeting_scores_relevant_turns_apart_from_the_others() -> None:
    row = MEETINGS[0]
    meeting = MeetingItem(
        question=row["question"], turns=tuple(row["turns"]), relevant=frozenset(row["relevant"])
    )
    lines = meeting.text.split("\n")
    start = len(lines[0]) + 1
    kept = (Range(start, start + len(lines[1])),)  # the first of two relevant turns
    score = meeting.score(lines[1], kept)
    # Six content words stand in it: Design, battery, rechargeable, lithium, eighteen, hours; and
    # four in the other: Chair, lithium, battery, decided.
    assert score.value == pytest.approx(6 / 10)
    assert score.contrast == 0


def test_a_meeting_cannot_score_a_text_that_was_rewritten() -> None:
    meeting = MeetingItem(question="q", turns=("one", "two"), relevant=frozenset([0]))
    with pytest.raises(CtxpressError, match="nothing but delete"):
        meeting.score("uno", (Range(0, 3),))
