"""Measures of stages for documents: what is counted, on which items, and what data is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ctxpress.errors import ConfigError
from ctxpress.evaluation.datasets import DataError
from ctxpress.evaluation.plots import plot_retrieval
from ctxpress.evaluation.retrieval import (
    RagItem,
    RetrievalRow,
    concerns,
    measure_retrieval,
    read_retrieval,
)
from ctxpress.evaluation.tables import retrieval_table
from ctxpress.sdk import Pipeline
from ctxpress.testing import WordCounter
from tests.evaluation.samples import RAG, write_sets
from tests.evaluation.test_plots import png_size

COUNTER = WordCounter()


@pytest.fixture
def items(tmp_path: Path) -> list[RagItem]:
    return read_retrieval(write_sets(tmp_path), "rag")


def opener(**options: Any) -> Any:
    stage = {"use": "restructure", "scorer": "bm25", **options}
    return lambda: Pipeline.from_stages(stage, strict=True)


def row_of(**fields: Any) -> RetrievalRow:
    values = {
        "set": "rag", "measure": "answers kept", "pipeline": "bundled", "keep_ratio": 0.1,
        "items": 20, "score": 0.95, "low": 0.9, "high": 1.0, "target": 0.97,
        "tokens_before": 1000, "tokens_after": 99, "milliseconds": 12.0,
    }  # fmt: skip
    return RetrievalRow(**{**values, **fields})


def test_the_set_is_read_as_its_table_says(items: list[RagItem]) -> None:
    assert len(items) == len(RAG)
    assert items[0].gold == {"gold"}
    assert items[-1].gold == frozenset()
    assert items[0].documents[0].title is None
    assert items[0].documents[4].title == "Ostrand Mill"
    assert items[0].answers == ("1874", "in 1874")


def test_turns_of_a_meeting_are_documents(tmp_path: Path) -> None:
    (item,) = read_retrieval(write_sets(tmp_path), "meeting")
    assert [one.id for one in item.documents] == ["0", "1", "2", "3", "4"]
    assert item.relevant == {1, 4}
    assert [concerns(item, m) for m in ("answers kept", "turns kept")] == [False, True]


async def test_answers_that_survive_are_counted_where_there_is_a_gold_document(
    items: list[RagItem],
) -> None:
    ticks: list[int] = []
    row = await measure_retrieval(
        "rag", "answers kept", items, "bm25", opener(), COUNTER, keep_ratio=0.2,
        on_item=lambda: ticks.append(1),
    )  # fmt: skip
    assert len(ticks) == 4
    assert row.items == 3
    assert 0 <= row.low <= row.score <= row.high <= 1
    assert row.score > 0.5
    assert 0.05 < row.achieved_ratio <= 0.2
    assert row.target is None
    assert row.as_dict()["achieved_ratio"] == row.achieved_ratio
    whole = await measure_retrieval(
        "rag", "answers kept", items, "bm25", opener(keep_ratio=1.0), COUNTER
    )
    assert whole.score == whole.achieved_ratio == 1.0


async def test_the_gold_document_is_looked_for_at_both_ends(items: list[RagItem]) -> None:
    async def score(**options: Any) -> float:
        def open_pipeline() -> Pipeline:
            return Pipeline.from_stages(
                {"use": "reorder", "scorer": "bm25", **options}, strict=True
            )

        row = await measure_retrieval("rag", "gold at the ends", items, "x", open_pipeline, COUNTER)
        return row.score

    assert await score() == 1.0
    assert await score(min_documents=100) == 0.0


async def test_what_is_left_of_questions_without_an_answer_is_counted(items: list[RagItem]) -> None:
    opened = opener(on_empty="drop", scorer="bm25", keep_ratio=0.001)
    row = await measure_retrieval("rag", "empty without gold", items, "x", opened, COUNTER)
    assert (row.items, row.score, row.target) == (1, 1.0, 0.5)
    kept = await measure_retrieval("rag", "empty without gold", items, "x", opener(), COUNTER)
    assert kept.score == 0.0


async def test_relevant_turns_count_where_half_of_them_is_kept(tmp_path: Path) -> None:
    meetings = read_retrieval(write_sets(tmp_path), "meeting")
    whole = opener(keep_ratio=1.0)
    row = await measure_retrieval("meeting", "turns kept", meetings, "x", whole, COUNTER)
    assert row.score == 1.0
    half = await measure_retrieval(
        "meeting", "turns kept", meetings, "x", opener(), COUNTER, keep_ratio=0.4
    )
    assert 0 < half.score < 1


async def test_a_measure_that_is_about_no_item_is_an_error(items: list[RagItem]) -> None:
    with pytest.raises(DataError, match="set rag: no item to measure 'turns kept' on"):
        await measure_retrieval("rag", "turns kept", items, "x", opener(), COUNTER)


GOOD = {"question": "q", "answers": ["a"], "documents": [{"id": "1", "text": "t"}], "gold": "1"}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"question": ""}, "question: a string that is not blank"),
        ({"answers": []}, "answers: a list of strings"),
        ({"documents": []}, "documents: a list of objects is needed, not empty"),
        ({"documents": {}}, "documents: a list of objects is needed, not empty"),
        ({"documents": ["t"]}, "documents[0]: an object is needed"),
        ({"documents": [{"id": "1"}]}, "documents[0]: text: a string"),
        ({"documents": [{"id": 1, "text": "t"}]}, "documents[0]: id: a string"),
        ({"documents": [{"id": "1", "text": "t", "title": 3}]}, "documents[0]: title: a string"),
        ({"gold": "2"}, "gold: '2' is the id of no document"),
        ({"gold": ["1"]}, "gold: ['1'] is the id of no document"),
    ],
)
def test_malformed_lines_are_named(fields: dict[str, Any], problem: str, tmp_path: Path) -> None:
    path = tmp_path / "rag_dev.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps({**GOOD, **fields}) + "\n")
    assert len(read_retrieval(tmp_path, "rag", 1)) == 1
    with pytest.raises(DataError) as error:
        read_retrieval(tmp_path, "rag")
    assert f"{path}:2: {problem}" in str(error.value)


def test_an_unknown_set_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no set is called 'nq'; there are rag, meeting"):
        read_retrieval(tmp_path, "nq")
    with pytest.raises(DataError, match=r"rag_dev\.jsonl: no such file"):
        read_retrieval(tmp_path, "rag")


def test_a_table_has_a_line_a_measure_and_ratio_and_a_column_a_pipeline() -> None:
    rows = [
        row_of(),
        row_of(keep_ratio=0.05, score=0.9, low=0.8),
        row_of(pipeline="bm25", score=0.5),
        row_of(measure="gold at the ends", keep_ratio=None, target=None, pipeline="bm25"),
    ]
    lines = retrieval_table(rows).splitlines()
    assert lines[0] == (
        "| set | measure | keep | target | bundled | bm25 | 95 % interval | tokens kept | ms |"
    )
    assert lines[2] == (
        "| rag (20) | answers kept | 10 % | 0.97 | **0.950** | 0.500 | 0.900 to 1.000 "
        "| 9.9 %, 9.9 % | 12, 12 |"
    )
    assert lines[3].startswith("| rag (20) | answers kept | 5 % | 0.97 | **0.900** |  | 0.800")
    assert lines[4].startswith("| rag (20) | gold at the ends |  |  |  | **0.950** |")


def test_a_picture_of_answers_against_tokens_is_valid(tmp_path: Path) -> None:
    rows = [
        row_of(pipeline=name, keep_ratio=ratio, tokens_after=int(1000 * ratio), target=target)
        for name in ("bundled", "bm25")
        for ratio, target in ((0.2, None), (0.1, 0.97), (0.05, 0.9))
    ]
    plot_retrieval([*rows, row_of(measure="turns kept")], tmp_path / "a.png")
    width, height = png_size(tmp_path / "a.png")
    assert 800 <= width <= 2400
    assert 500 <= height <= 1200
    for name in ("a.svg", "b.svg"):
        plot_retrieval(rows, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_retrieval([row_of(measure="turns kept")], tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"ends in \.svg or \.png"):
        plot_retrieval([row_of()], tmp_path / "a.gif")
