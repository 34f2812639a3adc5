"""Who may import whom, read from the source: rooms, and the doors between some of them."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*(ROOT / "ctxpress").rglob("*.py"), *(ROOT / "proxy").rglob("*.py")])

CORE = {"errors", "document", "stage", "report", "nearest", "languages", "resources"}

# Room -> rooms that its modules may import; their own is always allowed. Rooms that are not listed
# may import all but the command line and the proxy.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "nearest": set(),
    "document": set(),
    "resources": {"errors", "relevance"},
    "waiting": set(),
    "languages": {"document", "models", "stage"},
    "stage": {"document", "errors"},
    "report": {"stage"},
    "hookspecs": {"cache", "relevance", "report", "resources", "stage"},
    "relevance": {"document", "errors", "models", "nearest"},
    "laws": {"document", "elements", "errors", "languages", "lossless", "stage"},
    "lossless": {"document", "errors"},
    "cache": {"errors", "nearest"},
    "metric_families": set(),
    "engine": {"cache", "document", "errors", "metric_families", "models", "nearest"}
    | {"prompt_pieces"},
    "prompt_pieces": {"errors"},
    "tokenizer_folder": {"errors", "prompt_pieces"},
    "planning": {"errors", "nearest"},
    "tokens": {"models", "stage", "token_estimate", "token_features", "token_files"},
    "token_estimate": {"token_features"},
    "token_features": set(),
    "token_files": set(),
    "formats": {"document", "elements", "errors", "nearest", "stage"},
    "models": {"document", "errors", "languages"},
    "elements": {"document"},
    "cutting": {"document"},
    "arrangement": {"cutting", "document", "elements"},
    "plugins": CORE | {"arrangement", "relevance"} | {"cache", "hookspecs", "models", "tokens"},
    "config": CORE,
    "yaml_source": {"errors"},
    "config_problems": {"config", "errors", "nearest", "yaml_source"},
    "config_schema": {"config"},
    "config_file": {"config", "config_problems", "errors", "manager", "nearest", "yaml_source"},
    "manager": CORE | {"cache", "hookspecs", "plugins", "registrations", "relevance", "work"},
    "registrations": CORE | {"cache", "hookspecs", "relevance"},
    # Measures pipelines from outside: through the SDK, with documents built as the SDK builds them.
    "evaluation": {"cache", "document", "engine", "errors"}
    | {"formats", "passages", "results", "sdk", "stage"},
    # Adapters over the SDK; and the connector for vLLM, over the cache and the engine's rotations.
    "integrations": {"arrangement", "document", "errors", "nearest", "results", "sdk", "waiting"},
    "integrations/vllm": {"cache", "engine", "errors", "nearest"},
}
# What the proxy may take from the integrations: how a prompt for vLLM is built.
FOR_THE_PROXY = "ctxpress.integrations.vllm.prompt"
TORCH = re.compile(
    r"^ctxpress/(engine/|cache/kv\.py|cache/codecs/|models/checkpoint\.py"
    r"|plugins/token_classification|relevance/huggingface/|integrations/vllm)"
)
# `cache/key.py` asks where this platform keeps a user's state, `token_files.py` where other
# programs keep tokenizers; those are no settings of ours. `restructure/factory.py` reads the key of
# an endpoint from the variable that the configuration names, as the proxy does for its upstreams.
# `vllm/settings.py` is read in vLLM's processes, which no command line of ours has started.
ENVIRONMENT = re.compile(
    r"^(ctxpress/cli/|proxy/settings\.py|ctxpress/cache/key\.py|ctxpress/token_files\.py|"
    r"ctxpress/plugins/restructure/factory\.py|ctxpress/integrations/vllm/settings\.py)"
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[:3] == ("ctxpress", "integrations", "vllm"):
        return "integrations/vllm"
    return parts[1] if parts[0] == "ctxpress" and len(parts) > 1 else parts[0]


def imports_of(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, anywhere in it, with its line."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module, node.lineno
            if node.module in ("ctxpress", "ctxpress.cache"):
                for alias in node.names:
                    yield f"{node.module}.{alias.name}", node.lineno


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_import_direction(path: Path) -> None:
    room = room_of(path)
    for module, line in imports_of(path):
        parts = module.split(".")
        place = f"{name_of(path)}:{line} imports {module}"
        if parts[0] == "ctxpress_proxy":
            assert room in ("cli", "proxy"), place
        if room == "proxy" and parts[:2] == ["ctxpress", "integrations"]:
            assert module == FOR_THE_PROXY, place
        if parts[0] != "ctxpress" or len(parts) == 1 or room == "proxy":
            continue
        assert parts[1] != "cli" or room == "cli", place
        assert parts[1] != "evaluation" or room in ("cli", "evaluation"), place
        assert parts[1] != "integrations" or room.startswith("integrations"), place
        if room in MAY_IMPORT:
            assert parts[1] in MAY_IMPORT[room] | {room.split("/")[0]}, place


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_torch_and_pickle_stay_outside(path: Path) -> None:
    for module, line in imports_of(path):
        top = module.split(".")[0]
        place = f"{name_of(path)}:{line} imports {module}"
        assert top not in ("pickle", "cPickle", "dill", "shelve", "marshal"), place
        assert top not in ("torch", "transformers") or TORCH.match(name_of(path)), place


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_the_environment_is_read_where_settings_are(path: Path) -> None:
    if not ENVIRONMENT.match(name_of(path)):
        text = path.read_text("utf-8")
        assert not re.search(r"os\.environ|os\.getenv|\bgetenv\(", text), name_of(path)


def test_no_room_for_leftovers() -> None:
    forbidden = {"utils.py", "util.py", "common.py", "helpers.py", "misc.py"}
    assert not [name_of(p) for p in SOURCES if p.name in forbidden]


def test_every_package_is_listed_and_every_listed_package_exists() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    folders = {p.parent.relative_to(ROOT).as_posix() for p in SOURCES if p.name == "__init__.py"}
    names = {re.sub("^proxy", "ctxpress_proxy", folder).replace("/", ".") for folder in folders}
    assert names == set(listed["packages"])
