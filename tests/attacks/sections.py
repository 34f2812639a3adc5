"""Attacks on sections: where they lie, whose they are, and what stands in them."""

from __future__ import annotations

import struct
from collections.abc import Callable

from ctxpress.errors import LimitExceededError
from tests.attacks.attack import Attack, changed
from tests.attacks.forging import Forgery, set_field

RISING = "parameters.exact_tokens are not rising token indices"
NO_LIST = "parameters.exact_tokens is not a list of integers"
SIZE = f"header: an integer of section 1 must be an integer of 0 to {2**63 - 1}"
NOT_A_ROW = "header: section 1 is not [first layer, last layer, bytes, CRC-32]"


def out_of_order(held: str, expected: int) -> str:
    return f"header: section 1 holds layers {held}, not from layer {expected}"


def rows(change: Callable[[list[list[int]]], object]) -> Callable[[], bytes]:
    """The table of sections with a change to its right rows."""

    def apply(forgery: Forgery) -> None:
        forgery.rows = forgery.right_rows()
        change(forgery.rows)

    return changed(apply)


def ranges(*layers: tuple[int, int]) -> Callable[[], bytes]:
    """Sections that hold these layers; all of them have the first section's bytes."""

    def apply(forgery: Forgery) -> None:
        forgery.layers = [list(pair) for pair in layers]
        forgery.sections = forgery.sections[:1] * len(layers)

    return changed(apply)


def item(row: int, place: int, value: object) -> Callable[[], bytes]:
    return rows(lambda table: table[row].__setitem__(place, value))  # type: ignore[call-overload]


def section(
    change: Callable[[bytes], bytes], codec: str = "raw", *, exact: bool = False
) -> Callable[[], bytes]:
    """The last section with other bytes, and checksums that are right."""

    def apply(forgery: Forgery) -> None:
        forgery.sections[-1] = change(forgery.sections[-1])

    return changed(apply, codec, exact=exact)


def exact_tokens(value: object) -> Callable[[], bytes]:
    return changed(set_field(["parameters", "exact_tokens"], value), "int8")


def put(offset: int, data: bytes) -> Callable[[bytes], bytes]:
    return lambda own: own[:offset] + data + own[offset + len(data) :]


def many_exact_tokens(forgery: Forgery) -> None:
    """150,000 tokens to check, in each of 1,024 sections."""
    forgery.header["parameters"]["exact_tokens"] = list(range(150_000))
    forgery.header["layout"].update(n_tokens=150_000, n_layers=1024, n_kv_heads=1, head_dim=1)
    forgery.layers = [[layer, layer + 1] for layer in range(1024)]
    forgery.sections = [b"\0" * 4] * 1024


TABLE = (
    Attack("no sections at all", ranges(), "header: sections hold 0 layers of 2"),
    Attack("a layer is missing", ranges((0, 1)), "header: sections hold 1 layers of 2"),
    Attack("a layer too many", ranges((0, 1), (1, 3)), "header: sections hold 3 layers of 2"),
    Attack("a hole", ranges((0, 1), (2, 3)), out_of_order("2 to 3", 1)),
    Attack("an overlap", ranges((0, 2), (1, 2)), out_of_order("1 to 2", 2)),
    Attack("the same layer twice", ranges((0, 1), (0, 1)), out_of_order("0 to 1", 1)),
    Attack(
        "another order",
        ranges((1, 2), (0, 1)),
        "header: section 0 holds layers 1 to 2, not from layer 0",
    ),
    Attack("a range backwards", ranges((0, 1), (1, 0)), out_of_order("1 to 0", 1)),
    Attack("an empty range", ranges((0, 1), (1, 1)), out_of_order("1 to 1", 1)),
    Attack(
        "a shared section that is not the first", ranges((0, 1), (0, 0)), out_of_order("0 to 0", 1)
    ),
    Attack("two shared sections", ranges((0, 0), (0, 0), (0, 2)), out_of_order("0 to 0", 0)),
    Attack(
        "ten thousand sections", ranges(*[(0, 0)] * 10_000), "header: 10000 sections for 2 layers"
    ),
    Attack("a row of three", rows(lambda table: table[1].pop()), NOT_A_ROW),
    Attack("a row of five", rows(lambda table: table[1].append(0)), NOT_A_ROW),
    Attack("a row that is an object", rows(lambda table: table.__setitem__(1, {})), NOT_A_ROW),  # type: ignore[call-overload]
    Attack("a row that is a text", rows(lambda table: table.__setitem__(1, "abcd")), NOT_A_ROW),  # type: ignore[call-overload]
    Attack(
        "a table that is an object",
        changed(lambda one: setattr(one, "rows", {})),
        "header: header.sections is not of type list",
    ),
    Attack("a negative size", item(1, 2, -60), SIZE),
    Attack("a size of 64 bits", item(1, 2, 2**63), SIZE),
    Attack("a size that is true", item(1, 2, True), SIZE),
    Attack("a size that is a text", item(1, 2, "60"), SIZE),
    Attack(
        "a checksum of 33 bits",
        item(1, 3, 2**32),
        f"header: an integer of section 1 must be an integer of 0 to {2**32 - 1}",
    ),
    Attack(
        "a negative layer",
        item(0, 0, -1),
        "header: an integer of section 0 must be an integer of 0 to 1024",
    ),
    Attack(
        "a section of four exbibytes",
        item(1, 2, 2**62),
        f"section 1 has {2**62} bytes; {2 * 60 + 2**20} are allowed for its layers",
        LimitExceededError,
    ),
    Attack(
        "a section one byte larger than any codec needs",
        section(lambda own: bytes(2 * 60 + 2**20 + 1)),
        f"section 1 has {2 * 60 + 2**20 + 1} bytes; {2 * 60 + 2**20} are allowed for its layers",
        LimitExceededError,
    ),
    Attack("a forged checksum", item(1, 3, 0), "the checksum of section 1 does not match"),
)

