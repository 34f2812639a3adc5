"""The loops of rANS, compiled on first use and without the interpreter's lock.

Interleaved rANS (Duda 2013; Giesen 2014): symbol ``j`` belongs to lane ``j mod n_lanes``, whose
state is 64 bits wide and lies in ``[2**31, 2**63)`` between blocks. Frequencies sum to 4,096; a
lane takes a 32-bit word only after every second symbol of its own, so that two cost one test.
All arithmetic is on integers: every machine gets the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from llvmlite import ir
from numba import njit, types, uint8, uint32, uint64
from numba.extending import intrinsic

__all__ = [
    "TABLE_SIZE",
    "cheapest_tables",
    "decode_lanes",
    "decode_table",
    "encode_lanes",
    "expand_groups",
    "group_frequencies",
    "histograms",
    "inverses_of_frequencies",
    "list_outliers",
    "pack_groups",
    "place_outliers",
    "price_groups",
    "starts_of",
    "sums_of_classes",
]

TABLE_BITS = 12
TABLE_SIZE = 1 << TABLE_BITS
_LOW = 1 << 31
_Function = TypeVar("_Function", bound=Callable[..., Any])


def _compiled(function: _Function) -> _Function:
    compiled: _Function = njit(nogil=True, cache=True)(function)
    return compiled


@_compiled
def histograms(symbols: np.ndarray, n_levels: int) -> np.ndarray:
    """How often each row holds each symbol: ``(n_rows, n_levels)`` float32.

    A row with a symbol that is not below ``n_levels`` has a sum below ``n_columns``.
    """
    n_rows, n_columns = symbols.shape
    counts = np.empty((n_rows, n_levels), np.float32)
    # Two counters a symbol, since equal neighbours would wait for each other's sum.
    even, odd = np.zeros(256, np.uint32), np.zeros(256, np.uint32)
    for row in range(n_rows):
        source = symbols[row]
        for pair in range(uint64(n_columns // 2)):
            even[source[pair + pair]] += uint32(1)
            odd[source[pair + pair + uint64(1)]] += uint32(1)
        if n_columns % 2:
            even[source[n_columns - 1]] += uint32(1)
        for symbol in range(n_levels):
            counts[row, symbol] = np.float32(even[symbol] + odd[symbol])
            even[symbol] = uint32(0)
            odd[symbol] = uint32(0)
    return counts


@_compiled
def sums_of_classes(counts: np.ndarray, of_rows: np.ndarray, n_classes: int) -> np.ndarray:
    """``counts`` of the rows of each class together: float32 ``(n_classes, n_levels)``."""
    sums = np.zeros((n_classes, counts.shape[1]), np.float32)
    for row in range(counts.shape[0]):
        for level in range(counts.shape[1]):
            sums[of_rows[row], level] += counts[row, level]
    return sums


@_compiled
def cheapest_tables(
    bits: np.ndarray, sizes: np.ndarray, most: int, n_rounds: int
) -> tuple[np.ndarray, np.ndarray]:
    """The table of each bin of ``sizes`` rows, by its bits and those of naming it in each row.

    ``bits``: float32 ``(n_bins, n_tables)``. At most ``most`` tables are used. Returns the tables
    used, rising, and each bin's place among them.
    """
    n_bins, n_tables = bits.shape
    chosen = np.empty(n_bins, np.int64)
    for index in range(n_bins):
        chosen[index] = bits[index].argmin()
    total = sizes.sum()
    for _ in range(n_rounds):
        rows = np.zeros(n_tables, np.int64)
        for index in range(n_bins):
            rows[chosen[index]] += sizes[index]
        popular = np.argsort(-rows, kind="mergesort")[:most]
        allowed = popular[rows[popular] > 0]
        name_bits = np.log2(total / rows[allowed])
        for index in range(n_bins):
            best = np.inf
            for place in range(allowed.size):
                cost = bits[index, allowed[place]] + sizes[index] * name_bits[place]
                if cost < best:
                    best = cost
                    chosen[index] = allowed[place]
    used = np.zeros(n_tables, np.bool_)
    for index in range(n_bins):
        used[chosen[index]] = True
    kept = np.flatnonzero(used)
    places = np.cumsum(used) - 1
    return kept, places[chosen]


@_compiled
def group_frequencies(weights: np.ndarray, group: int) -> np.ndarray:  # noqa: C901  (one loop each)
    """Frequencies of ``group`` symbols taken together: uint32 ``(n_symbols ** group,)``.

    The first symbol of a group is its lowest digit. ``weights`` are uint32 of at most 4,096, and a
    group is as likely as the product of its symbols. The sum is 4,095: one slot stays free, so that
    no frequency needs thirteen bits. What is possible at all gets at least 1.
    """
    n_symbols = weights.size
    size = n_symbols**group
    products = np.empty(size, np.uint64)
    total = uint64(0)
    for index in range(size):
        product, rest = uint64(1), index
        for _ in range(group):
            product *= uint64(weights[rest % n_symbols])
            rest //= n_symbols
        products[index] = product
        total += product
    # The rare ones first: what is left is shared by those that get more than 1.
    slots = uint64(TABLE_SIZE - 1)
    large, n_small = uint64(0), uint64(0)
    for index in range(size):
        if products[index] * slots > total:
            large += products[index]
        elif products[index] > 0:
            n_small += uint64(1)
    left = slots - n_small
    frequencies = np.zeros(size, np.uint32)
    used, largest = uint64(0), 0
    for index in range(size):
        product = products[index]
        if product * slots > total:
            frequencies[index] = uint32(max(uint64(1), product * left // large))
        elif product > 0:
            frequencies[index] = uint32(1)
        used += uint64(frequencies[index])
        if frequencies[index] > frequencies[largest]:
            largest = index
    while used > slots:  # a share below 1 was rounded up
        for index in range(size):
            if used > slots and frequencies[index] > 1:
                frequencies[index] -= uint32(1)
                used -= uint64(1)
    frequencies[largest] += uint32(slots - used)
    return frequencies


@_compiled
def price_groups(weights: np.ndarray, counts: np.ndarray, n_columns: int, most: int) -> np.ndarray:
    """Bits that symbols of ``counts`` cost in groups of 1, 2, … at most ``most``: float64.

    Infinite where a group has more than 256 combinations. Symbols of a group count as independent.
    """
    bits = np.full(most, np.inf)
    n_symbols = counts.sum()
    likely = counts / n_symbols
    together = np.ones(1)
    for group in range(1, most + 1):
        if weights.size**group > 256:
            break
        before = together
        together = np.empty(before.size * weights.size)
        for digit in range(weights.size):
            together[digit * before.size : (digit + 1) * before.size] = before * likely[digit]
        frequencies = group_frequencies(weights, group)
        total = 0.0
        for index in range(together.size):
            if together[index] > 0.0:
                total += together[index] * (12.0 - np.log2(np.float64(frequencies[index])))
        padded = ((n_columns + group - 1) // group) * group / n_columns
        bits[group - 1] = total / group * padded * n_symbols
    return bits


@_compiled
def starts_of(frequencies: np.ndarray) -> np.ndarray:
    """What the encoder needs of each group: ``start << 16 | frequency``, uint32."""
    packed = np.zeros(256, np.uint32)
    start = uint32(0)
    for index in range(frequencies.size):
        packed[index] = (start << uint32(16)) | uint32(frequencies[index])
        start += uint32(frequencies[index])
    return packed


@_compiled
def decode_table(frequencies: np.ndarray, table: np.ndarray) -> None:
    """Fill ``table``, uint32 ``(4096,)``: ``group << 24 | offset << 12 | frequency`` a slot.

    The free slot acts as group 0 of frequency 1; only damaged streams reach it.
    """
    slot = 0
    for index in range(frequencies.size):
        frequency = uint32(frequencies[index])
        for offset in range(frequency):
            table[slot] = (uint32(index) << uint32(24)) | (uint32(offset) << uint32(12)) | frequency
            slot += 1
    while slot < TABLE_SIZE:
        table[slot] = uint32(1)
        slot += 1


@_compiled
def pack_groups(
    symbols: np.ndarray,
    order: np.ndarray,
    classes: np.ndarray,
    lows: np.ndarray,
    widths: np.ndarray,
    groups: np.ndarray,
    fillers: np.ndarray,
    starts: np.ndarray,
    packed: np.ndarray,
) -> None:
    """Write ``starts`` of every group, rows in ``order``, each padded with its class's filler.

    Symbols outside their class become its nearest one.
    """
    n_columns = symbols.shape[1]
    place = 0
    for row in order:
        kind = classes[row]
        low, width, group = lows[kind], widths[kind], groups[kind]
        n_groups = (n_columns + group - 1) // group
        source, table = symbols[row], starts[kind]
        target = packed[place : place + n_groups]
        place += n_groups
        whole = n_columns // group
        if group == 1:
            _pack_ones(source, low, width, table, target)
        elif group == 2:
            _pack_pairs(source, low, width, table, target[:whole])
        else:
            whole = 0
        for number in range(0 if group > 2 else whole, n_groups):
            index, scale = np.int64(0), np.int64(1)
            for column in range(number * group, (number + 1) * group):
                symbol = fillers[kind]
                if column < n_columns:
                    symbol = np.int64(source[column]) - low
                index += min(max(symbol, 0), width - 1) * scale
                scale *= width
            target[number] = table[index]


@_compiled
def _pack_ones(
    source: np.ndarray, low: int, width: int, table: np.ndarray, target: np.ndarray
) -> None:
    most = np.int32(width - 1)
    for column in range(uint64(target.size)):
        symbol = min(max(np.int32(source[column]) - np.int32(low), np.int32(0)), most)
        target[column] = table[uint32(symbol)]


@_compiled
def _pack_pairs(
    source: np.ndarray, low: int, width: int, table: np.ndarray, target: np.ndarray
) -> None:
    most, offset, scale = np.int32(width - 1), np.int32(low), np.int32(width)
    for pair in range(uint64(target.size)):
        at = pair + pair
        first = min(max(np.int32(source[at]) - offset, np.int32(0)), most)
        second = min(max(np.int32(source[at + uint64(1)]) - offset, np.int32(0)), most)
        target[pair] = table[uint32(second * scale + first)]


@intrinsic  # type: ignore[untyped-decorator]
def _high_product(typing_context: Any, one: Any, other: Any) -> Any:
    """The upper 64 bits of the product of two unsigned 64-bit numbers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(argument, wide) for argument in arguments))
        high = builder.lshr(product, ir.Constant(wide, 64))
        return builder.trunc(high, ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


@_compiled
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


@_compiled
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


@_compiled
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
    for _ in range(n_blocks):
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


@_compiled
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


@_compiled
def _decoded_one(state: int, table: np.ndarray) -> tuple[int, int]:
    entry = uint64(table[state & uint64(TABLE_SIZE - 1)])
    low12, bits = uint64(0xFFF), uint64(TABLE_BITS)
    return (entry & low12) * (state >> bits) + ((entry >> bits) & low12), entry


@_compiled
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


@_compiled
def expand_groups(
    grouped: np.ndarray,
    order: np.ndarray,
    classes: np.ndarray,
    lows: np.ndarray,
    widths: np.ndarray,
    groups: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write the symbols of ``grouped``, rows in ``order``, to their rows of ``out``, uint8."""
    n_columns = out.shape[1]
    digits = np.empty((4, 256), np.uint8)
    last, place = -1, 0
    for row in order:
        kind = classes[row]
        group = groups[kind]
        if kind != last:
            last = kind
            for index in range(256):
                rest = index
                for digit in range(group):
                    digits[digit, index] = uint8(lows[kind] + rest % widths[kind])
                    rest //= widths[kind]
        n_groups = (n_columns + group - 1) // group
        source, target = grouped[place : place + n_groups], out[row]
        place += n_groups
        if group == 1:
            for column in range(uint64(n_columns)):
                target[column] = digits[0, source[column]]
            continue
        whole = 0
        if group == 2:
            whole = n_columns // 2
            for pair in range(uint64(whole)):
                target[pair + pair] = digits[0, source[pair]]
                target[pair + pair + uint64(1)] = digits[1, source[pair]]
        for number in range(whole, n_groups):
            for digit in range(min(group, n_columns - number * group)):
                target[number * group + digit] = digits[digit, source[number]]


@_compiled
def _any_outside(row: np.ndarray, low: int, reach: int) -> bool:
    """Whether a symbol is not ``low`` to ``low + reach``; without branches, so as vectors."""
    found = uint8(0)
    for column in range(row.size):
        found |= uint8(uint8(row[column] - low) > reach)
    return bool(found)


@_compiled
def list_outliers(
    symbols: np.ndarray, classes: np.ndarray, lows: np.ndarray, widths: np.ndarray
) -> np.ndarray:
    """Symbols outside their row's class, as bytes: steps from one to the next, and the symbols.

    A step is that of the place in the whole array, seven bits a byte, the lowest first, with 128
    added to all bytes but the last; the first step is from place -1.
    """
    n_rows, n_columns = symbols.shape
    out = np.empty(64, np.uint8)
    size, last = 0, np.int64(-1)
    for row in range(n_rows):
        low, width = lows[classes[row]], widths[classes[row]]
        if not _any_outside(symbols[row], uint8(low), uint8(width - 1)):
            continue
        for column in range(n_columns):
            symbol = np.int64(symbols[row, column])
            if low <= symbol < low + width:
                continue
            if size + 16 > out.size:
                larger = np.empty(2 * out.size, np.uint8)
                larger[:size] = out[:size]
                out = larger
            step = np.int64(row * n_columns + column - last)
            last += step
            while step >= 128:
                out[size] = uint8(128 | (step & 127))
                step >>= 7
                size += 1
            out[size] = uint8(step)
            out[size + 1] = uint8(symbol)
            size += 2
    return out[:size].copy()


@_compiled
def place_outliers(data: np.ndarray, n_levels: int, flat: np.ndarray) -> bool:
    """Write what :func:`list_outliers` listed into ``flat``; whether it was a whole list."""
    at, last = 0, np.int64(-1)
    while at < data.size:
        step, shift = np.int64(0), np.int64(0)
        while at < data.size and data[at] >= 128 and shift < 42:
            step |= np.int64(data[at] & 127) << shift
            shift += 7
            at += 1
        if at + 1 >= data.size or data[at] >= 128:
            return False
        step |= np.int64(data[at]) << shift
        last += step
        if step == 0 or last >= flat.size or data[at + 1] >= n_levels:
            return False
        flat[last] = data[at + 1]
        at += 2
    return True
