"""Containers changed at random, with checksums made right, by choices that any fuzzer can make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from tests.attacks.forging import Forgery

EDGES = (0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 127, 128, 255, 256, 257, 65535, 65536, 2**20, 2**31 - 1,
         2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64, -1, -2, -(2**31), -(2**63))  # fmt: skip
TEXTS = (
    "",
    "raw",
    "int8",
    "int4",
    "cachegen-2",
    "float32",
    "bfloat16",
    "float16",
    "\u00e9",
    "0" * 64,
)


class Choices(Protocol):
    """Where the randomness comes from."""

    def integer(self, least: int, most: int) -> int:
        """An integer of ``least`` to ``most``."""

    def data(self, most: int) -> bytes:
        """At most ``most`` bytes."""


def mutated(data: bytes, choices: Choices) -> bytes:
    """``data`` with one to four changes; in most cases all checksums are right."""
    forgery = Forgery.of(data)
    for _ in range(choices.integer(1, 4)):
        MUTATIONS[choices.integer(0, len(MUTATIONS) - 1)](forgery, choices)
    built = forgery.build()
    if choices.integer(0, 9) == 0:
        built = _cut_or_flipped(built, choices)
    return built


def _cut_or_flipped(data: bytes, choices: Choices) -> bytes:
    place = choices.integer(0, max(len(data) - 1, 0))
    if choices.integer(0, 1) or not data:
        return data[:place]
    return data[:place] + bytes([data[place] ^ (1 << choices.integer(0, 7))]) + data[place + 1 :]


def _section(forgery: Forgery, choices: Choices) -> int:
    return choices.integer(0, len(forgery.sections) - 1)


def flip(forgery: Forgery, choices: Choices) -> None:
    index = _section(forgery, choices)
    forgery.sections[index] = _cut_or_flipped(forgery.sections[index], choices)


def overwrite(forgery: Forgery, choices: Choices) -> None:
    index = _section(forgery, choices)
    section = forgery.sections[index]
    # Lengths, counts and modes stand at the beginning of things: half of the changes go there.
    most = len(section) if choices.integer(0, 1) else min(len(section), 64)
    place, new = choices.integer(0, most), choices.data(16)
    forgery.sections[index] = section[:place] + new + section[place + len(new) :]


def write_integer(forgery: Forgery, choices: Choices) -> None:
    index = _section(forgery, choices)
    section = forgery.sections[index]
    width = (1, 2, 4, 8)[choices.integer(0, 3)]
    value = EDGES[choices.integer(0, len(EDGES) - 1)] % 2 ** (8 * width)
    place = choices.integer(0, min(len(section), 64))
    new = value.to_bytes(width, "little")
    forgery.sections[index] = section[:place] + new + section[place + width :]


def insert(forgery: Forgery, choices: Choices) -> None:
    index = _section(forgery, choices)
    place = choices.integer(0, len(forgery.sections[index]))
    section = forgery.sections[index]
    forgery.sections[index] = section[:place] + choices.data(64) + section[place:]


def remove(forgery: Forgery, choices: Choices) -> None:
    index = _section(forgery, choices)
    section = forgery.sections[index]
    place, count = choices.integer(0, len(section)), choices.integer(1, 16)
    forgery.sections[index] = section[:place] + section[place + count :]


def splice(forgery: Forgery, choices: Choices) -> None:
    one, other = _section(forgery, choices), _section(forgery, choices)
    head, tail = forgery.sections[one], forgery.sections[other]
    place = choices.integer(0, min(len(head), len(tail)))
    forgery.sections[one] = head[:place] + tail[place:]


def replace(forgery: Forgery, choices: Choices) -> None:
    forgery.sections[_section(forgery, choices)] = choices.data(256)


def merge(forgery: Forgery, choices: Choices) -> None:
    index = _section(forgery, choices)
    if index + 1 < len(forgery.sections):
        forgery.layers[index][1] = forgery.layers.pop(index + 1)[1]
        forgery.sections[index] += forgery.sections.pop(index + 1)


def share(forgery: Forgery, choices: Choices) -> None:
    if forgery.layers and forgery.layers[0] == [0, 0]:
        forgery.layers.pop(0)
        forgery.sections.pop(0)
    else:
        forgery.layers.insert(0, [0, 0])
        forgery.sections.insert(0, choices.data(64))


def shape(forgery: Forgery, choices: Choices) -> None:
    name = ("n_layers", "n_kv_heads", "n_tokens", "head_dim")[choices.integer(0, 3)]
    layout = forgery.header["layout"]
    if isinstance(layout, dict):
        layout[name] = choices.integer(0, 40) if choices.integer(0, 3) else _value(choices)


def header_field(forgery: Forgery, choices: Choices) -> None:
    names = sorted(forgery.header)
    _change(forgery.header, names[choices.integer(0, len(names) - 1)], choices)


def parameter(forgery: Forgery, choices: Choices) -> None:
    _change(forgery.header, "parameters", choices)


def _change(place: Any, name: Any, choices: Choices) -> None:
    """Go down from ``place[name]`` for a while, and put something else where that ends."""
    inner = place[name]
    if isinstance(inner, dict | list) and inner and choices.integer(0, 7):
        names = sorted(inner) if isinstance(inner, dict) else range(len(inner))
        _change(inner, names[choices.integer(0, len(names) - 1)], choices)
    elif type(inner) is int and choices.integer(0, 1):
        place[name] = inner + choices.integer(-3, 3)
    elif isinstance(inner, list) and choices.integer(0, 1):
        inner.append(choices.integer(0, 20))
    else:
        place[name] = _value(choices)


def _value(choices: Choices) -> object:
    kind = choices.integer(0, 9)
    if kind < 6:
        return EDGES[choices.integer(0, len(EDGES) - 1)]
    if kind < 8:
        return TEXTS[choices.integer(0, len(TEXTS) - 1)]
    return (None, True, [], {}, [0], 1.5, [[]], float("nan"))[choices.integer(0, 7)]


MUTATIONS: tuple[Callable[[Forgery, Choices], None], ...] = (
    flip, flip, overwrite, overwrite, write_integer, write_integer, insert, remove, splice, replace,
    merge, share, shape, header_field, parameter, parameter,
)  # fmt: skip