EXACT_ROWS = (
    Attack("no exact tokens", changed(lambda one: one.header["parameters"].clear()), NO_LIST),
    Attack("exact tokens in a text", exact_tokens("012"), NO_LIST),
    Attack("exact tokens in an object", exact_tokens({"0": 1}), NO_LIST),
    Attack("exact tokens within a list", exact_tokens([[0]]), NO_LIST),
    Attack("exact tokens that are texts", exact_tokens(["0"]), NO_LIST),
    Attack("an exact token twice", exact_tokens([1, 1]), RISING),
    Attack("exact tokens that fall", exact_tokens([2, 1]), RISING),
    Attack("an exact token before the first", exact_tokens([-1]), RISING),
    Attack("an exact token behind the last", exact_tokens([3]), RISING),
    Attack("an exact token of 63 bits", exact_tokens([2**63 - 1]), RISING),
    Attack(
        "exact tokens without rows", exact_tokens([0]), "section 0: 0 bytes of exact rows, not 20"
    ),
    Attack(
        "rows without exact tokens",
        changed(set_field(["parameters", "exact_tokens"], []), "int8", exact=True),
        "section 0: 20 bytes of exact rows, not 0",
    ),
    Attack(
        "exact rows of 4 GiB",
        section(put(0, b"\xff" * 4), "int8"),
        f"section 1: {2**32 - 1} bytes of exact rows, not 0",
    ),
    Attack(
        "exact rows that end in the middle",
        section(lambda own: own[:20], "int8", exact=True),
        "section 1: 20 bytes of exact rows, not 20",
    ),
    Attack("a section of nothing", section(lambda own: b"", "int8"), "section 1 is too short"),
    Attack(
        "a section of three bytes", section(lambda own: own[:3], "int8"), "section 1 is too short"
    ),
    Attack(
        "exact tokens that are checked for each of 1,024 sections",
        changed(many_exact_tokens, "int8"),
        "section 0: 0 bytes of exact rows, not 600000",
    ),
)

CODECS = (
    Attack("raw: a value too few", section(lambda own: own[:-2]), "section 1 has 58 bytes, not 60"),
    Attack(
        "raw: half a value too many",
        section(lambda own: own + b"\0"),
        "section 1 has 61 bytes, not 60",
    ),
    *(
        Attack(
            f"{codec}: a scale that is {what}",
            section(put(4, struct.pack("<H", bits)), codec),
            "section 1 holds a scale that is no finite number",
        )
        for codec in ("int8", "int4")
        for what, bits in (
            ("infinite", 0x7F80),
            ("NaN", 0x7FC0),
            ("negative", 0xBF80),
            ("minus zero", 0x8000),
        )
    ),
    Attack(
        "int8: a symbol too few",
        section(lambda own: own[:-1], "int8"),
        "section 1 has 41 bytes for 1 layers, not 42 for one",
    ),
    Attack(
        "int4: a symbol too many",
        section(lambda own: own + b"\0", "int4"),
        "section 1 has 29 bytes for 1 layers, not 28 for one",
    ),
    Attack(
        "int4: half a byte too many",
        section(lambda own: own[:-1] + b"\xf0", "int4"),
        "section 1 holds half a byte too many",
    ),
    Attack(
        "int8: two layers in one section",
        changed(lambda one: (setattr(one, "layers", [[0, 2]]), one.sections.pop()), "int8"),
        "section 0 has 42 bytes for 2 layers, not 42 for one",
    ),
)

ATTACKS = (*TABLE, *EXACT_ROWS, *CODECS)
