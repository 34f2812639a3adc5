"""Where the streams of a cachegen section lie, found in one compiled pass.

What was found is an array of integers: ``COPIES`` is 1 where there are copies, then begin and end
of three streams; from ``TENSORS`` on keys, and ``FIELDS`` further values: least rung, rungs above
it, flags, begin and end of scales, means and deltas, and from ``RUNS`` on sinks, and 7 further
other tokens: least rung, rungs above it, outermost symbol, begin and end of scales and symbols.
"""

from __future__ import annotations

import numpy as np

from ctxpress.cache.codecs.entropy.compiling import compiled

__all__ = [
    "COPIES",
    "FIELDS",
    "HAS_CHANNELS",
    "HAS_DELTAS",
    "LEAST_PRODUCT",
    "MOST_PRODUCT",
    "PROBLEMS",
    "RUNS",
    "TENSORS",
    "parse_section",
]

COPIES, TENSORS, FIELDS, RUNS = 0, 7, 23, 9
HAS_CHANNELS, HAS_DELTAS = 1, 2
# The product of two scales and a symbol stays a finite, normal float32.
LEAST_PRODUCT, MOST_PRODUCT = -500, 504
_MOST_RUNG = 480
PROBLEMS = (
    "",
    "an end within its numbers",
    "a stream that is not whole",
    "flag {0} for copies",
    "flags {0:#04x}",
    "channel scales from rung {0} to {1}",
    "token scales from rung {0} to {1}, symbols to {2}",
    "scales whose product is no normal number",
    "{0} bytes behind the last stream",
)


@compiled
def parse_section(data: np.ndarray, has_sinks: bool, fields: np.ndarray) -> int:
    """Fill ``fields``, int64 ``(TENSORS + 2 * FIELDS,)``; 0, or which of PROBLEMS there is.

    Numbers of a problem are the first of ``fields``.
    """
    fields[:] = 0
    if data.size < 1:
        return 1
    place = 1
    if data[0] > 1:
        fields[0] = data[0]
        return 3
    fields[COPIES] = data[0]
    for stream in range(3 * np.int64(data[0])):
        problem, place = _stream(data, place, fields[COPIES + 1 + 2 * stream :])
        if problem:
            return problem
    for which in range(2):
        problem, place = _tensor(data, place, has_sinks, fields, TENSORS + which * FIELDS)
        if problem:
            return problem
    if place != data.size:
        fields[0] = data.size - place
        return 8
    return 0


@compiled
def _tensor(
    data: np.ndarray, place: int, has_sinks: bool, fields: np.ndarray, base: int
) -> tuple[int, int]:
    own = fields[base : base + FIELDS]
    if place + 4 > data.size:
        return 1, place
    own[0], own[1], own[2] = _rung(data, place), data[place + 2], data[place + 3]
    least, most, flags = own[0], own[0] + own[1], own[2]
    place += 4
    if flags & ~(HAS_CHANNELS | HAS_DELTAS):
        fields[0] = flags
        return 4, place
    for stream in range(3):
        if flags & (HAS_CHANNELS if stream < 2 else HAS_DELTAS):
            problem, place = _stream(data, place, own[3 + 2 * stream :])
            if problem:
                return problem, place
    if not (-_MOST_RUNG <= least and most <= _MOST_RUNG):
        fields[0], fields[1] = least, most
        return 5, place
    for run in range(0 if has_sinks else 1, 2):
        part = own[RUNS + 7 * run : RUNS + 7 * run + 7]
        problem, place = _run(data, place, least, most, fields, part)
        if problem:
            return problem, place
    return 0, place


@compiled
def _run(
    data: np.ndarray,
    place: int,
    least_channel: int,
    most_channel: int,
    fields: np.ndarray,
    part: np.ndarray,
) -> tuple[int, int]:
    if place + 4 > data.size:
        return 1, place
    part[0], part[1], part[2] = _rung(data, place), data[place + 2], data[place + 3]
    least, most, outermost = part[0], part[0] + part[1], part[2]
    place += 4
    if not (-_MOST_RUNG <= least and most <= _MOST_RUNG and 1 <= outermost <= 127):
        fields[0], fields[1], fields[2] = least, most, outermost
        return 6, place
    if least + least_channel < LEAST_PRODUCT or most + most_channel > MOST_PRODUCT:
        return 7, place
    for stream in range(2):
        problem, place = _stream(data, place, part[3 + 2 * stream :])
        if problem:
            return problem, place
    return 0, place


@compiled
def _rung(data: np.ndarray, place: int) -> int:
    """The i16 at ``place``."""
    number = int(np.int64(data[place]) | np.int64(data[place + 1]) << 8)
    return number - 65536 if number >= 32768 else number


@compiled
def _stream(data: np.ndarray, place: int, found: np.ndarray) -> tuple[int, int]:
    """Write begin and end of the stream at ``place``; the place behind it."""
    if place + 4 > data.size:
        return 1, place
    size = 0
    for byte in range(4):
        size |= int(np.int64(data[place + byte])) << (8 * byte)
    place += 4
    if size > data.size - place:
        return 2, place
    found[0], found[1] = place, place + size
    return 0, place + size
