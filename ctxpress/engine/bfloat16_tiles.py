"""Products of bfloat16 in the registers of AVX-512, which no compiler finds by itself.

A word holds two neighbours along the dimension that is summed over. One operand gives a word a
row, for all lanes; the other a vector of words, one a lane. Sums are float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

__all__ = [
    "LANES",
    "TILE_LANES",
    "TILE_ROWS",
    "add_tile",
    "exponentials",
    "has_tiles",
    "next_of",
    "set_tile",
    "words_at",
]

LANES = 16
TILE_ROWS, _TILE_VECTORS = 8, 2  # 16 sums at a time hide how long each takes
TILE_LANES = LANES * _TILE_VECTORS

_I16, _I32, _I64, _F32 = (*(ir.IntType(n) for n in (16, 32, 64)), ir.FloatType())
_WORDS, _FLOATS = ir.VectorType(_I32, LANES), ir.VectorType(_F32, LANES)
_WORD_AT, _FLOAT_AT = types.CPointer(types.uint32), types.CPointer(types.float32)
# 2^x on [-1/2, 1/2], fitted in Chebyshev's nodes: within 2 ulp of float32.
_POWERS = (
    1.0, 0.6931471824645996, 0.24022650718688965, 0.05550327152013779,
    0.00961802527308464, 0.0013400432653725147, 0.00015469732170458883,
)  # fmt: skip


class _BFloat16(ir.Type):  # type: ignore[misc]
    """The type that llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat16)

    def __hash__(self) -> int:
        return hash(_BFloat16)


_HALVES = ir.VectorType(_BFloat16(), 2 * LANES)


def has_tiles() -> bool:
    """Whether this processor multiplies bfloat16."""
    features = llvmlite.binding.get_host_cpu_features()
    return all(features.get(name, False) for name in ("avx512f", "avx512bf16"))


