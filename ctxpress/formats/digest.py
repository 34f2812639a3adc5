"""The digest of one content element: what a conversation's hash is chained over.

Two spellings of one content must agree (key order, spacing, escapes, a string or a list of one
text part, and above all ``cache_control``, which clients move from turn to turn), and two
contents must differ.
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from ctxpress.errors import FormatError
from ctxpress.stage import Skip

__all__ = ["element_digest", "without_cache_control"]

_CACHE_CONTROL = "cache_control"
_MARK = b'"cache_control"'


def element_digest(role: str, heads: list[Any], depth: int, element: Any) -> bytes:
    """The SHA-256 of one content element in its canonical form.

    ``heads`` are the fields of the message and of the parts around the element that begin with
    it: they mark the boundaries. ``depth`` is how many parts the element stands in.

    :raises FormatError: the element is nested too deeply or, in the SDK, is not JSON.
    """
    form = [role, depth, heads, element]
    try:
        encoded = orjson.dumps(form, option=orjson.OPT_SORT_KEYS)
        if _MARK in encoded:
            encoded = orjson.dumps(without_cache_control(form), option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise FormatError(
            f"content that cannot be hashed: {error}", Skip.UNSUPPORTED_SHAPE
        ) from None
    return hashlib.sha256(encoded).digest()


def without_cache_control(value: Any) -> Any:
    """``value`` less every ``cache_control``, but for those in a tool call's ``input``.

    A tool's input is what the model wrote: a member of that name there is content. Recursive:
    only for values that the JSON encoder, which allows 254 levels, has taken.
    """
    if isinstance(value, dict):
        return {
            key: member if key == "input" else without_cache_control(member)
            for key, member in value.items()
            if key != _CACHE_CONTROL
        }
    if isinstance(value, list):
        return [without_cache_control(element) for element in value]
    return value
