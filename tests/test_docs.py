"""The documentation names everything that there is, and its examples are valid."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from ctxpress_proxy.vllm import PlainPath
from pydantic import BaseModel

from ctxpress.cache.store_kinds import BUILTIN_STORES, COMMON_OPTIONS
from ctxpress.config import (
    Config,
    ParallelConfig,
    PipelineConfig,
    PluginsConfig,
    ProtectConfig,
    StageConfig,
    TenantConfig,
    TenantModelConfig,
    UpstreamConfig,
)
from ctxpress.config_file import check_config
from ctxpress.manager import create_plugin_manager, option_names
from ctxpress.plugins.restructure.config import LlmConfig
from ctxpress.stage import Skip

ROOT = Path(__file__).resolve().parent.parent
CONFIGURATION = (ROOT / "docs/configuration.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")

SECTIONS: dict[str, type[BaseModel]] = {
    "The file": Config,
    "`plugins`": PluginsConfig,
    "An upstream": UpstreamConfig,
    "`parallel`": ParallelConfig,
    "A pipeline": PipelineConfig,
    "`protect`": ProtectConfig,
    "A stage": StageConfig,
    "`llm`": LlmConfig,
    "A tenant": TenantConfig,
    "`models`": TenantModelConfig,
}


def keys_of(section: str) -> list[str]:
    """The names in the first column of a section's table."""
    found = re.search(rf"^#+ {re.escape(section)}\n(.*?)(?=^#|\Z)", CONFIGURATION, re.M | re.S)
    assert found is not None, f"docs/configuration.md has no section {section!r}"
    return re.findall(r"^\| `(\w+)` \|", found[1], re.M)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_documented_and_nothing_else(section: str) -> None:
    assert keys_of(section) == list(SECTIONS[section].model_fields)


def test_every_stages_options_are_documented() -> None:
    for name, stage in create_plugin_manager().stages.items():
        assert keys_of(f"`{name}`") == option_names(stage.config_model), name


def test_every_scorers_options_are_documented() -> None:
    for name, scorer in create_plugin_manager().scorers.items():
        assert keys_of(f"`{name}`") == list(scorer.config_model.model_fields), name


def test_every_option_of_a_store_is_documented() -> None:
    section = CONFIGURATION.split("\n## Stores\n")[1]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| .+ \|$", section, re.M)
    named = {name for _, options in rows for name in re.findall(r"`([a-z]\w+)`", options)}
    wanted = {option for kind in BUILTIN_STORES.values() for option in kind.options}
    assert {*wanted, *COMMON_OPTIONS} <= named
    for scheme in BUILTIN_STORES:
        assert re.search(rf"`{re.escape(scheme)}://`", section), scheme


def test_every_skip_code_is_documented_and_nothing_else() -> None:
    tables = (ROOT / "docs/skips.md").read_text("utf-8").split("\n## ")
    for table, codes in zip(tables, (Skip, PlainPath), strict=True):
        rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", table, re.M)
        assert [code for code, _, _ in rows] == [str(code) for code in codes]


@pytest.mark.parametrize(
    "file", ["README.md", "docs/configuration.md", "docs/vllm.md", "examples/ctxpress.yaml"]
)
def test_every_configuration_shown_is_valid(file: str, tmp_path: Path) -> None:
    text = (ROOT / file).read_text("utf-8")
    examples = [text] if file.endswith(".yaml") else re.findall(r"```yaml\n(.*?)```", text, re.S)
    for example in examples:
        path = tmp_path / "ctxpress.yaml"
        path.write_text(example, "utf-8")
        assert check_config(path) == []


def test_the_error_in_the_readme_is_the_error_that_is_given(tmp_path: Path) -> None:
    path = tmp_path / "ctxpress.yaml"
    shown = re.findall(r"```yaml\n(.*?)```", README, re.S)[0]
    path.write_text(shown.replace("pipeline: rag", "pipelin: rag"), "utf-8")
    problem = check_config(path)[0].removeprefix(f"{tmp_path}/")
    assert problem in " ".join(README.split())


@pytest.mark.parametrize(
    "file", ["README.md", "CONTRIBUTING.md", "SECURITY.md", *(f"docs/{p.name}" for p in
             (ROOT / "docs").glob("*.md"))],
)  # fmt: skip
def test_links_between_files_lead_somewhere(file: str) -> None:
    text = (ROOT / file).read_text("utf-8")
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
        assert ((ROOT / file).parent / target).exists(), f"{file} links to {target}"


def test_files_named_in_the_readmes_tree_exist() -> None:
    tree = re.search(r"```\nctxpress/\n(.*?)```", README, re.S)
    assert tree is not None
    for name in re.findall(r"^  (\S+)", tree[1], re.M):
        assert list((ROOT / "ctxpress").glob(name.rstrip("/"))), name


def test_the_readmes_example_only_deletes() -> None:
    example = README.split("<!-- example:begin")[1].split("<!-- example:end")[0]
    shown = re.search(r"^> (.+)$", example, re.M)
    assert shown is not None, "make readme"
    original = shown[1].replace("~~", "")
    assert "the delivery that was supposed to arrive on the 14th of May" in original
    assert 0 < sum(map(len, re.findall(r"~~(.+?)~~", shown[1]))) < len(original) * 0.8


def test_constraints_pin_every_dependency_that_pyproject_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    pins = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if "==" in line
    )
    for requirement in wanted:
        name = re.split(r"[\[<>=;~ ]", requirement)[0].lower().replace("_", "-")
        assert name == "ctxpress" or name in pins, f"constraints.txt does not pin {name}"


def test_the_rag_example_keeps_only_what_stands_in_its_notes() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples/rag.py"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    printed = done.stdout.split("```")[1].strip()
    notes = " ".join((ROOT / "examples/rag_documents.py").read_text("utf-8").split())
    bare = re.sub(r'" "', "", notes)
    assert printed.startswith("1.1. ## ")
    for line in printed.splitlines():
        head = re.fullmatch(r"\d+\.\d+\. ## (.+)", line)
        for sentence in [head[1]] if head else re.split(r"(?<=\.) ", line):
            assert sentence.strip() in bare
