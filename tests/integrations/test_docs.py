"""What the documentation and the examples show is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ctxpress.integrations.options import CompressionOptions

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs/integrations.md").read_text("utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_every_snippet_runs(number: int) -> None:
    snippet = SNIPPETS[number]
    assert "assert" in snippet
    exec(compile(snippet, f"docs/integrations.md, snippet {number}", "exec"), {})


def test_there_is_a_snippet_for_each_adapter() -> None:
    for name in ("langchain", "llama_index", "haystack"):
        assert any(f"ctxpress.integrations.{name}" in snippet for snippet in SNIPPETS)


def test_every_option_is_documented_and_nothing_else() -> None:
    section = PAGE.split("## Options")[1].split("\n## ")[0]
    names = re.findall(r"^\| `(\w+)` \|", section, re.M)
    assert sorted(names) == sorted(CompressionOptions.model_fields)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["langchain", "llama_index", "haystack"])
def test_every_example_runs_offline_and_saves_what_it_says(name: str, tmp_path: Path) -> None:
    proxies = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, ROOT / f"examples/rag_{name}.py"],
        check=False, capture_output=True, text=True, cwd=tmp_path, timeout=170,
        env={**environment, **proxies, "HAYSTACK_TELEMETRY_ENABLED": "False"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    tokens = re.search(r"^documents: (?:about )?(\d+) tokens, then (?:about )?(\d+)$",
                       done.stdout, re.M)  # fmt: skip
    characters = re.search(r"^prompt: (\d+) characters, then (\d+)$", done.stdout, re.M)
    assert tokens is not None, done.stdout
    assert characters is not None, done.stdout
    assert int(tokens[2]) <= 0.4 * int(tokens[1])
    assert int(characters[2]) < 0.7 * int(characters[1])
    assert "30 June" in done.stdout
    assert "48,200 euros" in done.stdout
