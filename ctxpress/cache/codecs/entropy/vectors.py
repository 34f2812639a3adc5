"""Eight lanes of rANS at once, for processors with AVX-512; all others keep to the plain loops.

The same integers as in ``kernels.py``, written for vectors, since no compiler finds the moves of
words between memory and lanes by itself. Division needs no 128-bit product here: quotients stay
below ``2**51``, so that one in float64 is at most 1 off, which its remainder tells.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

__all__ = [
    "address_of",
    "bits_of_float",
    "decode_eight",
    "encode_eight",
    "float_of_bits",
    "half_of",
    "halves_at",
    "has_halves",
    "has_vectors",
]

_I1, _I8, _I32, _I64, _F64 = (*(ir.IntType(n) for n in (1, 8, 32, 64)), ir.DoubleType())
_LANES = 8
_NEEDED = ("avx512f", "avx512vl", "avx512dq", "avx512bw")
_HALVES = ("f16c",)
_WORDS = types.CPointer(types.uint32)
_STATES = types.CPointer(types.uint64)
_BYTES = types.CPointer(types.uint8)


@intrinsic  # type: ignore[untyped-decorator]
def has_vectors(typing_context: Any) -> Any:
    """Whether the processor that this is compiled for has what the loops below need."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(_I1, int(_host_has(_NEEDED)))

    return types.boolean(), generate


@intrinsic  # type: ignore[untyped-decorator]
def has_halves(typing_context: Any) -> Any:
    """Whether the processor rounds float32 to float16 itself."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(_I1, int(_host_has(_HALVES)))

    return types.boolean(), generate


@intrinsic  # type: ignore[untyped-decorator]
def half_of(typing_context: Any, number: Any) -> Any:
    """The bits of the float16 nearest to a float32, ties to even."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        half = builder.fptrunc(arguments[0], ir.HalfType())
        return builder.bitcast(half, ir.IntType(16))

    return types.uint16(types.float32), generate


@intrinsic  # type: ignore[untyped-decorator]
def float_of_bits(typing_context: Any, bits: Any) -> Any:
    """The float32 that these 32 bits are."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), generate


@intrinsic  # type: ignore[untyped-decorator]
def bits_of_float(typing_context: Any, number: Any) -> Any:
    """The 32 bits of a float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _I32)

    return types.uint32(types.float32), generate


