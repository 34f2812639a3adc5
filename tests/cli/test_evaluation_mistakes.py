"""What the caller of `ctxpress eval …` got wrong is one line, exit status 2, and no output."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run

BOTH = [
    (["--set", "trivia"], "--set: nothing is called 'trivia'"),
    (["--set", ","], "--set: name at least one"),
    (["--ratios", "0"], "--ratios: numbers in (0, 1] are needed, not '0'"),
    (["--ratios", "1/0"], "--ratios: numbers in (0, 1] are needed, not '1/0'"),
    (["--ratios", "2"], "--ratios: numbers in (0, 1] are needed, not '2'"),
    (["--ratios", "half"], "--ratios: numbers in (0, 1] are needed, not 'half'"),
    (["--plot", "picture.gif"], "picture.gif: a picture's name ends in .svg or .png"),
    (["--write", "no/such/page.md"], "no/such/page.md: cannot be written"),
    (["--data", "no/such/folder"], "_dev.jsonl: no such file"),
]
COMPRESSION = [
    (["--question", "maybe"], "--question: shown, hidden or both, not 'maybe'"),
    (["--stage", "nonsense"], "--stage: JSON or key=value"),
    (["--stage", "{["], "--stage: JSON or key=value"),
    (["--stage", "use=nonsense"], "nonsense"),
    (["--stage", "keep=3"], "keep"),
    (["--pipeline", "nonsense"], "no pipeline is called 'nonsense'"),
    (["--pipeline", "balanced", "--stage", "use=x"], "--stage or --pipeline, not both"),
    (["--config", "some.yaml"], "name the pipeline of some.yaml"),
    (["--config", "none.yaml", "--pipeline", "x"], "none.yaml"),
]
RAG = [
    (["--set", "nq"], "--set: nothing is called 'nq'"),
    (["--set", ","], "--set: name at least one of rag, meeting"),
    (["--scorers", "bm25,bm52"], "--scorers: nothing is called 'bm52'; did you mean 'bm25'"),
    (["--scorers", ""], "--scorers: name at least one"),
    (["--plot", "a.svg", "--set", "meeting"], "--plot: answers against tokens are only"),
]
CASES = [
    *(("compression", *case) for case in [*BOTH, *COMPRESSION]),
    *(("rag", *case) for case in [*BOTH, *RAG]),
]


@pytest.mark.parametrize(("command", "arguments", "problem"), CASES)
def test_a_mistake_is_one_line(
    run: Run, data: Path, command: str, arguments: list[str], problem: str
) -> None:
    done = run("eval", command, "--data", data, *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert problem in done.err


@pytest.mark.parametrize(
    ("command", "file", "line", "problem"),
    [
        ("compression", "gsm8k_dev.jsonl", '{"question": 3}',
         "question: a string that is not blank is needed"),
        ("rag", "rag_dev.jsonl", '{"question": "q", "answers": ["a"], "documents": 3}',
         "documents: a list of objects is needed, not empty"),
    ],
)  # fmt: skip
def test_malformed_data_is_one_line_that_names_the_place(
    run: Run, data: Path, command: str, file: str, line: str, problem: str
) -> None:
    (data / file).write_text(f"{line}\n")
    done = run("eval", command, "--data", data)
    assert (done.status, done.out) == (2, "")
    assert done.err == f"ctxpress: {data / file}:1: {problem}\n"
