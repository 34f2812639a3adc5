"""What the codec needs of a calibration, read from its arrays and checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ctxpress.cache.calibration import Calibration
from ctxpress.cache.codecs.entropy import SymbolTables
from ctxpress.cache.codecs.kvtc.units import MAX_COMPONENTS, Unit
from ctxpress.cache.container import KVLayout
from ctxpress.cache.identity import KVIdentity
from ctxpress.errors import CalibrationMissingError, CodecError, IdentityMismatchError

__all__ = [
    "CENTRE",
    "DEFAULT_LEVEL",
    "LIMIT",
    "LOW_BITS",
    "N_LEVELS",
    "KvtcPlan",
    "UnitPlan",
    "load_plan",
]

CENTRE = 127  # the symbol of integer 0
N_LEVELS = 255
LOW_BITS = 7
LIMIT = 8191  # the largest integer: 2,048 products of 127 * 8191 fit into int32
DEFAULT_LEVEL = "kvtc"
_IDENTITY_FACTS = ("model", "revision", "rope")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnitPlan:
    """One unit at one level.

    Decoded values are ``mean + scale * (integers @ basis + wide integers @ fine / 128)``.

    ``basis``: int8 ``(n_rows, n_values)``. ``fine``: int8 ``(n_wide, n_values)``, what rounding
    ``basis`` left of the wide rows. ``scale``, ``mean``: float32 ``(n_values,)``. These are on the
    device that decodes. ``centre`` is the mean on the CPU, which encodes; ``forward``: float32
    ``(n_rows, n_values)``, from values to components in steps. ``row_tables``: uint8
    ``(n_wide + n_rows,)``, the frequency table of each row of symbols. ``reach``: the length of
    the longest row of ``forward``. ``greatest_value``: what no decoded value exceeds.
    """

    unit: Unit
    mean: torch.Tensor
    centre: torch.Tensor
    forward: torch.Tensor
    basis: torch.Tensor
    fine: torch.Tensor
    scale: torch.Tensor
    row_tables: np.ndarray
    n_wide: int
    reach: float
    greatest_value: float

    @property
    def n_rows(self) -> int:
        return int(self.basis.shape[0])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KvtcPlan:
    """One level of one calibration. ``units``: those of each section, in order.

    ``bits``: float32 ``(n_tables, N_LEVELS)``: what each symbol costs; a numpy array.
    """

    n_layers: int
    n_kv_heads: int
    head_dim: int
    identity: KVIdentity
    sections: tuple[tuple[int, int], ...]
    units: tuple[tuple[UnitPlan, ...], ...]
    tables: SymbolTables
    bits: np.ndarray
    rate_weight: float

    def require(self, layout: KVLayout, identity: KVIdentity) -> None:
        """Return where KV of ``layout`` and ``identity`` may be of the calibrated model.

        :raises IdentityMismatchError: it is not; says what differs.
        """
        for name in ("n_layers", "n_kv_heads", "head_dim"):
            here, there = getattr(self, name), getattr(layout, name)
            if here != there:
                raise IdentityMismatchError(
                    f"the calibration is of a model with {name} {here}, and this KV has {there}"
                )
        for name in _IDENTITY_FACTS:
            here, there = getattr(self.identity, name), getattr(identity, name)
            if here and there and here != there:
                raise IdentityMismatchError(
                    f"the calibration is of {name} {here!r}, and this KV of {there!r}"
                )


def load_plan(calibration: Calibration, level: str, *, device: torch.device) -> KvtcPlan:
    """The plan of ``level`` (a codec name such as ``kvtc-12x``) in ``calibration``.

    :raises CalibrationMissingError: the calibration holds no transform, or no such level.
    :raises CodecError: its arrays do not fit each other.
    """
    facts = calibration.facts
    names = str(facts.get("kvtc_levels", "")).split(",")
    wanted = str(facts.get("kvtc_default", "")) if level == DEFAULT_LEVEL else level
    if wanted not in names or not wanted:
        known = f"it has {', '.join(names)}" if names != [""] else "it was made for other codecs"
        raise CalibrationMissingError(
            f"the calibration has no level {level!r}; {known}", sha256=calibration.sha256
        )
    try:
        return _plan(calibration, names.index(wanted), device)
    except KeyError as error:
        raise CodecError(f"the calibration lacks {error}") from None
    except (IndexError, TypeError, ValueError, RuntimeError) as error:
        raise CodecError(f"the calibration's arrays do not fit each other: {error}") from None


def _plan(calibration: Calibration, level: int, device: torch.device) -> KvtcPlan:
    facts, arrays = calibration.facts, calibration.arrays
    tables = SymbolTables(arrays["kvtc/tables"])
    if tables.weights.shape[1] != N_LEVELS:
        raise ValueError(f"tables of {tables.weights.shape[1]} levels")
    step = float(arrays["kvtc/steps"][level])
    sections = tuple((int(a), int(b)) for a, b in arrays["kvtc/sections"])
    units = [
        _unit_plan(calibration, index, level, step, len(tables.weights), device)
        for index in range(len(arrays["kvtc/units"]))
    ]
    by_section = tuple(
        tuple(u for u in units if (u.unit.first_layer, u.unit.last_layer) == section)
        for section in sections
    )
    shape = {name: int(facts[name]) for name in ("n_layers", "n_kv_heads", "head_dim")}
    _check_cover(sections, by_section, 2 * shape["n_kv_heads"] * shape["head_dim"])
    weights = tables.weights.astype(np.float32)
    return KvtcPlan(
        **shape,
        identity=KVIdentity(**{name: str(facts.get(name, "")) for name in _IDENTITY_FACTS}),
        sections=sections,
        units=by_section,
        tables=tables,
        bits=np.log2(weights.sum(axis=1, keepdims=True) / weights),
        rate_weight=float(arrays["kvtc/rate_weight"][level]),
    )


def _unit_plan(
    calibration: Calibration,
    index: int,
    level: int,
    step: float,
    n_tables: int,
    device: torch.device,
) -> UnitPlan:
    arrays = calibration.arrays
    unit = Unit(*(int(value) for value in arrays["kvtc/units"][index]))
    n_rows, n_wide = (int(value) for value in arrays[f"kvtc/{index}/rows"][level])
    basis = arrays[f"kvtc/{index}/basis"][:n_rows]
    fine = arrays[f"kvtc/{index}/fine"][:n_wide]
    forward = arrays[f"kvtc/{index}/forward"][:n_rows].astype(np.float32) / np.float32(step)
    scale = arrays[f"kvtc/{index}/scale"] * np.float32(step)
    mean = arrays[f"kvtc/{index}/mean"]
    row_tables = np.concatenate(
        (
            arrays[f"kvtc/{index}/wide_tables"][level, :n_wide],
            arrays[f"kvtc/{index}/row_tables"][level, :n_rows],
        )
    )
    fits = (
        0 <= n_wide <= n_rows <= MAX_COMPONENTS
        and basis.shape == forward.shape == (n_rows, unit.n_values)
        and basis.dtype == fine.dtype == np.int8
        and fine.shape == (n_wide, unit.n_values)
        and scale.shape == mean.shape == (unit.n_values,)
        and scale.dtype == mean.dtype == np.float32
        and len(row_tables) == n_wide + n_rows
        and row_tables.dtype == np.uint8
        and (n_rows == 0 or int(row_tables.max()) < n_tables)
    )
    if not fits:
        raise ValueError(f"unit {index}")
    reach = (
        float(np.sqrt(np.square(forward.astype(np.float64)).sum(axis=1)).max()) if n_rows else 0.0
    )
    largest = np.abs(basis.astype(np.float64)).sum(axis=0) * 129 * 65 * np.abs(scale)
    return UnitPlan(
        unit=unit,
        mean=torch.from_numpy(mean.copy()).to(device),
        centre=torch.from_numpy(mean.copy()),
        forward=torch.from_numpy(forward),
        basis=torch.from_numpy(basis.copy()).to(device),
        fine=torch.from_numpy(fine.copy()).to(device),
        scale=torch.from_numpy(scale).to(device),
        row_tables=row_tables,
        n_wide=n_wide,
        reach=reach,
        greatest_value=float((largest + np.abs(mean)).max()),
    )


def _check_cover(
    sections: tuple[tuple[int, int], ...],
    units: tuple[tuple[UnitPlan, ...], ...],
    layer_values: int,
) -> None:
    """Whether the units of each section are all its values, in order."""
    for (first, last), plans in zip(sections, units, strict=True):
        at = 0
        for plan in plans:
            if plan.unit.start != at:
                raise ValueError(f"units of layers {first} to {last}")
            at = plan.unit.stop
        if at != (last - first) * layer_values:
            raise ValueError(f"units of layers {first} to {last}")
