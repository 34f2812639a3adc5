"""Which tool results are file contents that an editing agent has read.

Such an agent edits by quoting what it read: text that is missing from the quote makes the edit
fail, so these results are protected whole (law 1). Everything else that tools print may be cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

__all__ = ["ToolCall", "reads_files"]

# Names in lower case, without separators: `read_file`, `readFile` and `Read-File` are one.
_READERS = frozenset(
    """
    read readfile readfiles readmanyfiles readmultiplefiles readtextfile readfilecontent
    readfilecontents readlines view viewfile viewcode viewsource viewfileoutline cat open openfile
    fileread filereader getfile getfilecontent getfilecontents fetchfile loadfile showfile
    strreplacebasededittool strreplaceeditor texteditor texteditorview editor
    notebookread readnotebook readnotebookcell edit multiedit editfile notebookedit
    """.split()
)
_SHELLS = frozenset(
    """
    bash shell sh zsh terminal console command cmd powershell pwsh exec execute executecommand
    execcommand executebash executeshell runcommand runcommands runshell runshellcommand runbash
    runinterminal runterminalcmd runterminalcommand shellcommand localshell localshellcall
    bashcommand containerexec process system
    """.split()
)
_SEPARATORS = re.compile(r"[^0-9a-z]+")
_NAMESPACE = re.compile(r"__|[./:]")
_MAX_COMMAND_CHARACTERS = 20_000

# A printing command where a command may stand. After a single pipe it prints another's output
# (`make | tail`), which is no file; `xargs` and `-exec` name the files they hand on.
_PRINTS_FILES = re.compile(
    r"""
    (?: ^ | [;&\n(`"'{] | \|\| | \bxargs\b[^|;&\n]{0,200}?\s | -exec(?:dir)?\s )
    \s* (?:sudo\s+)? (?:/(?:usr/)?bin/)?
    (?: (?:cat|bat|batcat|head|tail|nl|less|more|type|gc|tac) (?=\s|$)
      | get-content\b
      | sed\s+(?:-\w+\s+)*-\w*n
      | awk\s
      | git\s+show\b
    )
    """,
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call as the assistant made it; ``arguments`` is a JSON string or a value."""

    name: str
    arguments: Any = None


def reads_files(call: ToolCall, read_tools: frozenset[str]) -> bool:
    """Whether the result of ``call`` is (or may quote) the content of a file."""
    if call.name in read_tools:
        return True
    full = _SEPARATORS.sub("", call.name.lower())
    # `mcp__files__read_file`, `functions.read_file`: the last part names the tool.
    last = _SEPARATORS.sub("", _NAMESPACE.split(call.name.lower())[-1])
    if full in _READERS or last in _READERS:
        return True
    if full in _SHELLS or last in _SHELLS:
        return any(
            _PRINTS_FILES.search(command[:_MAX_COMMAND_CHARACTERS]) is not None
            for command in _commands(call.arguments)
        )
    return False


def _commands(arguments: Any) -> Iterable[str]:
    """Every string that may be a command line in a shell tool's arguments."""
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments)
        except orjson.JSONDecodeError:
            return (arguments,)
        if isinstance(arguments, str):
            return (arguments,)
    values = arguments.values() if isinstance(arguments, dict) else (arguments,)
    found: list[str] = []
    for value in values:
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, list):
            words = [word for word in value if isinstance(word, str)]
            # `["bash", "-lc", "cat x"]` holds a command line; `["cat", "x"]` is one.
            found += [*words, " ".join(words)]
        elif isinstance(value, dict):
            found += [v for v in value.values() if isinstance(v, str)]
    return found
