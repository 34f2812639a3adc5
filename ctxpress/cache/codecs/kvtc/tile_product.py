"""The inverse transform of one tile, as vector instructions: 32 values of four tokens.

What numba compiles from loops does not use VNNI, which multiplies 64 pairs of bytes and adds each
four to an int32 in one instruction; so the tile is written in LLVM's own terms. Integers of four
rows are one word, which is multiplied with four bytes of each of 16 values. Words that are zero for
all four tokens are not in the list, and cost nothing. More values or tokens a tile were no faster;
fewer wait for sums of their own or for memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

__all__ = [
    "BFLOAT16",
    "FLOAT16",
    "FLOAT32",
    "LANES",
    "TILE_TOKENS",
    "TILE_VALUES",
    "multiply_tile",
    "tiles_can_be_compiled",
]

LANES = 16  # int32 of one vector register
TILE_TOKENS = 4
TILE_VECTORS = 2
TILE_VALUES = TILE_VECTORS * LANES
FLOAT16, BFLOAT16, FLOAT32 = range(3)  # how values are written
_NEEDED = ("+avx512f", "+avx512bw", "+avx512vl", "+avx512vnni")
_VECTOR_BYTES = 64

_INT = ir.IntType(32)
_LONG = ir.IntType(64)
_INTS = ir.VectorType(_INT, LANES)
_FLOATS = ir.VectorType(ir.FloatType(), LANES)


@lru_cache(maxsize=1)
def tiles_can_be_compiled() -> bool:
    """Whether the processor that numba compiles for has the instructions of the tile."""
    features = str(cpu_target.target_context.codegen().magic_tuple()[2]).split(",")
    return all(feature in features for feature in _NEEDED)


class _Tile:
    """Writes the instructions of one tile; its arguments are those of :func:`multiply_tile`."""

    def __init__(self, builder: Any, arguments: Sequence[Any]) -> None:
        self.builder = builder
        (
            self.n_words, self.places, self.words, self.basis,
            self.starts, self.extra, self.extra_stride,
            self.n_pairs, self.pair_words, self.pair_bases,
            self.scale, self.mean, self.greatest,
            self.kind, self.targets, self.n_vectors, self.offset, self.stride, self.n_tokens,
        ) = arguments  # fmt: skip

    def write(self) -> None:
        sums, fine = self._started(), self._accumulators()
        self._add_words(sums)
        self._add_pairs(sums, fine)
        self._store(sums, fine)

    def _load(self, kind: Any, base: Any, offset: Any, align: int) -> Any:
        address = self.builder.add(base, offset)
        return self.builder.load(self.builder.inttoptr(address, kind.as_pointer()), align=align)

    def _times(self, number: Any, factor: int, plus: int = 0) -> Any:
        product = self.builder.mul(number, _LONG(factor))
        return self.builder.add(product, _LONG(plus))

    def _splat(self, scalar: Any, vector: Any) -> Any:
        first = self.builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, _INT(0))
        zeros = ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES)
        return self.builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)

    def _accumulators(self) -> list[list[Any]]:
        found = []
        for _ in range(TILE_TOKENS):
            own = [cgutils.alloca_once(self.builder, _INTS) for _ in range(TILE_VECTORS)]
            for one in own:
                self.builder.store(ir.Constant(_INTS, [0] * LANES), one)
            found.append(own)
        return found

    def _started(self) -> list[list[Any]]:
        """Sums that begin with each token's start and, where there is one, its row of ``extra``."""
        sums = self._accumulators()
        for token, own in enumerate(sums):
            start = self._splat(self._load(_INT, self.starts, _LONG(4 * token), 4), _INTS)
            for one in own:
                self.builder.store(start, one)
        has_extra = self.builder.icmp_unsigned("!=", self.extra, _LONG(0))
        with self.builder.if_then(has_extra, likely=False):
            for token, own in enumerate(sums):
                row = self.builder.mul(self.extra_stride, _LONG(token))
                for place, one in enumerate(own):
                    at = self.builder.add(row, _LONG(_VECTOR_BYTES * place))
                    more = self._load(_INTS, self.extra, at, 4)
                    self.builder.store(self.builder.add(self.builder.load(one), more), one)
        return sums

    def _dot(self, name: str, sums: Sequence[Any], bases: Sequence[Any], word: Any) -> None:
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(_INTS, [_INTS, _INTS, _INTS]), name
        )
        for one, base in zip(sums, bases, strict=True):
            product = self.builder.call(function, (self.builder.load(one), base, word))
            self.builder.store(product, one)

    def _add_words(self, sums: list[list[Any]]) -> None:
        with cgutils.for_range(self.builder, self.n_words) as loop:
            place = self._load(_INT, self.places, self._times(loop.index, 4), 4)
            row = self.builder.add(self.basis, self.builder.zext(place, _LONG))
            bases = [
                self._load(_INTS, row, _LONG(_VECTOR_BYTES * place), _VECTOR_BYTES)
                for place in range(TILE_VECTORS)
            ]
            for token, own in enumerate(sums):
                at = self._times(loop.index, 4 * TILE_TOKENS, 4 * token)
                word = self._splat(self._load(_INT, self.words, at, 4), _INTS)
                self._dot("llvm.x86.avx512.vpdpbusd.512", own, bases, word)

    def _add_pairs(self, sums: list[list[Any]], fine: list[list[Any]]) -> None:
        """Wide rows, two by two as int16: products with the basis and with the fine basis."""
        block = TILE_VECTORS * _VECTOR_BYTES
        with cgutils.for_range(self.builder, self.n_pairs) as loop:
            for half, targets in enumerate((sums, fine)):
                bases = [
                    self._load(
                        _INTS,
                        self.pair_bases,
                        self._times(loop.index, 2 * block, half * block + _VECTOR_BYTES * place),
                        _VECTOR_BYTES,
                    )
                    for place in range(TILE_VECTORS)
                ]
                for token, own in enumerate(targets):
                    at = self._times(loop.index, 4 * TILE_TOKENS, 4 * token)
                    word = self._splat(self._load(_INT, self.pair_words, at, 4), _INTS)
                    self._dot("llvm.x86.avx512.vpdpwssd.512", own, bases, word)

    def _store(self, sums: list[list[Any]], fine: list[list[Any]]) -> None:
        greatest = self._splat(self.greatest, _FLOATS)
        least = self.builder.fsub(ir.Constant(_FLOATS, [0.0] * LANES), greatest)
        for place in range(TILE_VECTORS):
            wanted = self.builder.icmp_signed("<", _LONG(place), self.n_vectors)
            with self.builder.if_then(wanted, likely=True):
                target = self._load(_LONG, self.targets, _LONG(8 * place), 8)
                target = self.builder.add(target, self.offset)
                scale = self._load(_FLOATS, self.scale, _LONG(_VECTOR_BYTES * place), 4)
                mean = self._load(_FLOATS, self.mean, _LONG(_VECTOR_BYTES * place), 4)
                for token in range(TILE_TOKENS):
                    there = self.builder.icmp_signed("<", _LONG(token), self.n_tokens)
                    with self.builder.if_then(there, likely=True):
                        found = self._value(sums[token][place], fine[token][place], scale, mean)
                        found = self._smaller(self._larger(found, least), greatest)
                        step = self.builder.mul(self.stride, _LONG(token))
                        self._write(found, self.builder.add(target, step))

    def _value(self, total: Any, fine: Any, scale: Any, mean: Any) -> Any:
        """Single roundings in the order that FORMAT.md gives; nothing is fused."""
        builder = self.builder
        rest = builder.sitofp(builder.load(fine), _FLOATS)
        rest = builder.fmul(rest, ir.Constant(_FLOATS, [1 / 128] * LANES))
        value = builder.fadd(builder.sitofp(builder.load(total), _FLOATS), rest)
        return builder.fadd(builder.fmul(value, scale), mean)

    def _smaller(self, one: Any, other: Any) -> Any:
        return self.builder.select(self.builder.fcmp_ordered(">", one, other), other, one)

    def _larger(self, one: Any, other: Any) -> Any:
        return self.builder.select(self.builder.fcmp_ordered("<", one, other), other, one)

    def _write(self, found: Any, address: Any) -> None:
        builder = self.builder
        shorts = ir.VectorType(ir.IntType(16), LANES)
        switch = builder.switch(self.kind, builder.append_basic_block("end"))
        after = switch.default
        for kind in (FLOAT16, BFLOAT16, FLOAT32):
            block = builder.append_basic_block(f"write{kind}")
            switch.add_case(_LONG(kind), block)
            with builder.goto_block(block):
                if kind == FLOAT16:
                    stored = builder.fptrunc(found, ir.VectorType(ir.HalfType(), LANES))
                elif kind == BFLOAT16:
                    # By hand, since the processor's own conversion loses the smallest numbers.
                    bits = builder.bitcast(found, _INTS)
                    ones = ir.Constant(_INTS, [1] * LANES)
                    sixteen = ir.Constant(_INTS, [16] * LANES)
                    odd = builder.and_(builder.lshr(bits, sixteen), ones)
                    bits = builder.add(bits, ir.Constant(_INTS, [0x7FFF] * LANES))
                    bits = builder.lshr(builder.add(bits, odd), sixteen)
                    stored = builder.trunc(bits, shorts)
                else:
                    stored = found
                pointer = builder.inttoptr(address, stored.type.as_pointer())
                builder.store(stored, pointer, align=2 if kind != FLOAT32 else 4)
                builder.branch(after)
        builder.position_at_end(after)


