"""``kvtc``: un-rotated keys and values as integers of a transform calibrated on the model.

After KVTC (arXiv 2511.01815, section 3: rotation removed, principal components, bits by variance,
entropy coding), with three differences. The transform is optimal for what errors cost and not for
their size (``transform.py``); one step with rate-distortion optimised rounding replaces the search
for bits; and the inverse transform is a product of int8 matrices, so that every machine decodes the
same bits. FORMAT.md has the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch

from ctxpress.cache.calibration import Calibration
from ctxpress.cache.codec import NonFinite
from ctxpress.cache.codecs.entropy import encode_symbols
from ctxpress.cache.codecs.kvtc import kernels
from ctxpress.cache.codecs.kvtc.decoding import (
    UNIT,
    UnitBytes,
    decoded_integers,
    decoded_rows,
    split_units,
)
from ctxpress.cache.codecs.kvtc.fused import FusedUnit, fused_unit
from ctxpress.cache.codecs.kvtc.plan import LIMIT, N_LEVELS, UnitPlan, load_plan
from ctxpress.cache.codecs.kvtc.rounding import split_integers
from ctxpress.cache.codecs.kvtc.units import Unit, unit_rows
from ctxpress.cache.codecs.methods import EncodedSections
from ctxpress.cache.codecs.sectioned import SectionedCodec
from ctxpress.cache.container import ContainerHeader, KVLayout
from ctxpress.cache.kv import KVBlock
from ctxpress.errors import CalibrationMissingError, CodecError, CorruptContainerError

__all__ = ["KvtcCodec", "create"]

_SURELY_NEAR = 0.999 * LIMIT


class KvtcCodec(SectionedCodec):
    """Transform coding at one level of a calibration; see :func:`load_plan` for levels."""

    version: ClassVar[int] = 1

    def __init__(
        self,
        name: str,
        calibration: Calibration,
        *,
        non_finite: NonFinite,
        threads: int,
        device: str,
    ) -> None:
        super().__init__(name, calibration, non_finite=non_finite, threads=threads, device=device)
        self._plan = load_plan(calibration, name, device=self._device)
        self._fused_units: dict[Unit, FusedUnit | None] = {}

    def exact_tokens(self, block: KVBlock) -> Sequence[int]:
        """Tokens so far from all that was calibrated that no integer reaches them, and padding.

        Tokens of nothing but zeros would come back as something near the mean.
        """
        self._require(block)
        used = torch.zeros(block.n_tokens, dtype=torch.bool)
        tokens: set[int] = set()
        for plan in (plan for plans in self._plan.units for plan in plans):
            rows = unit_rows(block, plan.unit).cpu()
            used |= (rows != 0).any(dim=1)
            rows -= plan.centre
            # By Cauchy and Schwarz no component of the others can be out of reach. The comparison
            # is false for NaN, and leaves room for the norm's own rounding.
            near = rows.norm(dim=1) * plan.reach < _SURELY_NEAR
            far = (~near).nonzero().flatten()
            if len(far):
                some = torch.nan_to_num(rows[far], nan=0.0, posinf=0.0, neginf=0.0)
                out = ~((some @ plan.forward.T).abs() < LIMIT).all(dim=1)
                tokens.update(far[out].tolist())
        tokens.update((~used).nonzero().flatten().tolist())
        return sorted(tokens)

    def encode_sections(self, block: KVBlock) -> EncodedSections:
        """See :class:`SectionMethods`."""
        return EncodedSections(
            sections=[
                (layers, [part for plan in plans for part in self._encoded(block, plan)])
                for layers, plans in zip(self._plan.sections, self._plan.units, strict=True)
            ]
        )

    def decode_into(
        self,
        header: ContainerHeader,
        index: int,
        section: memoryview,
        shared: memoryview,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> None:
        """See :class:`SectionMethods`."""
        plans, parts = self._parts(header, index, section, shared)
        if not keys.numel():
            return
        n_kv_heads, n_tokens, head_dim = keys.shape[1:]
        for plan, part in zip(plans, parts, strict=True):
            integers = decoded_integers(part, plan, self._plan.tables, n_tokens, index)
            fused = self._fused(plan, head_dim)
            if fused is not None and keys.is_contiguous() and values.is_contiguous():
                fused.write(integers, keys, values)
                continue
            rows = decoded_rows(integers, plan, keys.dtype)
            first_head = plan.unit.start // head_dim
            for place, columns in enumerate(rows.split(head_dim, dim=1)):
                layer, head = divmod(first_head + place, 2 * n_kv_heads)
                target = keys if head < n_kv_heads else values
                target[layer, head % n_kv_heads].copy_(columns)

    def check_section(
        self, header: ContainerHeader, index: int, section: memoryview, shared: memoryview
    ) -> None:
        """See :class:`SectionMethods`."""
        self._plan.require(header.layout, header.identity)
        self._parts(header, index, section, shared)

    def describe_own(
        self, header: ContainerHeader, index: int, section: memoryview, shared: memoryview
    ) -> dict[str, int]:
        """See :class:`SectionMethods`."""
        parts = split_units(section, index)
        return {
            "symbols": sum(len(stream) for _, _, stream in parts),
            "escapes": sum(len(escapes) for _, escapes, _ in parts),
            "lengths": UNIT.size * len(parts),
        }

    def _fused(self, plan: UnitPlan, head_dim: int) -> FusedUnit | None:
        """Made when first decoded with; two threads may both make it, and one is kept."""
        if plan.unit not in self._fused_units:
            self._fused_units[plan.unit] = fused_unit(plan, head_dim)
        return self._fused_units[plan.unit]

    def _require(self, block: KVBlock) -> None:
        if block.keys_rotated:
            raise CodecError(
                f"{self.name} takes un-rotated keys, and these carry their positions: "
                "un-rotate them before rounding, and rotate what was decoded"
            )
        layout = KVLayout(
            n_layers=block.n_layers,
            n_kv_heads=block.n_kv_heads,
            n_tokens=block.n_tokens,
            head_dim=block.head_dim,
            dtype=block.dtype_name,
        )
        self._plan.require(layout, block.identity)

    def _parts(
        self, header: ContainerHeader, index: int, section: memoryview, shared: memoryview
    ) -> tuple[tuple[UnitPlan, ...], list[UnitBytes]]:
        if header.keys_rotated:
            raise CorruptContainerError("the header says that keys are rotated")
        if header.has_shared_section or len(shared):
            raise CorruptContainerError("a shared section, which this codec does not write")
        if tuple(section.layers for section in header.sections) != self._plan.sections:
            raise CorruptContainerError("the sections are not those of the calibration")
        plans, parts = self._plan.units[index], split_units(section, index)
        if len(plans) != len(parts):
            raise CorruptContainerError(
                f"section {index} holds {len(parts)} units, and the calibration {len(plans)}"
            )
        return plans, parts

    def _encoded(self, block: KVBlock, plan: UnitPlan) -> list[bytes]:
        rows = unit_rows(block, plan.unit).cpu()
        integers = kernels.round_rows(
            (plan.forward @ (rows - plan.centre).T).numpy(),
            np.float32(1),
            self._plan.bits,
            plan.row_tables[plan.n_wide :],
            plan.n_wide,
            np.float32(self._plan.rate_weight),
        )
        split = split_integers(integers, plan.n_wide)
        stream = encode_symbols(
            split.symbols,
            N_LEVELS,
            tables=self._plan.tables,
            row_tables=plan.row_tables,
            coders=("rans",),
        )
        return [
            UNIT.pack(len(split.rows), len(stream)),
            split.rows.tobytes(),
            split.tokens.tobytes(),
            split.highs.tobytes(),
            stream,
        ]


def create(
    name: str,
    calibration: Calibration | None,
    *,
    non_finite: NonFinite,
    threads: int,
    device: str,
) -> KvtcCodec:
    """See :class:`~ctxpress.cache.codec.CodecFactory`.

    :raises CalibrationMissingError: there is no calibration, or it has no level of this name.
    """
    if calibration is None:
        raise CalibrationMissingError(
            f"codec {name!r} needs a calibration of the model: "
            "ctxpress kv calibrate --model FOLDER --texts FILE --out FILE",
            sha256="",
        )
    return KvtcCodec(name, calibration, non_finite=non_finite, threads=threads, device=device)
