"""A question in a language that a scorer was not measured on: nothing is dropped because of it."""

from __future__ import annotations

from typing import Any

import pytest

from ctxpress import Pipeline

DOCUMENTS = [
    {"text": f"{text} It was written down by the committee in March.", "id": str(number)}
    for number, text in enumerate(
        ["The offer of the supplier is valid until 30 June.", "Tulips were planted at the gate."]
    )
]
QUESTION = "Bis wann gilt das Angebot des Lieferanten, und was kostet es?"
STAGES: list[dict[str, Any]] = [
    {"use": "restructure", "keep_ratio": 0.5, "on_empty": "drop"},
    {"use": "select", "keep_ratio": 0.5},
    {"use": "reorder", "min_documents": 2},
]


@pytest.mark.parametrize("stage", STAGES, ids=[str(stage["use"]) for stage in STAGES])
async def test_the_stage_leaves_the_documents_and_says_why(stage: dict[str, Any]) -> None:
    async with Pipeline.from_stages(stage) as pipeline:
        result = await pipeline.compress_documents(QUESTION, DOCUMENTS)
    assert [one.text for one in result.documents] == [one["text"] for one in DOCUMENTS]
    assert result.report.stages[0].skipped == "language"
    assert "the question is in de" in str(result.report.stages[0].reason)
    assert "bm25" in str(result.report.stages[0].reason)


async def test_a_scorer_for_any_language_takes_it() -> None:
    stage = {"use": "restructure", "keep_ratio": 0.5, "scorer": "bm25"}
    documents = [*DOCUMENTS, {"text": "Das Angebot des Lieferanten gilt bis zum 30. Juni."}]
    async with Pipeline.from_stages(stage) as pipeline:
        result = await pipeline.compress_documents(QUESTION, documents)
    assert "30. Juni" in result.text
    assert result.report.stages[0].skipped is None


async def test_a_question_that_cannot_be_told_is_taken_as_one() -> None:
    async with Pipeline.from_stages({"use": "restructure", "keep_ratio": 0.5}) as pipeline:
        result = await pipeline.compress_documents("supplier offer valid", DOCUMENTS)
    assert result.report.stages[0].skipped is None
    assert "30 June" in result.text
