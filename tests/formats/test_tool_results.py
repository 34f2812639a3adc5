"""Which tools' results are file contents."""

from __future__ import annotations

from typing import Any

import pytest

from ctxpress.formats.tool_results import ToolCall, reads_files


@pytest.mark.parametrize(
    "name",
    [
        "Read",
        "read_file",
        "readFile",
        "view",
        "cat",
        "open_file",
        "get_file_contents",
        "str_replace_based_edit_tool",
        "str_replace_editor",
        "NotebookRead",
        "mcp__files__read_text_file",
        "functions.read_file",
    ],
)
def test_readers(name: str) -> None:
    assert reads_files(ToolCall(name, {"path": "x"}), frozenset())


@pytest.mark.parametrize(
    "name", ["search", "Grep", "web_fetch", "list_files", "thread", "bash", ""]
)
def test_others(name: str) -> None:
    assert not reads_files(
        ToolCall(name, {"q": "cat videos"} if name != "bash" else None), frozenset()
    )


def test_names_of_the_tenant() -> None:
    assert reads_files(ToolCall("slurp"), frozenset({"slurp"}))


@pytest.mark.parametrize(
    "arguments",
    [
        '{"command": "cat a.py"}',
        {"command": "cd src && cat a.py"},
        {"command": ["bash", "-lc", "sed -n '1,80p' a.py"]},
        {"command": ["cat", "a.py"]},
        {"cmd": "head -50 a.py"},
        {"cmd": "nl -ba a.py | sed -n 1,20p"},
        {"script": "set -e\ntail -5 log.py"},
        {"cmd": "find . -name '*.py' | xargs cat"},
        {"cmd": "find . -name '*.py' -exec cat {} +"},
        {"cmd": "bash -c 'cat a.py'"},
        {"cmd": "sudo /bin/cat a.py"},
        {"cmd": "git show HEAD:a.py"},
        {"cmd": "type a.py"},
        {"cmd": "Get-Content a.py"},
        {"action": {"command": "less a.py"}},
        "cat a.py",
    ],
)
def test_shells_that_print_files(arguments: Any) -> None:
    assert reads_files(ToolCall("Bash", arguments), frozenset())


@pytest.mark.parametrize(
    "arguments",
    [
        '{"command": "make 2>&1 | tail -50"}',
        {"cmd": "ls -la | head"},
        {"cmd": "pytest -q"},
        {"cmd": "npm run catalog"},
        {"cmd": "concat a b"},
        {"cmd": "sed -i s/a/b/ a.py"},
        {"n": 3, "x": None, "y": [1, {"z": 2}]},
        "[1, 2]",
        "{broken",
        None,
        7,
    ],
)
def test_shells_that_print_something_else(arguments: Any) -> None:
    assert not reads_files(ToolCall("run_command", arguments), frozenset())


def test_long_commands_take_linear_time() -> None:
    assert not reads_files(ToolCall("bash", {"cmd": "xargs " * 200_000}), frozenset())
