"""Calibrations of codecs, measured on a model: of its KV, and of what each level costs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ctxpress.cache.calibration import Calibration
from ctxpress.cache.codec import create_codec
from ctxpress.cache.codecs.kvtc.measure import measure_calibration
from ctxpress.cache.kv import KVBlock
from ctxpress.engine.blocks import rounded, split
from ctxpress.engine.kv_sampling import sample_kv
from ctxpress.engine.loading import RotaryModel
from ctxpress.engine.prefilling import prefill_rows
from ctxpress.engine.scoring import score_tokens
from ctxpress.errors import ConfigError

__all__ = ["KVSample", "LevelCost", "calibrate_codecs"]

_HELD_OUT_OF = 6  # one sample of so many judges the levels instead of making them
_CHUNK_TOKENS = 256


@dataclass(frozen=True, slots=True)
class KVSample:
    """Token ids: ``context`` becomes KV, ``target`` follows. Samples of one ``kind`` are judged
    together.
    """

    kind: str
    context: tuple[int, ...]
    target: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LevelCost:
    """``kl_nats``: mean divergence of next-token distributions, of the kind that fares worst.
    ``bits_per_value``: of whole containers of 256 tokens.
    """

    name: str
    bits_per_value: float
    kl_nats: float


def calibrate_codecs(
    model: RotaryModel,
    samples: Sequence[KVSample],
    *,
    max_kl_nats: float,
    batch: int = 8,
    on_step: Callable[[], None] = lambda: None,
) -> tuple[Calibration, list[LevelCost]]:
    """A calibration from most of ``samples``, and what its levels cost on the others.

    The level ``kvtc`` becomes the smallest one whose divergence is at most ``max_kl_nats``, or the
    finest where none is. A divergence of 0.01 raises the perplexity of text that the model itself
    would write by one per cent. ``on_step`` is called for each sample, once.

    :raises ConfigError: fewer than two samples.
    :raises ContextLengthError: a sample is too long for the model.
    """
    if len(samples) < 2:
        raise ConfigError("a calibration needs at least two samples: give longer texts")
    every = min(_HELD_OUT_OF, len(samples))
    judging = list(samples[every - 1 :: every])
    making = [sample for index, sample in enumerate(samples) if index % every != every - 1]
    blocks: list[KVBlock] = []
    gradients: list[KVBlock] = []
    for rows in _batches(making, batch):
        more_blocks, more_gradients = sample_kv(
            model,
            [sample.context for sample in rows],
            [sample.target for sample in rows],
            seed=len(blocks),
        )
        blocks += more_blocks
        gradients += more_gradients
        for _ in rows:
            on_step()
    calibration = measure_calibration(blocks, gradients=gradients)
    names = str(calibration.facts["kvtc_levels"]).split(",")
    costs = _costs(model, judging, calibration, names, on_step)
    good = [cost for cost in costs if cost.kl_nats <= max_kl_nats]
    chosen = min(good or costs, key=lambda cost: cost.bits_per_value if good else cost.kl_nats)
    kl = np.array([cost.kl_nats for cost in costs], np.float32)
    return (
        Calibration(
            {**calibration.arrays, "kvtc/kl_nats": kl},
            {**calibration.facts, "kvtc_default": chosen.name},
        ),
        costs,
    )


def _batches(samples: Sequence[KVSample], most: int) -> list[list[KVSample]]:
    """Neighbours with contexts of one length, at most ``most`` together."""
    batches: list[list[KVSample]] = []
    for sample in samples:
        last = batches[-1] if batches else []
        if last and len(last) < most and len(last[0].context) == len(sample.context):
            last.append(sample)
        else:
            batches.append([sample])
    return batches


def _costs(
    model: RotaryModel,
    samples: Sequence[KVSample],
    calibration: Calibration,
    names: Sequence[str],
    on_step: Callable[[], None],
) -> list[LevelCost]:
    codecs = [create_codec(name, calibration) for name in names]
    n_values, n_bytes = 0, [0] * len(codecs)
    kl: dict[str, list[list[float]]] = {}
    for sample in samples:
        block = rounded(prefill_rows(model, [sample.context]).block(), "float16")
        reference = score_tokens(model, [sample.target], behind=[[block]])
        n_values += block.n_values
        row = []
        for index, codec in enumerate(codecs):
            containers = [codec.encode(chunk) for chunk in split(block, _CHUNK_TOKENS)]
            n_bytes[index] += sum(map(len, containers))
            chain = [codec.decode(container) for container in containers]
            scores = score_tokens(model, [sample.target], behind=[chain], reference=reference)
            row.append(float(scores.kl.mean()))
        kl.setdefault(sample.kind, []).append(row)
        on_step()
    worst = np.max([np.mean(rows, axis=0) for rows in kl.values()], axis=0)
    return [
        LevelCost(name, 8 * size / n_values, float(nats))
        for name, size, nats in zip(names, n_bytes, worst, strict=True)
    ]