@intrinsic  # type: ignore[untyped-decorator]
def halves_at(typing_context: Any, address: Any) -> Any:
    """A pointer to numbers of 16 bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(16).as_pointer())

    return types.CPointer(types.uint16)(types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def address_of(typing_context: Any, array: Any, index: Any) -> Any:
    """A pointer to ``array[index]``; nothing is checked."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.gep(data, [arguments[1]])

    return types.CPointer(array.dtype)(array, types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def decode_eight(
    typing_context: Any, states: Any, table: Any, words: Any, at: Any, first: Any, second: Any
) -> Any:
    """Decode two groups of each of eight lanes to ``first`` and ``second``; the next word's place.

    Eight words must be there from ``at`` on, whether they are taken or not.
    """

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        states, table, words, at, first, second = arguments
        place = b.bitcast(states, _vector(_I64).as_pointer())
        state = _load(b, place)
        for out in (first, second):
            slot = b.and_(state, _all(_I64, 4095))
            entry = ir.Constant(_vector(_I32), ir.Undefined)
            for lane in range(_LANES):
                index = b.extract_element(slot, ir.Constant(_I32, lane))
                entry = b.insert_element(
                    entry, b.load(b.gep(table, [index])), ir.Constant(_I32, lane)
                )
            wide = b.zext(entry, _vector(_I64))
            frequency = b.and_(wide, _all(_I64, 4095))
            offset = b.and_(b.lshr(wide, _all(_I64, 12)), _all(_I64, 4095))
            state = b.add(b.mul(frequency, b.lshr(state, _all(_I64, 12))), offset)
            group = b.trunc(b.lshr(entry, _all(_I32, 24)), _vector(_I8))
            _store(b, group, out, 1)
        need = b.icmp_unsigned("<", state, _all(_I64, 1 << 31))
        expand = _function(
            b, "llvm.masked.expandload.v8i32", _vector(_I32),
            [_I32.as_pointer(), _vector(_I1), _vector(_I32)],
        )  # fmt: skip
        taken = b.call(expand, [b.gep(words, [at]), need, _all(_I32, 0)])
        filled = b.or_(b.shl(state, _all(_I64, 32)), b.zext(taken, _vector(_I64)))
        _store(b, b.select(need, filled, state), states, 8)
        return b.add(at, _count(b, need))

    return types.uint64(_STATES, _WORDS, _WORDS, types.uint64, _BYTES, _BYTES), generate


@intrinsic  # type: ignore[untyped-decorator]
def encode_eight(
    typing_context: Any, states: Any, first: Any, second: Any, words: Any, place: Any
) -> Any:
    """Encode ``second`` and then ``first`` of eight lanes; where the words begin then.

    Words are written before ``place``; eight places before it may be overwritten.
    """

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        states, first, second, words, place = arguments
        state = _load(b, b.bitcast(states, _vector(_I64).as_pointer()))
        groups = [
            b.zext(_load(b, b.bitcast(one, _vector(_I32).as_pointer()), 4), _vector(_I64))
            for one in (first, second)
        ]
        frequencies = [b.and_(one, _all(_I64, 0xFFFF)) for one in groups]
        starts = [b.lshr(one, _all(_I64, 16)) for one in groups]
        full = b.icmp_unsigned(
            ">=", b.lshr(state, _all(_I64, 39)), b.mul(frequencies[0], frequencies[1])
        )
        compress = _function(
            b, "llvm.experimental.vector.compress.v8i32", _vector(_I32),
            [_vector(_I32), _vector(_I1), _vector(_I32)],
        )  # fmt: skip
        # Turned round, so that what is kept ends up behind what is not, next to ``place``.
        low = b.call(
            compress,
            [_turned(b, b.trunc(state, _vector(_I32))), _turned(b, full), _all(_I32, 0)],
        )
        _store(b, _turned(b, low), b.gep(words, [b.sub(place, ir.Constant(_I64, _LANES))]), 4)
        state = b.select(full, b.lshr(state, _all(_I64, 32)), state)
        for which in (1, 0):
            state = _pushed(b, state, frequencies[which], starts[which])
        _store(b, state, states, 8)
        return b.sub(place, _count(b, full))

    return types.uint64(_STATES, _WORDS, _WORDS, _WORDS, types.uint64), generate


def _pushed(b: Any, state: Any, frequency: Any, start: Any) -> Any:
    """States after one more group: quotient * 4096 + remainder + start.

    A state is below ``2**39`` times the frequencies that are still to come, so quotients are small.
    """
    quotient = b.fptoui(
        b.fdiv(b.uitofp(state, _vector(_F64)), b.uitofp(frequency, _vector(_F64))), _vector(_I64)
    )
    rest = b.sub(state, b.mul(quotient, frequency))
    over = b.icmp_signed("<", rest, _all(_I64, 0))
    under = b.icmp_signed(">=", rest, frequency)
    quotient = b.select(over, b.sub(quotient, _all(_I64, 1)), quotient)
    quotient = b.select(under, b.add(quotient, _all(_I64, 1)), quotient)
    rest = b.sub(state, b.mul(quotient, frequency))
    return b.add(b.add(b.shl(quotient, _all(_I64, 12)), rest), start)


def _host_has(names: tuple[str, ...]) -> bool:
    features = llvmlite.binding.get_host_cpu_features()
    return all(features.get(name, False) for name in names)


def _vector(element: Any) -> Any:
    return ir.VectorType(element, _LANES)


def _all(element: Any, number: int) -> Any:
    return ir.Constant(_vector(element), [number] * _LANES)


def _turned(b: Any, vector: Any) -> Any:
    order = ir.Constant(_vector(_I32), list(range(_LANES))[::-1])
    return b.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), order)


def _load(b: Any, pointer: Any, align: int = 8) -> Any:
    loaded = b.load(pointer)
    loaded.align = align
    return loaded


def _store(b: Any, vector: Any, pointer: Any, align: int) -> None:
    b.store(vector, b.bitcast(pointer, vector.type.as_pointer()), align=align)


def _count(b: Any, mask: Any) -> Any:
    count = _function(b, "llvm.ctpop.i8", _I8, [_I8])
    return b.zext(b.call(count, [b.bitcast(mask, _I8)]), _I64)


def _function(b: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    known = b.module.globals.get(name)
    return known or ir.Function(b.module, ir.FunctionType(result, arguments), name)
