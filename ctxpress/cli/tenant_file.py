"""Puts a key's hash into a configuration file as a person would: one small edit of its text.

Comments and layout stay. The edited text is read back before it is written: unless it says
exactly what the old text said plus the new hash, nothing is written.
"""

from __future__ import annotations

import copy
import os
import tempfile
from pathlib import Path
from typing import Any

import yaml

from ctxpress.config import Config
from ctxpress.config_problems import first_error, validate_values
from ctxpress.errors import ConfigError
from ctxpress.nearest import did_you_mean
from ctxpress.yaml_source import Source, compose, parse_source, read_source

__all__ = ["add_key_hash"]


def add_key_hash(path: Path, tenant: str, digest: str, upstream: str | None) -> None:
    """Add ``digest`` to the keys of ``tenant``, which is made if the file does not have it.

    :raises ConfigError: the file is wrong as it is, an upstream must be named, or the edit
        cannot be made safely; the file is then as it was.
    """
    source = read_source(path)
    text = path.read_bytes().decode("utf-8")
    wanted = _wanted(source, tenant, digest, upstream)
    edited = _edit(text, tenant, digest, wanted)
    line = f'key_hashes: ["{digest}"]'
    try:
        safe = parse_source(edited, str(path)).data == wanted
    except ConfigError:
        safe = False
    if not safe:
        raise ConfigError(
            f"{path}: too intricate to edit safely; put this under tenants.{tenant} by hand: {line}"
        )
    config, problems = validate_values(Config, wanted)
    if config is None:
        raise first_error(source, problems)
    _replace(path, edited)


def _wanted(source: Source, tenant: str, digest: str, upstream: str | None) -> dict[str, Any]:
    """The values that the file shall hold."""
    wanted: dict[str, Any] = copy.deepcopy(source.data)
    tenants = wanted["tenants"] = wanted.get("tenants") or {}
    known = wanted.get("upstreams") or {}
    if tenant not in tenants:
        if upstream is None and len(known) != 1:
            raise ConfigError(f"name the new tenant's upstream with --upstream; {_list(known)}")
        tenants[tenant] = {"upstream": upstream or next(iter(known))}
    elif upstream is not None:
        raise ConfigError(f"{tenant} is in the file already; its upstream is changed there")
    name = tenants[tenant].get("upstream")
    if name not in known:
        raise ConfigError(f"no upstream is called {name!r}{did_you_mean(str(name), known)}")
    hashes = tenants[tenant].get("key_hashes") or []
    tenants[tenant]["key_hashes"] = [digest, *hashes]
    return wanted


def _list(upstreams: dict[str, Any]) -> str:
    return f"the file has: {', '.join(upstreams)}" if upstreams else "the file has no upstreams"


def _edit(text: str, tenant: str, digest: str, wanted: dict[str, Any]) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    upstream = wanted["tenants"][tenant]["upstream"]
    entry = f'{{key_hashes: ["{digest}"], upstream: {upstream}}}'
    tenants = _child(compose(text), "tenants")
    if tenants is None:
        gap = "" if text.endswith(("\n", "\r")) else newline
        return f"{text}{gap}tenants:{newline}  {tenant}: {entry}{newline}"
    node = _child(tenants, tenant)
    if node is None:
        return _insert(text, tenants, f"{tenant}: {entry}", newline)
    hashes = _child(node, "key_hashes")
    if hashes is None:
        return _insert(text, node, f'key_hashes: ["{digest}"]', newline)
    return _insert(text, hashes, f'"{digest}"', newline)


def _child(node: yaml.Node | None, name: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == name:
                found: yaml.Node = value
                return found
    return None


def _insert(text: str, node: yaml.Node, item: str, newline: str) -> str:
    """``item`` as the first entry of a list or mapping, in the style that it is written in."""
    start = node.start_mark.index
    if getattr(node, "flow_style", None):
        comma = ", " if node.value else ""
        return f"{text[: start + 1]}{item}{comma}{text[start + 1 :]}"
    dash = "- " if isinstance(node, yaml.SequenceNode) else ""
    indent = " " * node.start_mark.column
    return f"{text[:start]}{dash}{item}{newline}{indent}{text[start:]}"


def _replace(path: Path, text: str) -> None:
    """Write a new file in the old one's place, with its permissions."""
    target = path.resolve()  # a link stays a link
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, target.stat().st_mode & 0o7777)
        os.replace(name, target)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
