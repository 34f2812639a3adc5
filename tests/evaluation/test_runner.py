"""Compressors side by side: budgets, rows, targets; with the bundled model on three items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from ctxpress.errors import StageError
from ctxpress.evaluation.compressors import (
    Compressed,
    Compressor,
    PipelineCompressor,
    baselines,
)
from ctxpress.evaluation.datasets import Item, read_items
from ctxpress.evaluation.runner import Row, evaluate, target_of, views_of
from ctxpress.evaluation.tables import markdown_tables
from ctxpress.sdk import Pipeline, acompress
from ctxpress.tokens import create_counter
from tests.evaluation.samples import write_sets

COUNTER = create_counter(None)


@pytest.fixture
def questions(tmp_path: Path) -> list[Item]:
    return read_items(write_sets(tmp_path), "nq")


def bundled(**options: object) -> PipelineCompressor:
    stage = {"use": "token_classification", **options}
    return PipelineCompressor("bundled", lambda: Pipeline.from_stages(stage, strict=True))


@dataclass
class Recorder:
    """Keeps everything and remembers the questions that it was shown."""

    reads_questions: bool = True
    name: str = "recorder"

    def __post_init__(self) -> None:
        self.questions: list[str | None] = []

    async def compress(self, text: str, question: str | None, keep_ratio: float) -> Compressed:
        self.questions.append(question)
        return Compressed(text=text, kept=(), seconds=0.5, untouched="as it came")


async def test_a_row_says_what_survived_and_what_it_cost(questions: list[Item]) -> None:
    ticks: list[int] = []
    row = await evaluate(
        "nq", questions, bundled(), COUNTER, view="hidden", keep_ratio=0.5,
        on_item=lambda: ticks.append(1),
    )  # fmt: skip
    assert len(ticks) == row.items == 3
    assert 0 <= row.low <= row.score <= row.high <= 1
    assert row.tokens_before == sum(COUNTER.count(item.text) for item in questions)
    assert 0.35 < row.achieved_ratio <= 0.5
    assert row.tokens_per_second > 0
    assert (row.target, row.untouched, row.contrast) == (0.88, 0, None)


async def test_the_pipelines_counts_are_its_own_reports(questions: list[Item]) -> None:
    result = await acompress(questions[0].text, keep_ratio=0.5)
    row = await evaluate("nq", questions[:1], bundled(), COUNTER, view="hidden", keep_ratio=0.5)
    assert result.report.counter == COUNTER.identity
    assert (row.tokens_before, row.tokens_after) == (result.tokens_before, result.tokens_after)


async def test_all_numbers_survive_where_digits_are_kept(tmp_path: Path) -> None:
    problems = read_items(write_sets(tmp_path), "gsm8k")
    compressor = bundled(force_reserve_digit=True)
    row = await evaluate("gsm8k", problems, compressor, COUNTER, view="hidden", keep_ratio=0.2)
    assert (row.score, row.target) == (1.0, 1.0)


async def test_meetings_have_a_contrast(tmp_path: Path) -> None:
    meetings = read_items(write_sets(tmp_path), "meeting")
    row = await evaluate("meeting", meetings, bundled(), COUNTER, view="shown", keep_ratio=0.5)
    assert row.contrast is not None
    assert row.score > row.contrast  # fillers go first


async def test_the_question_is_shown_only_where_it_is_asked_for(questions: list[Item]) -> None:
    recorder = Recorder()
    for view in ("hidden", "shown"):
        row = await evaluate("nq", questions, recorder, COUNTER, view=view, keep_ratio=0.5)  # type: ignore[arg-type]
        assert (row.untouched, row.untouched_reason) == (3, "as it came")
        assert row.score == 1
    assert recorder.questions == [None] * 3 + [item.question for item in questions]
    assert row.tokens_per_second == pytest.approx(row.tokens_before / 1.5)


def test_compressors_run_once_where_there_is_no_question_to_read(
    questions: list[Item], tmp_path: Path
) -> None:
    both = ("hidden", "shown")
    assert views_of(questions, Recorder(), both) == ["hidden", "shown"]
    assert views_of(questions, Recorder(reads_questions=False), both) == ["unread"]
    assert views_of(read_items(tmp_path, "gsm8k"), Recorder(), both) == ["hidden"]


@pytest.mark.parametrize("keep_ratio", [0.01, 0.2, 0.5, 1.0])
async def test_baselines_get_the_same_budget(questions: list[Item], keep_ratio: float) -> None:
    texts = [item.text for item in questions]
    for compressor in baselines(COUNTER, texts):
        for text in texts:
            done = await compressor.compress(text, None, keep_ratio)
            budget = int(keep_ratio * COUNTER.count(text))
            assert COUNTER.count(done.text) <= max(budget, 2)
            assert "".join(text[a:b] for a, b in done.kept) == done.text
            if keep_ratio == 1:
                assert done.text == text
            elif keep_ratio >= 0.2:
                assert COUNTER.count(done.text) > 0.7 * budget


async def test_each_baseline_keeps_what_its_name_says() -> None:
    texts = ["common common rare common words", "common words"]
    by_name: dict[str, Compressor] = {one.name: one for one in baselines(COUNTER, texts)}
    head = await by_name["head"].compress(texts[0], None, 0.5)
    assert texts[0].startswith(head.text)
    rarity = await by_name["word rarity"].compress(texts[0], None, 0.3)
    assert rarity.text.strip() == "rare"
    random = [await by_name["random words"].compress(texts[0], None, 0.5) for _ in range(2)]
    assert random[0].text == random[1].text
    for one in by_name.values():
        assert (await one.compress("", None, 0.5)).text == ""


async def test_a_compressor_that_fails_is_no_row_of_zeros(questions: list[Item]) -> None:
    class Failing(Recorder):
        async def compress(self, text: str, question: str | None, keep_ratio: float) -> Compressed:
            raise StageError("the model is broken")

    with pytest.raises(StageError, match="broken"):
        await evaluate("nq", questions, Failing(), COUNTER, view="hidden", keep_ratio=0.5)


@pytest.mark.parametrize(
    ("name", "view", "ratio", "target"),
    [
        ("nq", "hidden", 0.5, 0.88),
        ("nq", "hidden", 1 / 3, 0.76),
        ("nq", "hidden", 0.33, 0.76),
        ("nq", "hidden", 0.2, 0.60),
        ("nq", "shown", 1 / 3, 0.94),
        ("nq", "shown", 0.2, 0.87),
        ("nq", "shown", 0.5, None),
        ("nq", "hidden", 0.3, None),
        ("nq", "unread", 0.5, None),
        ("gsm8k", "hidden", 0.7, 1.0),
        ("meeting", "hidden", 0.5, None),
    ],
)
def test_targets(name: str, view: str, ratio: float, target: float | None) -> None:
    assert target_of(name, view, ratio) == target  # type: ignore[arg-type]


def row_of(**fields: object) -> Row:
    values: dict[str, object] = {
        "set": "nq", "compressor": "bundled", "question": "hidden", "keep_ratio": 0.5, "items": 3,
        "score": 0.9, "low": 0.8, "high": 1.0, "contrast": None, "target": 0.88,
        "tokens_before": 1000, "tokens_after": 490, "tokens_per_second": 12345.6,
        "untouched": 0, "untouched_reason": None,
    }  # fmt: skip
    return Row(**(values | fields))  # type: ignore[arg-type]


def test_the_table_puts_targets_and_baselines_beside_the_pipeline() -> None:
    rows: Sequence[Row] = [
        row_of(),
        row_of(question="shown", score=0.95, target=None, untouched=1, untouched_reason="short"),
        row_of(compressor="head", question="unread", score=0.25, target=None),
        row_of(set="meeting", target=None, contrast=0.4),
    ]
    text = markdown_tables(rows)
    lines = text.splitlines()
    assert (
        "| hidden | 50 % | 0.88 | **0.900** | 0.800 to 1.000 | 0.250 | 49.0 % | 12,346 |" in lines
    )
    assert "| shown | 50 % |  | **0.950** | 0.800 to 1.000 | 0.250 | 49.0 % | 12,346 |" in lines
    assert "3 items, 1,000 tokens. Left whole: up to 1 of 3 (short)." in lines
    assert "**0.900 / 0.400**" in text
    tables = [line for line in lines if line.startswith("|")]
    assert {line.count("|") for line in tables[:4]} == {tables[0].count("|")}
