"""The loops of rANS, compiled on first use and without the interpreter's lock.

Interleaved rANS (Duda 2013; Giesen 2014): symbol ``j`` belongs to lane ``j mod n_lanes``, whose
state is 64 bits wide and lies in ``[2**31, 2**63)`` between blocks. Frequencies sum to 4,096; a
lane takes a 32-bit word only after every second symbol of its own, so that two cost one test.
All arithmetic is on integers: every machine gets the same bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types, uint8, uint32, uint64
from numba.extending import intrinsic

from ctxpress.cache.codecs.entropy.compiling import compiled
from ctxpress.cache.codecs.entropy.pricing_kernels import TABLE_BITS, TABLE_SIZE
from ctxpress.cache.codecs.entropy.vectors import (
    address_of,
    decode_eight,
    encode_eight,
    has_vectors,
)

__all__ = [
    "TABLE_SIZE",
    "decode_lanes",
    "decode_table",
    "encode_lanes",
    "expand_groups",
    "inverses_of_frequencies",
    "pack_groups",
    "starts_of",
]

_LOW = 1 << 31


@compiled
def starts_of(frequencies: np.ndarray) -> np.ndarray:
    """What the encoder needs of each group: ``start << 16 | frequency``, uint32."""
    packed = np.zeros(256, np.uint32)
    start = uint32(0)
    for index in range(frequencies.size):
        packed[index] = (start << uint32(16)) | uint32(frequencies[index])
        start += uint32(frequencies[index])
    return packed


@compiled
def decode_table(frequencies: np.ndarray, table: np.ndarray) -> None:
    """Fill ``table``, uint32 ``(4096,)``: ``group << 24 | offset << 12 | frequency`` a slot.

    The free slot acts as group 0 of frequency 1; only damaged streams reach it.
    """
    slot = 0
    for index in range(frequencies.size):
        frequency = uint32(frequencies[index])
        entry = (uint32(index) << uint32(24)) | frequency
        own = table[slot : slot + frequency]
        for offset in range(uint64(own.size)):
            own[offset] = entry | uint32(offset << uint64(12))
        slot += own.size
    while slot < TABLE_SIZE:
        table[slot] = uint32(1)
        slot += 1


@compiled
def pack_groups(
    symbols: np.ndarray,
    order: np.ndarray,
    classes: np.ndarray,
    heads: np.ndarray,
    fillers: np.ndarray,
    starts: np.ndarray,
    packed: np.ndarray,
) -> None:
    """Write ``starts`` of every group, rows in ``order``, each padded with its class's filler.

    Symbols outside their class become its nearest one.
    """
    n_columns = symbols.shape[1]
    digits, scaled = np.empty(256, np.uint32), np.empty(256, np.uint32)
    place, last = 0, -1
    for row in order:
        kind = classes[row]
        low, width, group = heads[kind, 1], heads[kind, 2], heads[kind, 3]
        n_groups = (n_columns + group - 1) // group
        if kind != last:
            last = kind
            for symbol in range(256):
                digits[symbol] = uint32(min(max(symbol - low, 0), width - 1))
                scaled[symbol] = digits[symbol] * uint32(width)
        source, table = symbols[row], starts[kind]
        target = packed[place : place + n_groups]
        place += n_groups
        whole = 0
        if group == 1:
            whole = n_columns
            for column in range(uint64(n_columns)):
                target[column] = table[digits[source[column]]]
        elif group == 2:
            whole = n_columns // 2
            for pair in range(uint64(whole)):
                at = pair + pair
                target[pair] = table[digits[source[at]] + scaled[source[at + uint64(1)]]]
        for number in range(whole, n_groups):
            index, scale = np.int64(0), np.int64(1)
            for column in range(number * group, (number + 1) * group):
                digit = fillers[kind]
                if column < n_columns:
                    digit = np.int64(digits[source[column]])
                index += digit * scale
                scale *= width
            target[number] = table[index]


@intrinsic  # type: ignore[untyped-decorator]
def _high_product(typing_context: Any, one: Any, other: Any) -> Any:
    """The upper 64 bits of the product of two unsigned 64-bit numbers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(argument, wide) for argument in arguments))
        high = builder.lshr(product, ir.Constant(wide, 64))
        return builder.trunc(high, ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


@compiled
def inverses_of_frequencies() -> tuple[np.ndarray, np.ndarray]:
    """What a state is multiplied with and shifted by, instead of divided; of all frequencies.

    With ``s = ceil(log2(f))`` the inverse is ``ceil(2 ** (63 + s) / f)``, and the quotient of a
    state below ``2 ** 63`` is the product's upper half shifted by ``s - 1`` (Granlund and
    Montgomery, 1994). Frequency 1 divides nothing.
    """
    inverses = np.zeros(TABLE_SIZE + 1, np.uint64)
    shifts = np.zeros(TABLE_SIZE + 1, np.uint64)
    for frequency in range(2, TABLE_SIZE + 1):
        shift = 0
        while (1 << shift) < frequency:
            shift += 1
        divisor = uint64(frequency)
        # 2 ** (63 + shift) in two halves, rounded up.
        upper = uint64(1) << uint64(shift + 31)
        lower = ((upper % divisor) << uint64(32)) + divisor - uint64(1)
        inverses[frequency] = ((upper // divisor) << uint64(32)) + lower // divisor
        shifts[frequency] = uint64(shift - 1)
    return inverses, shifts


@compiled
def encode_lanes(
    packed: np.ndarray, n_lanes: int, words: np.ndarray, inverses: np.ndarray, shifts: np.ndarray
) -> int:
    """Encode ``packed`` from its end into the end of ``words``; where the stream begins there.

    ``packed`` is a whole number of blocks of ``2 * n_lanes``, padded with frequency 4,096 at
    start 0, which leaves a state as it is. ``words`` has ``packed.size + 2 * n_lanes`` places.
    ``inverses`` and ``shifts`` are those of :func:`inverses_of_frequencies`.
    """
    # Indices are unsigned throughout: signed ones are tested for counting from the end.
    lanes, one = uint64(n_lanes), uint64(1)
    states = np.full(n_lanes, uint64(_LOW), np.uint64)
    place = uint64(words.size)
    low16, bits = uint64(0xFFFF), uint64(TABLE_BITS)
    base = uint64(packed.size)
    while has_vectors() and lanes % uint64(8) == uint64(0) and base > uint64(0):
        base -= lanes + lanes
        for eight in range(uint64(8), lanes + one, uint64(8)):
            lane = lanes - eight
            place = encode_eight(
                address_of(states, lane),
                address_of(packed, base + lane),
                address_of(packed, base + lanes + lane),
                address_of(words, uint64(0)),
                place,
            )
    while base > uint64(0):
        base -= lanes + lanes
        lane = lanes
        while lane > uint64(0):
            lane -= one
            first, second = uint64(packed[base + lane]), uint64(packed[base + lanes + lane])
            f1, f2 = first & low16, second & low16
            state = states[lane]
            if (state >> uint64(39)) >= f1 * f2:
                place -= one
                words[place] = uint32(state & uint64(0xFFFFFFFF))
                state >>= uint64(32)
            quotient = _high_product(state, inverses[f2]) >> shifts[f2]
            quotient = state if f2 == one else quotient
            state = (quotient << bits) + (state - quotient * f2) + (second >> uint64(16))
            quotient = _high_product(state, inverses[f1]) >> shifts[f1]
            quotient = state if f1 == one else quotient
            states[lane] = (quotient << bits) + (state - quotient * f1) + (first >> uint64(16))
    lane = lanes
    while lane > uint64(0):
        lane -= one
        place -= uint64(2)
        words[place] = uint32(states[lane] & uint64(0xFFFFFFFF))
        words[place + one] = uint32(states[lane] >> uint64(32))
    return int(np.int64(place))


@compiled
def _decode_blocks(
    words: np.ndarray,
    place: int,
    states: np.ndarray,
    table: np.ndarray,
    out: np.ndarray,
    index: int,
    n_blocks: int,
) -> int:
    """Decode whole blocks of one table into ``out`` from ``index`` on; the next word's place.

    ``words`` holds a word for every lane and block behind ``place``, whether it is taken or not.
    """
    lanes, base, at = uint64(states.size), uint64(index), uint64(place)
    mask, low12, bits = uint64(TABLE_SIZE - 1), uint64(0xFFF), uint64(TABLE_BITS)
    for _ in range(n_blocks if has_vectors() and lanes % uint64(8) == uint64(0) else 0):
        for lane in range(uint64(0), lanes, uint64(8)):
            at = decode_eight(
                address_of(states, lane),
                address_of(table, uint64(0)),
                address_of(words, uint64(0)),
                at,
                address_of(out, base + lane),
                address_of(out, base + lanes + lane),
            )
        base += lanes + lanes
    for _ in range(0 if has_vectors() and lanes % uint64(8) == uint64(0) else n_blocks):
        for lane in range(lanes):
            state = states[lane]
            entry = uint64(table[state & mask])
            state = (entry & low12) * (state >> bits) + ((entry >> bits) & low12)
            out[base + lane] = uint8(entry >> uint64(24))
            entry = uint64(table[state & mask])
            state = (entry & low12) * (state >> bits) + ((entry >> bits) & low12)
            out[base + lanes + lane] = uint8(entry >> uint64(24))
            need = state < uint64(_LOW)
            filled = (state << uint64(32)) | uint64(words[at])
            states[lane] = filled if need else state
            at += uint64(need)
        base += lanes + lanes
    return int(np.int64(at))


@compiled
def decode_lanes(
    words: np.ndarray, n_lanes: int, segments: np.ndarray, tables: np.ndarray, out: np.ndarray
) -> int:
    """Decode ``out.size`` groups, uint8; 0, or what is wrong: 1 words end, 2 words or state left.

    ``segments`` ``(n_tables + 1,)``: groups ``segments[k]`` to ``segments[k + 1]`` are of table k.
    """
    if words.size < 2 * n_lanes:
        return 1
    states = np.empty(n_lanes, np.uint64)
    for lane in range(n_lanes):
        states[lane] = uint64(words[2 * lane]) | (uint64(words[2 * lane + 1]) << uint64(32))
    place, block = 2 * n_lanes, 2 * n_lanes
    for kind in range(segments.size - 1):
        table = tables[kind]
        index, end = segments[kind], segments[kind + 1]
        while index < end:
            n_blocks = min((end - index) // block, (words.size - place) // n_lanes)
            if index % block == 0 and n_blocks > 0:
                place = _decode_blocks(words, place, states, table, out, index, n_blocks)
                index += n_blocks * block
                continue
            state, entry = _decoded_one(states[index % n_lanes], table)
            out[index] = uint8(entry >> uint64(24))
            if (index // n_lanes) % 2 == 1 and state < uint64(_LOW):
                if place >= words.size:
                    return 1
                state = (state << uint64(32)) | uint64(words[place])
                place += 1
            states[index % n_lanes] = state
            index += 1
    return _finish_lanes(words, place, states, out.size)


@compiled
def _decoded_one(state: int, table: np.ndarray) -> tuple[int, int]:
    entry = uint64(table[state & uint64(TABLE_SIZE - 1)])
    low12, bits = uint64(0xFFF), uint64(TABLE_BITS)
    return (entry & low12) * (state >> bits) + ((entry >> bits) & low12), entry


@compiled
def _finish_lanes(words: np.ndarray, place: int, states: np.ndarray, n_groups: int) -> int:
    """Whether every lane ends as it began, and the words with them; as :func:`decode_lanes`."""
    n_lanes = states.size
    for lane in range(n_lanes):
        index = n_groups - 1 - (n_groups - 1 - lane) % n_lanes
        # A lane that ends on the first symbol of a pair still owes the pair's test.
        owes = n_groups > lane and (index // n_lanes) % 2 == 0
        if owes and states[lane] < uint64(_LOW):
            if place >= words.size:
                return 1
            states[lane] = (states[lane] << uint64(32)) | uint64(words[place])
            place += 1
        if states[lane] != uint64(_LOW):
            return 2
    return 0 if place == words.size else 2


@compiled
def expand_groups(
    grouped: np.ndarray,
    order: np.ndarray,
    classes: np.ndarray,
    heads: np.ndarray,
    n_columns: int,
    out: np.ndarray,
) -> None:
    """Write the symbols of ``grouped``, rows in ``order``, to the first columns of ``out``."""
    digits = np.empty((4, 256), np.uint8)
    pairs = np.empty(256, np.uint16)
    both = pairs.view(np.uint8)  # in the machine's own order, as rows of symbols are
    last, place = -1, 0
    for row in order:
        kind = classes[row]
        low, width, group = heads[kind, 1], heads[kind, 2], heads[kind, 3]
        if kind != last and group > 1:
            for index in range(width**group):
                rest = index
                for digit in range(group):
                    digits[digit, index] = uint8(low + rest % width)
                    rest //= width
                both[2 * index], both[2 * index + 1] = digits[0, index], digits[1, index]
        last = kind
        n_groups = (n_columns + group - 1) // group
        source, target = grouped[place : place + n_groups], out[row]
        place += n_groups
        if group == 1:
            lowest = uint8(low)
            for column in range(uint64(n_columns)):
                target[column] = source[column] + lowest
            continue
        whole = 0
        if group == 2 and target.size % 2 == 0:
            whole = n_columns // 2
            wide = target.view(np.uint16)
            for pair in range(uint64(whole)):
                wide[pair] = pairs[source[pair]]
        for number in range(whole, n_groups):
            for digit in range(min(group, n_columns - number * group)):
                target[number * group + digit] = digits[digit, source[number]]
