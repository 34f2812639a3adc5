"""Measuring a calibration: from KV of sample texts to transforms, steps and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ctxpress.cache.calibration import Calibration
from ctxpress.cache.codecs.cachegen_steps import step_for_bits
from ctxpress.cache.codecs.kvtc.levels import RATE_WEIGHT, Level, fit_levels
from ctxpress.cache.codecs.kvtc.moments import KVShape, UnitMoments
from ctxpress.cache.codecs.kvtc.transform import UnitTransform, fit_transform
from ctxpress.cache.codecs.kvtc.units import Unit, sections_of, unit_rows, units_of
from ctxpress.cache.kv import KVBlock
from ctxpress.errors import CodecError

__all__ = ["RATIOS", "measure_calibration"]

RATIOS = (8, 12, 16, 24, 32, 64)  # against 16 bits a value, of the levels kvtc-8x and so on
MAX_GROUP_VALUES = 2048
_DEFAULT_RATIO = 12
_CACHEGEN_BITS = 1.9  # a value, of cachegen-auto
# What a container of so many tokens holds beside its symbols, for each section. Sizes in names of
# levels are those of whole containers.
_CHUNK_TOKENS = 256
_OVERHEAD_BYTES = 900
_LEAST_HEAD_COST = 1e-3  # of the mean of all heads


def measure_calibration(
    blocks: Sequence[KVBlock],
    *,
    gradients: Sequence[KVBlock] | None = None,
    max_group_values: int = MAX_GROUP_VALUES,
) -> Calibration:
    """What ``kvtc`` and ``cachegen-auto`` need to know of a model, from KV of sample texts.

    ``blocks``: un-rotated KV of one model, some ten tokens for each value that a token has in a
    group of layers. ``gradients``: for each block, the gradients of the log-likelihood of what
    follows, with respect to its un-rotated keys and values, as a block of the same shape; the
    following tokens are drawn from the model itself. They say which errors matter. Without them
    all keys of a layer matter equally, and all values. ``max_group_values``: how many values of a
    token are transformed together at most; a layer is the least that a section holds.

    :raises CodecError: no tokens, blocks of different shapes or models, rotated keys, values that
        are not finite, or gradients that do not fit the blocks.
    """
    shape = _checked(blocks, gradients)
    sections = sections_of(shape.n_layers, shape.layer_values, max_group_values)
    units = units_of(sections, shape.n_kv_heads, shape.head_dim, max_group_values)
    moments = [UnitMoments(unit, shape.head_dim) for unit in units]
    for index, block in enumerate(blocks):
        slopes = None if gradients is None else gradients[index]
        for moment in moments:
            moment.add(_tokens(block, fitting=True), slopes and _tokens(slopes, fitting=True))
    floor = 0.0
    if gradients is not None:
        traces = torch.cat([moment.head_traces() for moment in moments])
        floor = _LEAST_HEAD_COST * float(traces.mean())
    transforms = [
        fit_transform(
            moment.mean, moment.covariance, moment.cost(floor=floor), n_tokens=moment.n_tokens
        )
        for moment in moments
    ]
    components = [
        np.concatenate(
            [transform.components(unit_rows(_tokens(b, fitting=False), unit)) for b in blocks],
            axis=1,
        )
        for unit, transform in zip(units, transforms, strict=True)
    ]
    n_values = shape.n_layers * shape.layer_values
    overhead = min(8 * _OVERHEAD_BYTES * len(sections) / (_CHUNK_TOKENS * n_values), 0.1)
    tables, levels = fit_levels(
        components,
        [transform.deviations.numpy() for transform in transforms],
        [16 / ratio - overhead for ratio in RATIOS],
        n_values,
    )
    arrays: dict[str, np.ndarray] = {
        "kvtc/sections": np.array(sections, np.int32),
        "kvtc/units": np.array(
            [(u.first_layer, u.last_layer, u.start, u.stop) for u in units], np.int32
        ),
        "kvtc/tables": tables.weights.astype(np.uint16),
        "kvtc/steps": np.array([level.step for level in levels], np.float32),
        "kvtc/bits_per_value": np.array([level.bits_per_value for level in levels], np.float32),
        "kvtc/rate_weight": np.full(len(levels), RATE_WEIGHT, np.float32),
    }
    for index, transform in enumerate(transforms):
        arrays.update(_unit_arrays(index, transform, levels))
    arrays.update(_channel_arrays(shape, units, moments, floor))
    identity = blocks[0].identity
    return Calibration(
        arrays,
        {
            "model": identity.model,
            "revision": identity.revision,
            "rope": identity.rope,
            "n_layers": shape.n_layers,
            "n_kv_heads": shape.n_kv_heads,
            "head_dim": shape.head_dim,
            "n_tokens": sum(block.n_tokens for block in blocks),
            "costs": "relative variance" if gradients is None else "loss gradients",
            "kvtc_levels": ",".join(f"kvtc-{ratio}x" for ratio in RATIOS),
            "kvtc_default": f"kvtc-{_DEFAULT_RATIO}x",
        },
    )


def _checked(blocks: Sequence[KVBlock], gradients: Sequence[KVBlock] | None) -> KVShape:
    if not any(block.n_tokens for block in blocks):
        raise CodecError("a calibration needs KV of at least one token")
    if gradients is not None and len(gradients) != len(blocks):
        raise CodecError(f"{len(blocks)} blocks, and gradients for {len(gradients)}")
    shape, identity = KVShape.of(blocks[0]), blocks[0].identity
    for index, block in enumerate(blocks):
        if KVShape.of(block) != shape:
            raise CodecError(f"block {index} is of {KVShape.of(block)}, and block 0 of {shape}")
        if (block.identity.model, block.identity.rope) != (identity.model, identity.rope):
            raise CodecError(f"block {index} is of another model than block 0")
        if block.keys_rotated:
            raise CodecError(f"block {index} has rotated keys; a calibration is of un-rotated ones")
        if gradients is not None and gradients[index].keys.shape != block.keys.shape:
            raise CodecError(f"the gradients of block {index} are of another shape than it")
        for held in (block,) if gradients is None else (block, gradients[index]):
            if not (bool(held.keys.isfinite().all()) and bool(held.values.isfinite().all())):
                raise CodecError(f"block {index} or its gradients hold NaN or infinities")
    return shape


def _tokens(block: KVBlock, *, fitting: bool) -> KVBlock:
    """The tokens that transforms are fitted to, or those that tables are counted on.

    They differ, since a transform leaves less of what it was fitted to than of anything else.
    """
    cut = block.n_tokens * 4 // 5
    if cut == 0:
        return block
    part = slice(0, cut) if fitting else slice(cut, None)
    return replace(block, keys=block.keys[:, :, part], values=block.values[:, :, part])


def _unit_arrays(
    index: int, transform: UnitTransform, levels: list[Level]
) -> dict[str, np.ndarray]:
    n_rows = max(level.rows[index][0] for level in levels)
    n_wide = max(level.rows[index][1] for level in levels)
    inverse = transform.inverse[:, :n_rows]
    scale = inverse.abs().amax(dim=1).clamp_min(1e-30) / 127 if n_rows else inverse.sum(dim=1)
    basis = (inverse / scale[:, None]).round().clamp(-127, 127)
    rest = inverse[:, :n_wide] / scale[:, None] - basis[:, :n_wide]
    tables = np.zeros((len(levels), n_rows), np.uint8)
    wide_tables = np.zeros((len(levels), n_wide), np.uint8)
    for place, level in enumerate(levels):
        rows, wide = level.rows[index]
        wide_tables[place, :wide] = level.tables[index][:wide]
        tables[place, :rows] = level.tables[index][wide:]
    return {
        f"kvtc/{index}/mean": transform.mean.float().numpy(),
        f"kvtc/{index}/forward": transform.forward[:n_rows].float().numpy(),
        f"kvtc/{index}/basis": basis.T.to(torch.int8).numpy(),
        f"kvtc/{index}/fine": (128 * rest).round().T.to(torch.int8).numpy(),
        f"kvtc/{index}/scale": scale.float().numpy(),
        f"kvtc/{index}/rows": np.array([level.rows[index] for level in levels], np.int32),
        f"kvtc/{index}/row_tables": tables,
        f"kvtc/{index}/wide_tables": wide_tables,
    }


def _channel_arrays(
    shape: KVShape, units: list[Unit], moments: list[UnitMoments], floor: float
) -> dict[str, np.ndarray]:
    """Mean, standard deviation and cost of every channel by itself, and a step: cachegen-auto's."""
    dims = (shape.n_layers, 2, shape.n_kv_heads, shape.head_dim)
    columns = {
        "mean": [moment.mean for moment in moments],
        "std": [moment.covariance.diagonal().clamp_min(0).sqrt() for moment in moments],
        "cost": [moment.cost(floor=floor).diagonal() for moment in moments],
    }
    wholes = {name: torch.cat(parts).view(dims).float().numpy() for name, parts in columns.items()}
    arrays = {}
    for name, whole in wholes.items():
        arrays[f"cachegen/key_{name}"] = whole[:, 0]
        arrays[f"cachegen/value_{name}"] = whole[:, 1]
    step = step_for_bits(wholes["std"], wholes["cost"], _CACHEGEN_BITS)
    arrays["cachegen/step"] = np.array([step], np.float32)
    return arrays
