"""``config check``, ``config schema`` and ``plugins``."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Run

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "ctxpress.yaml"


def test_check_says_that_a_file_is_valid(run: Run) -> None:
    done = run("config", "check", EXAMPLE)
    assert (done.status, done.err) == (0, "")
    assert done.out == f"{EXAMPLE}: valid; 2 tenants, 1 pipeline, 1 upstream\n"


def test_check_lists_every_problem(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("version: 1\nstor: x\npipelines: {p: {stages: [], strict: 7}}\n")
    done = run("config", "check", path)
    assert (done.status, done.out) == (2, "")
    assert done.err.splitlines() == [
        f"{path}:2: stor: unknown key; did you mean 'store'?",
        f"{path}:3: pipelines.p.strict: 7 must be true or false",
    ]


def test_check_knows_the_stages(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "version: 1\npipelines:\n  p:\n    stages:\n      - {use: token_classifcation}\n"
    )
    assert run("config", "check", path).err == (
        f"{path}:5: pipelines.p.stages[0].use: no stage is called 'token_classifcation'; "
        "did you mean 'token_classification'?\n"
    )


def test_a_plugin_that_is_not_there_is_placed(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("version: 1\nplugins:\n  enabled: [ctxpress, ctxpress-nowhere]\n")
    assert run("config", "check", path).err == (
        f"{path}:3: plugins.enabled: the plugin 'ctxpress-nowhere' is enabled but not installed: "
        "pip install ctxpress-nowhere\n"
    )


def test_schema_has_the_stages_options(run: Run) -> None:
    schema = json.loads(run("config", "schema").out)
    assert "keep_ratio" in schema["$defs"]["stage.token_classification"]["properties"]


def test_plugins_names_stages_formats_and_stores(run: Run) -> None:
    out = run("plugins").out
    for name in ("token_classification", "bm25", "openai_chat", "anthropic_messages", "redis://"):
        assert name in out
    assert all(len(line) <= 80 for line in out.splitlines())
