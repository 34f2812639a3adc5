"""The one JSON form of a container's header: what is read must be what would be written."""

from __future__ import annotations

import json
from typing import Any, Final

__all__ = ["from_canonical", "to_canonical"]

_MAX_INTEGER_CHARS: Final = 20  # a sign and the 19 digits of 2**63 - 1


def to_canonical(value: object) -> bytes:
    """JSON in ASCII with sorted keys and without blanks, from objects, lists, texts, integers.

    :raises ValueError: a number is NaN or infinite.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode("ascii")


def from_canonical(text: bytes) -> dict[str, Any]:
    """The object that ``text`` is the canonical JSON of.

    :raises ValueError: it is not JSON, holds numbers that are no 64-bit integers, or has a form
        that readers differ on: duplicate keys, blanks, other orders or escapes.
    """
    try:
        value = json.loads(
            text.decode("ascii"),
            parse_int=_integer,
            parse_float=_no_integer,
            parse_constant=_no_integer,
        )
        again = to_canonical(value)
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise ValueError("not JSON in ASCII") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict) or again != text:
        raise ValueError("not in canonical form")
    return value


def _integer(digits: str) -> int:
    # Longer ones would cost quadratic time, or Python's own error where it limits them.
    if len(digits) > _MAX_INTEGER_CHARS:
        raise ValueError(f"an integer of {len(digits)} characters")
    return int(digits)


def _no_integer(spelling: str) -> None:
    raise ValueError(f"{spelling[:32]} is not an integer")