def _tile(keep: bool) -> Callable[[Any, Any, Any, Any], Any]:
    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        rows, row_stride, word_stride, n_words, lanes, lane_stride, out, out_stride = arguments
        places = [
            [
                b.gep(out, [b.add(b.mul(out_stride, _long(row)), _long(LANES * vector))])
                for vector in range(_TILE_VECTORS)
            ]
            for row in range(TILE_ROWS)
        ]
        sums = [[cgutils.alloca_once(b, _FLOATS) for _ in row] for row in places]
        for own_sums, own_places in zip(sums, places, strict=True):
            for held, place in zip(own_sums, own_places, strict=True):
                b.store(_load(b, place, _FLOATS) if keep else ir.Constant(_FLOATS, None), held)
        dot = _function(b, "llvm.x86.avx512bf16.dpbf16ps.512", _FLOATS, [_FLOATS, _HALVES, _HALVES])
        with cgutils.for_range(b, n_words) as loop:
            at = b.gep(lanes, [b.mul(loop.index, lane_stride)])
            others = [
                b.bitcast(_load(b, b.gep(at, [_long(LANES * vector)]), _WORDS), _HALVES)
                for vector in range(_TILE_VECTORS)
            ]
            first = b.mul(loop.index, word_stride)
            for row in range(TILE_ROWS):
                word = b.load(b.gep(rows, [b.add(first, b.mul(row_stride, _long(row)))]))
                same = b.bitcast(_all(b, word, _WORDS), _HALVES)
                for held, other in zip(sums[row], others, strict=True):
                    b.store(b.call(dot, [b.load(held), same, other]), held)
        for own_sums, own_places in zip(sums, places, strict=True):
            for held, place in zip(own_sums, own_places, strict=True):
                b.store(b.load(held), b.bitcast(place, _FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    return generate


_TILE = types.void(
    _WORD_AT, types.int64, types.int64, types.int64, _WORD_AT, types.int64, _FLOAT_AT, types.int64
)


@intrinsic  # type: ignore[untyped-decorator]
def set_tile(
    typing_context: Any,
    rows: Any,
    row_stride: Any,
    word_stride: Any,
    n_words: Any,
    lanes: Any,
    lane_stride: Any,
    out: Any,
    out_stride: Any,
) -> Any:
    """``out[row, lane] = sum of rows[row, word] · lanes[word, lane]``, for a tile of ``out``.

    Strides are in words and floats; lanes lie next to each other.
    """
    return _TILE, _tile(keep=False)


@intrinsic  # type: ignore[untyped-decorator]
def add_tile(
    typing_context: Any,
    rows: Any,
    row_stride: Any,
    word_stride: Any,
    n_words: Any,
    lanes: Any,
    lane_stride: Any,
    out: Any,
    out_stride: Any,
) -> Any:
    """As :func:`set_tile`, added to what ``out`` holds."""
    return _TILE, _tile(keep=True)


@intrinsic  # type: ignore[untyped-decorator]
def exponentials(
    typing_context: Any, logits: Any, stride: Any, n_words: Any, factor: Any, most: Any,
    words: Any, sums: Any,
) -> Any:  # fmt: skip
    """``2 ** (factor · (logits - most))`` of 16 lanes, row by row, rounded to bfloat16.

    Two rows make a row of ``words``; both lie ``stride`` apart. The unrounded numbers are added
    to ``sums``.
    """

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        logits, stride, n_words, factor, most, words, sums = arguments
        factors, most = _all(b, factor, _FLOATS), _load(b, most, _FLOATS)
        held = cgutils.alloca_once(b, _FLOATS)
        b.store(_load(b, sums, _FLOATS), held)
        with cgutils.for_range(b, n_words) as loop:
            row = b.gep(logits, [b.mul(b.mul(loop.index, stride), _long(2))])
            low = _power(b, b.fmul(b.fsub(_load(b, row, _FLOATS), most), factors))
            row = b.gep(row, [stride])
            high = _power(b, b.fmul(b.fsub(_load(b, row, _FLOATS), most), factors))
            b.store(b.fadd(b.load(held), b.fadd(low, high)), held)
            word = b.or_(
                b.lshr(_rounded(b, low), _words(16)),
                b.and_(_rounded(b, high), _words(0xFFFF0000)),
            )
            place = b.gep(words, [b.mul(loop.index, stride)])
            b.store(word, b.bitcast(place, _WORDS.as_pointer()), align=4)
        b.store(b.load(held), b.bitcast(sums, _FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    signature = types.void(
        _FLOAT_AT, types.int64, types.int64, types.float32, _FLOAT_AT, _WORD_AT, _FLOAT_AT
    )
    return signature, generate


@intrinsic  # type: ignore[untyped-decorator]
def words_at(typing_context: Any, address: Any) -> Any:
    """A pointer to words of 32 bits."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        return b.inttoptr(arguments[0], _I32.as_pointer())

    return _WORD_AT(types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def next_of(typing_context: Any, numbers: Any, index: Any) -> Any:
    """``numbers[index]``, which is one more afterwards, whichever threads ask at a time."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        data = make_array(signature.args[0])(context, b, arguments[0]).data
        return b.atomic_rmw("add", b.gep(data, [arguments[1]]), _long(1), "monotonic")

    return types.int64(numbers, types.int64), generate


def _power(b: Any, exponent: Any) -> Any:
    """Two to the power of each lane; zero far below, and NaN stays what it is."""
    nearest = _function(b, "llvm.rint.v16f32", _FLOATS, [_FLOATS])
    fused = _function(b, "llvm.fma.v16f32", _FLOATS, [_FLOATS] * 3)
    scaled = _function(
        b, "llvm.x86.avx512.mask.scalef.ps.512", _FLOATS, [_FLOATS, _FLOATS, _FLOATS, _I16, _I32]
    )
    whole = b.call(nearest, [exponent])
    rest = b.fsub(exponent, whole)
    result = _floats(_POWERS[-1])
    for power in _POWERS[-2::-1]:
        result = b.call(fused, [result, rest, _floats(power)])
    every, as_set = ir.Constant(_I16, -1), ir.Constant(_I32, 4)
    return b.call(scaled, [result, whole, result, every, as_set])


def _rounded(b: Any, numbers: Any) -> Any:
    """The bits of float32 whose upper halves are the nearest bfloat16, ties to even."""
    bits = b.bitcast(numbers, _WORDS)
    odd = b.and_(b.lshr(bits, _words(16)), _words(1))
    return b.add(b.add(bits, _words(0x7FFF)), odd)


def _long(number: int) -> Any:
    return ir.Constant(_I64, number)


def _words(number: int) -> Any:
    return ir.Constant(_WORDS, [number] * LANES)


def _floats(number: float) -> Any:
    return ir.Constant(_FLOATS, [number] * LANES)


def _all(b: Any, scalar: Any, vector: Any) -> Any:
    one = b.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(_I32, 0))
    order = ir.Constant(_WORDS, None)
    return b.shuffle_vector(one, ir.Constant(vector, ir.Undefined), order)


def _load(b: Any, pointer: Any, vector: Any) -> Any:
    return b.load(b.bitcast(pointer, vector.as_pointer()), align=4)


def _function(b: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    known = b.module.globals.get(name)
    return known or ir.Function(b.module, ir.FunctionType(result, arguments), name)
