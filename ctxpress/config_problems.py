"""Says in one sentence what is wrong with a value of the configuration, and what is valid.

pydantic knows what it expected; this module puts that into the words of the file: its keys, its
types, its lines. Values of keys that may hold a secret are never repeated.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ctxpress.config import ENVIRONMENT_NAME, KEY_HASH, ReferenceToNothingError
from ctxpress.errors import ConfigError
from ctxpress.nearest import did_you_mean
from ctxpress.yaml_source import KeyPath, Source

__all__ = ["Problem", "first_error", "validate_values"]

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, and where."""

    path: KeyPath
    message: str


def validate_values(
    model: type[M], values: Any, *, at: KeyPath = ()
) -> tuple[M | None, list[Problem]]:
    """Validate JSON-like ``values`` strictly: a number in quotes is text, ``true`` is no number.

    ``at`` is where the values stand in the file. Returns the model, or all problems.
    """
    try:
        # As JSON, strictly: lists become tuples and text URLs, but no type is bent to another.
        return model.model_validate_json(json.dumps(values), strict=True), []
    except ValidationError as error:
        return None, _problems(model, values, error.errors(include_url=False), at)


def first_error(source: Source, problems: Sequence[Problem]) -> ConfigError:
    """The problem that stands first in the file as an error that says how many more there are."""
    first = min(problems, key=lambda problem: source.line_of(problem.path))
    more = len(problems) - 1
    count = f" (and {more} more; ctxpress config check lists all)" if more else ""
    return ConfigError(f"{source.error(first.path, first.message)}{count}")


def _problems(
    model: type[BaseModel], values: Any, errors: Sequence[ErrorDetails], at: KeyPath
) -> list[Problem]:
    wanted: dict[KeyPath, list[str]] = {}
    problems: list[Problem] = []
    for error in errors:
        path, missing = _path_in(values, error["loc"])
        reference = error.get("ctx", {}).get("error")
        if error["type"] == "extra_forbidden":
            hint = did_you_mean(str(path[-1]), _keys_at(model, path[:-1]))
            problems.append(Problem(path=at + path, message=f"unknown key{hint}"))
        elif error["type"] == "missing":
            problems.append(Problem(path=at + path, message=f"the key {missing!r} is missing"))
        elif isinstance(reference, ReferenceToNothingError):
            hint = did_you_mean(reference.value, reference.known) or f"; {reference.empty}"
            problems.append(
                Problem(path=reference.path, message=f"nothing is called {reference.value!r}{hint}")
            )
        elif error["loc"] and error["loc"][-1] == "[key]":
            problems.append(
                Problem(path=at + path, message="a name is 1 to 64 letters, digits, '_', '.', '-'")
            )
        elif wants := _wanted(error):
            wanted.setdefault(path, []).append(wants)
        else:
            message = str(reference or error["msg"])
            problems.append(Problem(path=at + path, message=message))
    for path, expected in wanted.items():  # the branches of a union are one problem
        value = _shown(path, values)
        joined = " or ".join(dict.fromkeys(expected))
        problems.append(Problem(path=at + path, message=f"{value}must be {joined}"))
    return problems


def _path_in(values: Any, location: Sequence[str | int]) -> tuple[KeyPath, str]:
    """The part of a pydantic location that the file has, and the first name that it has not."""
    path: list[str | int] = []
    for part in location:
        known = part in values if isinstance(values, dict) else isinstance(part, int)
        if not known or (isinstance(values, list) and int(part) >= len(values)):
            return tuple(path), str(part)
        path.append(part)
        values = values[part]
        if not isinstance(values, dict | list):
            break  # what follows names a branch of a union, not a place in the file
    return tuple(path), ""


def _keys_at(annotation: Any, path: KeyPath) -> list[str]:
    """The keys that are valid in the mapping at ``path``; empty where any key is."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not path:
            return list(annotation.model_fields)
        field = annotation.model_fields.get(str(path[0]))
        return _keys_at(field.annotation, path[1:]) if field else []
    is_union = get_origin(annotation) in (Union, UnionType)
    rest = path if is_union else path[1:]  # a list's index or a mapping's key is one step
    for argument in reversed(get_args(annotation)):
        if found := _keys_at(argument, rest):
            return found
    return []


_PLAIN = {
    "bool": "true or false",
    "date": "a date",
    "dict": "a mapping of keys",
    "dataclass": "a mapping of keys",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "model": "a mapping of keys",
    "none": "empty",
    "set": "a list",
    "frozen": "a list",
    "string": "text",
    "tuple": "a list",
    "url": "a URL such as https://api.openai.com",
}
_FORMS = {
    ENVIRONMENT_NAME: "the name of an environment variable (not the key itself)",
    KEY_HASH: "'sha256:' and 64 hex digits, as printed by: ctxpress tenants add",
}
_BOUNDS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


def _wanted(error: ErrorDetails) -> str | None:
    """What would be valid, as it follows "must be"; ``None`` where that is not known."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"{words} {context[key]:g}"
    if kind in ("literal_error", "enum"):
        return str(context["expected"])
    if kind == "string_pattern_mismatch":
        pattern = str(context["pattern"])
        return _FORMS.get(pattern, f"of the form {pattern}")
    return _PLAIN.get(kind.split("_", 1)[0])


def _shown(path: KeyPath, values: Any) -> str:
    """The wrong value, short, as the file has it; empty for lists, mappings and secrets."""
    for part in path:
        values = values[part]
    secret = any("key" in str(part) for part in path)
    if secret or isinstance(values, dict | list):
        return ""
    text = json.dumps(values, ensure_ascii=False)
    return f"{text if len(text) <= 60 else text[:57] + '…'} "
