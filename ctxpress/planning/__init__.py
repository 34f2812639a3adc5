"""Sizing on paper: what KV weighs, when loading it beats computing it, what a store must bear.

Everything is arithmetic on shapes of models, data sheets of GPUs and measured sizes of codecs; the
sources stand beside the numbers in this folder's ``.json`` files. Nothing here needs torch.
"""

from __future__ import annotations

from ctxpress.planning.constants import CodecCost, Gpu, codec_costs, gpu_named, measured_on
from ctxpress.planning.fleet import Fleet, FleetNeed, fleet_needs
from ctxpress.planning.loading import Link, LoadPlan, plan_loads
from ctxpress.planning.model_shape import ModelShape, model_shape

__all__ = [
    "CodecCost",
    "Fleet",
    "FleetNeed",
    "Gpu",
    "Link",
    "LoadPlan",
    "ModelShape",
    "codec_costs",
    "fleet_needs",
    "gpu_named",
    "measured_on",
    "model_shape",
    "plan_loads",
]
