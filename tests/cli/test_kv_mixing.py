"""`ctxpress kv mixing` says whether documents may be encoded in parallel, and with which T."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

pytestmark = pytest.mark.slow

LINE = {
    "prefix": "Answer by the documents.\n",
    "documents": [
        {"title": "A", "text": "The code is red."},
        {"title": "B", "text": "It is blue."},
    ],
    "question": "Question: What is the code?\nAnswer:",
}


@pytest.fixture
def prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps(LINE) + "\n")
    return path


def test_the_temperature_for_vllm_is_named_or_refused(run: Run, prompts: Path) -> None:
    command = ["kv", "mixing", "--model", "reference", "--prompts", str(prompts)]
    found = json.loads(run(*command, "--json").out)
    said = run(*command).out
    assert f"vLLM: documents in parallel, temperature: {found['key_temperature']:g}" in said
    assert "vLLM: leave documents sequential" in run(*command, "--bound", "0").out


def test_prompts_that_are_none_are_an_error(run: Run, prompts: Path) -> None:
    prompts.write_text("{}\n")
    done = run("kv", "mixing", "--model", "reference", "--prompts", str(prompts))
    assert done.status == 2
    assert "line 1" in done.err
