"""Forms of encoding are asked the same questions over the same tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctxpress.engine.parallel import Mixing
from ctxpress.evaluation.kv_parallel import (
    FORMS,
    calibrate_on_tasks,
    forms_of,
    measure_parallel,
)
from ctxpress.evaluation.kv_parallel_report import parallel_page, plot_parallel
from ctxpress.evaluation.kv_tasks import generate_tasks
from tests.engine.small_worker import byte_model

MODEL = byte_model()
MIXINGS = {"sequential": None, "parallel": Mixing(), "APE": Mixing(temperature=0.7, scale=0.8)}


def test_one_document_is_the_same_in_parallel() -> None:
    tasks = generate_tasks("retrieval", n_documents=1, n_tasks=2, seed=0)
    row = measure_parallel(MODEL, tasks, MIXINGS)
    assert row.kl["sequential"] == 0
    assert row.kl["parallel"] < 1e-6
    assert row.kl["APE"] > row.kl["parallel"]
    assert row.accuracy["parallel"] == row.accuracy["sequential"]
    assert row.n_questions == sum(len(task.questions) for task in tasks)


def test_asking_in_one_form_leaves_nothing_behind_for_the_next() -> None:
    tasks = generate_tasks("retrieval", n_documents=3, n_tasks=1, seed=1)
    turned = dict(reversed(MIXINGS.items()))
    first, second = (measure_parallel(MODEL, tasks, forms) for forms in (MIXINGS, turned))
    assert first.kl == pytest.approx(second.kl)


def test_tasks_that_are_too_long_are_left_out_and_none_is_an_error() -> None:
    tasks = generate_tasks("retrieval", n_documents=64, n_tasks=1, seed=0)
    with pytest.raises(ValueError, match="no task fits into the 2048 tokens"):
        measure_parallel(MODEL, tasks, MIXINGS)


def test_a_page_and_a_picture_are_made_of_what_was_measured(tmp_path: Path) -> None:
    found = calibrate_on_tasks(MODEL, ["retrieval"], n_documents=2, n_tasks=1, answer_tokens=2)
    tasks = generate_tasks("retrieval", n_documents=2, n_tasks=1, seed=0)
    row = measure_parallel(MODEL, tasks, forms_of(found))
    assert tuple(row.accuracy) == FORMS
    page = parallel_page("small", [row], [("retrieval", found)])
    assert "| retrieval | 2 |" in page
    assert f"T {found.mixing.temperature:g}" in page
    plot_parallel([row], tmp_path / "parallel.svg")
    assert (tmp_path / "parallel.svg").read_text("utf-8").startswith("<?xml")
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_parallel([], tmp_path / "none.svg")
