from __future__ import annotations

import random
from pathlib import Path

import pytest

from training.written import QUESTIONS, key_of, load_written, written_examples

TEXT = "The mill was built in 1871. It burned down in 1902, and was rebuilt by Ada Lind in 1904."


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(line + "\n" for line in lines), "utf-8")
    return path


def test_a_question_gets_the_sentence_that_holds_its_answer(tmp_path: Path) -> None:
    file = write(tmp_path / "q.tsv", f"{key_of(TEXT)}\twho built the mill again\tAda Lind")
    (passage,) = load_written({TEXT: "Mill"}, set(), file)
    (item,) = passage.items
    assert item.titles == ("Mill",)
    assert [TEXT[slice(*part)].strip() for part in item.quoted[0]] == [TEXT[28:]]


def test_passages_that_are_hidden_or_absent_are_left_out(tmp_path: Path) -> None:
    file = write(tmp_path / "q.tsv", f"{key_of(TEXT)}\twhen did it burn\t1902")
    assert load_written({TEXT: ""}, {TEXT}, file) == []
    assert load_written({"Other text.": ""}, set(), file) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [("no tabs", "has 1 columns, not 3"), (f"{key_of(TEXT)}\twhen\t1999", "is not in the passage")],
)
def test_a_line_that_does_not_fit_is_named(tmp_path: Path, line: str, message: str) -> None:
    file = write(tmp_path / "q.tsv", line)
    with pytest.raises(ValueError, match=message):
        load_written({TEXT: ""}, set(), file)


def test_alone_a_passage_has_all_of_its_answers(tmp_path: Path) -> None:
    key = key_of(TEXT)
    file = write(tmp_path / "q.tsv", f"{key}\twho rebuilt it\tAda Lind", f"{key}\twhen\t1902")
    written = load_written({TEXT: "Mill"}, set(), file)
    made = [e for seed in range(20) for e in written_examples(written, random.Random(seed))]
    alone = [example for example in made if example.question is None]
    assert 3 < len(alone) < 17
    for example in alone:
        assert [example.text[slice(*part)] for part in example.answers] == ["1902", "Ada Lind"]
        assert not example.has_quotes
    assert len(made) - len(alone) == 40


def test_the_file_in_the_repository_has_three_columns_and_no_line_twice() -> None:
    lines = QUESTIONS.read_text("utf-8").splitlines()
    assert len(lines) == len(set(lines)) > 6_000
    for line in lines:
        key, question, answer = line.split("\t")
        assert len(key) == 10
        assert question == question.strip()
        assert answer == answer.strip()
        assert question
        assert answer