_ARGUMENTS = (
    *(types.int64,) * 12, types.float32, *(types.int64,) * 6,
)  # fmt: skip


@intrinsic  # type: ignore[untyped-decorator]
def multiply_tile(
    typing_context: Any,
    n_words: Any,
    places: Any,
    words: Any,
    basis: Any,
    starts: Any,
    extra: Any,
    extra_stride: Any,
    n_pairs: Any,
    pair_words: Any,
    pair_bases: Any,
    scale: Any,
    mean: Any,
    greatest: Any,
    kind: Any,
    targets: Any,
    n_vectors: Any,
    offset: Any,
    stride: Any,
    n_tokens: Any,
) -> Any:
    """Compute and write one tile; all but ``greatest`` are int64, and many of them addresses.

    ``n_words`` words a token, uint32 ``(n_words, TILE_TOKENS)`` at ``words``, each four int8; those
    at uint32 ``places`` say how many bytes behind ``basis`` their rows stand: uint8 ``(TILE_VALUES,
    4)``, each 128 too large, 64 bytes aligned. ``starts``: int32, what each token's sums begin
    with: -128 for each unit of its integers. ``extra``: int32 to be added, rows ``extra_stride``
    bytes apart, or 0. ``n_pairs`` pairs of wide rows: words of two int16 at ``pair_words``, rows at
    ``pair_bases``, int16 ``(2, TILE_VALUES, 2)``, the basis and the fine basis. ``scale`` and
    ``mean``: float32. ``greatest``: what values are limited to. ``targets``: int64, the addresses
    of ``n_vectors`` times LANES values of token 0, written as ``kind``, ``offset`` bytes on;
    tokens are ``stride`` bytes apart, and ``n_tokens`` of them are written.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _Tile(builder, arguments).write()
        return context.get_dummy_value()

    return types.void(*_ARGUMENTS), generate
