"""Reads a YAML file into JSON-like values that remember their lines.

The reader is stricter and safer than YAML: only plain values (no tags, no objects of any kind),
duplicate keys are errors, the file's size and what its aliases expand to are capped. Words follow
YAML 1.2: only ``true`` and ``false`` are booleans, so ``mode: on`` is the text it looks like.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ctxpress.errors import ConfigError

__all__ = ["KeyPath", "Source", "compose", "parse_source", "read_source"]

MAX_FILE_BYTES = 8 * 1024 * 1024  # some 40,000 tenants; a log or a model given by mistake is more
MAX_VALUES = 500_000  # after aliases are expanded: nine lines of aliases can stand for billions

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file's values and the line (from 1) of each: of its key, or of the list item itself."""

    name: str
    data: Any
    lines: Mapping[KeyPath, int]

    def line_of(self, path: KeyPath) -> int:
        """The line of a path, or of the nearest parent that the file has."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def error(self, path: KeyPath, problem: str) -> ConfigError:
        """A :class:`ConfigError` in one line: file, line, path, problem."""
        where = f"{dotted(path)}: " if path else ""
        return ConfigError(f"{self.name}:{self.line_of(path)}: {where}{problem}")


def dotted(path: KeyPath) -> str:
    """A path as it is read aloud: ``pipelines.rag.stages[0].use``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_source(path: str | Path) -> Source:
    """Read a file.

    :raises ConfigError: it is missing, not a file, too large, not UTF-8 or not valid YAML.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: this is a directory, not a configuration file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(
            f"{path}: larger than {MAX_FILE_BYTES // 2**20} MiB; is it the right file?"
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text (byte {error.start})") from None
    return parse_source(text, str(path))


def parse_source(text: str, name: str) -> Source:
    """Read YAML text; ``name`` stands for the file in messages.

    :raises ConfigError: it is not valid YAML, or not a mapping of keys.
    """
    try:
        root = compose(text)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_syntax_problem(name, error)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{name}:{line}: not YAML: character #x{error.character:04x}") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply") from None
    if root is None:
        raise ConfigError(f"{name}: the file is empty; it needs at least 'version: 1'")
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(
            f"{name}:{_line(root)}: not a mapping of keys; a configuration begins with 'version: 1'"
        )
    reader = _Reader(name)
    try:
        data = reader.value(root, ())
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply") from None
    return Source(name=name, data=data, lines=reader.lines)


def compose(text: str) -> yaml.Node | None:
    """The nodes of YAML text, with their places in it; ``None`` if it is empty.

    :raises yaml.YAMLError: it is not YAML.
    """
    root: yaml.Node | None = _PlainLoader(text).get_single_node()
    return root


class _PlainLoader(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser,
                   yaml.composer.Composer, yaml.resolver.BaseResolver):  # fmt: skip
    """YAML 1.2's core words, nodes only: nothing here can build an object."""

    def __init__(self, stream: str) -> None:
        yaml.reader.Reader.__init__(self, stream)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)
        yaml.composer.Composer.__init__(self)
        yaml.resolver.BaseResolver.__init__(self)


_TAG = "tag:yaml.org,2002:"
_WORDS = {
    "null": (re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    "int": (re.compile(r"^[-+]?[0-9]{1,40}$"), list("-+0123456789")),
    "float": (
        re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"),
        list("-+.0123456789"),
    ),
    "merge": (re.compile(r"^<<$"), ["<"]),
}
for _name, (_pattern, _first) in _WORDS.items():
    _PlainLoader.add_implicit_resolver(_TAG + _name, _pattern, _first)


class _Reader:
    """Turns nodes into values, noting lines; made for one file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[KeyPath, int] = {(): 1}
        self._values = 0
        self._open: set[int] = set()

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self._values += 1
        if self._values > MAX_VALUES:
            raise self._error(node, f"aliases expand to more than {MAX_VALUES:,} values")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            raise self._error(node, "an alias stands inside the very value that it names")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                self._check_tag(node, "seq")
                return [self._item(item, (*path, i)) for i, item in enumerate(node.value)]
            if not isinstance(node, yaml.MappingNode):
                raise self._error(node, "not a value, a list or a mapping")
            self._check_tag(node, "map")
            return self._mapping(node, path)
        finally:
            self._open.discard(id(node))

    def _item(self, node: yaml.Node, path: KeyPath) -> Any:
        self.lines[path] = _line(node)
        return self.value(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        own: dict[str, int] = {}
        merged: list[tuple[yaml.Node, yaml.Node]] = []
        for key, value in node.value:
            if key.tag == _TAG + "merge":
                merged += self._merged(value)
                continue
            name = self._key(key)
            if name in own:
                raise self._error(
                    key, f"{dotted((*path, name))}: key given twice, first on line {own[name]}"
                )
            own[name] = self.lines[(*path, name)] = _line(key)
            result[name] = self.value(value, (*path, name))
        for key, value in merged:  # the mapping's own keys win, then the first that has the key
            name = self._key(key)
            if name not in result:
                self.lines[(*path, name)] = _line(key)
                result[name] = self.value(value, (*path, name))
        return result

    def _merged(self, value: yaml.Node) -> list[tuple[yaml.Node, yaml.Node]]:
        nodes = value.value if isinstance(value, yaml.SequenceNode) else [value]
        pairs: list[tuple[yaml.Node, yaml.Node]] = []
        for node in nodes:
            if not isinstance(node, yaml.MappingNode):
                raise self._error(value, "'<<' takes a mapping, or a list of mappings")
            for pair in node.value:
                if pair[0].tag == _TAG + "merge":
                    raise self._error(pair[0], "'<<' inside a merged mapping is not supported")
                pairs.append(pair)
        return pairs

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self._error(node, "a key must be a word, not a list or a mapping")
        return str(node.value)  # as written: `on:`, `404:` and `null:` are names too

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        text, tag = str(node.value), node.tag.removeprefix(_TAG)
        if tag == "str":
            return text
        if tag not in _WORDS or not _WORDS[tag][0].match(text):  # an explicit tag, perhaps a lie
            raise self._error(node, f"{dotted(path)}: the tag {node.tag!r} is not supported here")
        if tag == "null":
            return None
        if tag == "bool":
            return text.lower() == "true"
        if tag == "int":
            return int(text)
        number = float(text) if tag == "float" else math.nan
        if not math.isfinite(number):
            raise self._error(node, f"{dotted(path)}: not a value that fits here: {text[:40]}")
        return number

    def _check_tag(self, node: yaml.Node, tag: str) -> None:
        if node.tag != _TAG + tag:
            raise self._error(node, f"the tag {node.tag!r} is not supported")

    def _error(self, node: yaml.Node, problem: str) -> ConfigError:
        return ConfigError(f"{self.name}:{_line(node)}: {problem}")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _syntax_problem(name: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    problem = " ".join(str(error.problem or error.context or "not YAML").split())
    if "'\\t'" in problem:
        problem = "a tab stands where only spaces may indent"
    return f"{name}:{line}: not YAML: {problem}"
