"""JSON written in every way a client may write it: spacing, escapes, number spelling."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st

__all__ = ["json_values", "spell", "texts"]

_BLANKS = ("", "", "", " ", "\n", "\t ", "\r\n  ")
_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\b": "\\b", "\f": "\\f", "/": "\\/"}

texts = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\/\n\x00\x7f é漢😀🏳️'),
    max_size=30,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def spell(value: Any, rng: random.Random, *, floats: bool = True) -> str:
    """``value`` as JSON with random spacing and escapes; ``floats``: also `3` as `3.0`."""
    blank = rng.choice(_BLANKS)
    if isinstance(value, str):
        return _string(value, rng)
    if isinstance(value, dict):
        members = (
            f"{rng.choice(_BLANKS)}{_string(key, rng)}{blank}:{rng.choice(_BLANKS)}"
            + spell(inner, rng, floats=floats)
            for key, inner in value.items()
        )
        return "{" + f"{blank},".join(members) + blank + "}"
    if isinstance(value, list):
        elements = (f"{rng.choice(_BLANKS)}{spell(v, rng, floats=floats)}" for v in value)
        return "[" + f"{blank},".join(elements) + blank + "]"
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and floats and rng.random() < 0.3:
        return f"{value}.0"
    return repr(value)


def _string(text: str, rng: random.Random) -> str:
    escapes = rng.choice((0.0, 0.1, 1.0))
    return '"' + "".join(_character(c, rng, escapes) for c in text) + '"'


def _character(character: str, rng: random.Random, escapes: float) -> str:
    must = character in '"\\' or ord(character) < 32
    if not must and rng.random() >= escapes:
        return character
    if character in '"\\' and rng.random() < 0.7:
        return "\\" + character
    if character in _SHORT and rng.random() < 0.7:
        return _SHORT[character]
    units = character.encode("utf-16-be")
    style = rng.choice(("%04x", "%04X"))
    return "".join(
        "\\u" + style % int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2)
    )
