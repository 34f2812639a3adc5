"""Fields of a JSON body, read one by one, with errors that name the field."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import orjson

from ctxpress.engine.api.errors import ApiError
from ctxpress.nearest import did_you_mean

__all__ = ["Fields", "parse_body"]

T = TypeVar("T")

_NAMES = {bool: "a boolean", int: "an integer", float: "a number", str: "a text", list: "a list"}


def parse_body(body: bytes) -> Fields:
    """The fields of a request's body.

    :raises ApiError: it is no JSON object.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ApiError("the body must be a JSON object")
    return Fields(value)


class Fields:
    """An object's fields. ``null`` counts as not given, as with OpenAI's API."""

    def __init__(self, value: Mapping[str, Any], path: str = "") -> None:
        self._value = value
        self._path = path

    def __contains__(self, name: str) -> bool:
        return self._value.get(name) is not None

    def require_known(self, known: Collection[str], unsupported: Collection[str] = ()) -> None:
        """:raises ApiError: a field is none of ``known``; it says so of ``unsupported`` ones."""
        for name, value in self._value.items():
            if name in known or value is None:
                continue
            if name in unsupported:
                if value in ([], {}, False, "none", "auto"):
                    continue
                raise ApiError(
                    f"{self._named(name)} is not supported by this worker",
                    param=self._named(name),
                    code="unsupported_parameter",
                )
            raise ApiError(
                f"{self._named(name)} is not known{did_you_mean(name, known)}",
                param=self._named(name),
                code="unknown_parameter",
            )

    def get(self, name: str, kind: type[T], default: T) -> T:
        """The field, of type ``kind``; ``default`` where it is not given.

        :raises ApiError: it is of another type.
        """
        value = self._value.get(name)
        if value is None:
            return default
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise ApiError(
                f"{self._named(name)} must be {_NAMES.get(kind, 'an object')}",
                param=self._named(name),
            )
        return value

    def optional(self, name: str, kind: type[T]) -> T | None:
        """The field, or None where it is not given.

        :raises ApiError: it is of another type.
        """
        return None if name not in self else self.get(name, kind, kind())

    def required(self, name: str, kind: type[T]) -> T:
        """The field.

        :raises ApiError: it is not given, or of another type.
        """
        if name not in self:
            raise ApiError(f"{self._named(name)} is required", param=self._named(name))
        return self.get(name, kind, kind())

    def objects(self, name: str) -> list[Fields]:
        """The objects in the list ``name``; none where it is not given.

        :raises ApiError: it is no list, or holds something else.
        """
        found = []
        for index, item in enumerate(self.get(name, list, [])):
            place = f"{self._named(name)}[{index}]"
            if not isinstance(item, dict):
                raise ApiError(f"{place} must be an object", param=place)
            found.append(Fields(item, place))
        return found

    def object(self, name: str) -> Fields:
        """The object ``name``; an empty one where it is not given.

        :raises ApiError: it is no object.
        """
        return Fields(self.get(name, dict, {}), self._named(name))

    def texts(self, name: str) -> tuple[str, ...]:
        """A text or a list of texts; none where it is not given.

        :raises ApiError: it is something else.
        """
        value = self._value.get(name)
        if value is None:
            return ()
        items = [value] if isinstance(value, str) else value
        if not (isinstance(items, list) and all(isinstance(item, str) for item in items)):
            raise ApiError(
                f"{self._named(name)} must be a text or a list of texts", param=self._named(name)
            )
        return tuple(items)

    def raw(self, name: str) -> Any:
        """Whatever stands there."""
        return self._value.get(name)

    def error(self, name: str, problem: str) -> ApiError:
        """An error about the field ``name``."""
        return ApiError(f"{self._named(name)} {problem}", param=self._named(name))

    def _named(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name
