"""Loading a context's KV beside computing it anew."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ctxpress.planning.constants import CodecCost, Gpu
from ctxpress.planning.model_shape import ModelShape

__all__ = ["Link", "LoadPlan", "plan_loads"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What stands between a store and a GPU.

    ``bandwidth_gbit_per_s``: of the link, for this one context. ``latency_ms``: until the first
    byte. ``decode_cores``: CPU cores that decode. ``decode_gb_per_s``: gigabytes of fp16 KV that
    all of them, or a GPU, decode in a second, instead of what one core was measured to do.
    """

    bandwidth_gbit_per_s: float
    latency_ms: float = 1.0
    decode_cores: int = 8
    decode_gb_per_s: float | None = None

    def decode_s(self, codec: CodecCost, fp16_bytes: float) -> float:
        """How long decoding takes."""
        rate = self.decode_gb_per_s or codec.decode_gb_per_s * self.decode_cores
        return fp16_bytes / (rate * 1e9)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """One codec, for one context of one model on ``n_gpus`` equal GPUs.

    Times in seconds, of the whole context. ``decode_s`` goes on beside the transfer, a layer
    behind it.
    """

    model: ModelShape
    gpu: Gpu
    codec: CodecCost
    n_gpus: int
    n_tokens: int
    stored_bytes: float
    transfer_s: float
    decode_s: float
    load_s: float
    recompute_s: float

    @property
    def worth_it(self) -> bool:
        """Whether loading is sooner done than computing."""
        return self.load_s < self.recompute_s

    @property
    def speed_up(self) -> float:
        return self.recompute_s / self.load_s

    @property
    def break_even_gbit_per_s(self) -> float | None:
        """From which bandwidth on loading is sooner; None where decoding alone takes longer."""
        left_s = self.recompute_s - (self.load_s - max(self.transfer_s, self.decode_s))
        if self.decode_s >= left_s:
            return None
        return self.stored_bytes * 8 / 1e9 / left_s

    @property
    def bytes_per_token(self) -> float:
        return self.stored_bytes / self.n_tokens


def plan_loads(
    model: ModelShape,
    gpu: Gpu,
    codecs: tuple[CodecCost, ...],
    link: Link,
    *,
    n_tokens: int,
    n_gpus: int | None = None,
    utilisation: float = 0.5,
) -> tuple[LoadPlan, ...]:
    """A plan for every codec.

    ``n_gpus`` compute together; None stands for as many as the weights need. ``utilisation``: the
    share of their peak that they reach while they read a prompt.
    """
    n_gpus = gpus_needed(model, gpu) if n_gpus is None else n_gpus
    fp16_bytes = model.kv_bytes_per_token * n_tokens
    flop_per_s = gpu.bf16_tflops * 1e12 * n_gpus * utilisation
    recompute_s = model.prefill_flop(n_tokens) / flop_per_s
    plans = []
    for codec in codecs:
        stored = codec.stored_bytes(fp16_bytes)
        transfer_s = stored * 8 / (link.bandwidth_gbit_per_s * 1e9)
        decode_s = link.decode_s(codec, fp16_bytes)
        plans.append(
            LoadPlan(
                model=model,
                gpu=gpu,
                codec=codec,
                n_gpus=n_gpus,
                n_tokens=n_tokens,
                stored_bytes=stored,
                transfer_s=transfer_s,
                decode_s=decode_s,
                load_s=link.latency_ms / 1e3 + max(transfer_s, decode_s),
                recompute_s=recompute_s,
            )
        )
    return tuple(plans)


def gpus_needed(model: ModelShape, gpu: Gpu, *, share: float = 0.9) -> int:
    """How many GPUs hold the weights in 16 bits, in ``share`` of their memory: a power of two."""
    needed = model.n_parameters * 2 / (gpu.memory_gb * 1e9 * share)
    return int(2 ** math.ceil(math.log2(max(1.0, needed))))
