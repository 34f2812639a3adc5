"""Plans as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from ctxpress.planning.constants import CodecCost, measured_on
from ctxpress.planning.fleet import Fleet, FleetNeed
from ctxpress.planning.loading import Link, LoadPlan
from ctxpress.planning.model_shape import ModelShape

__all__ = ["fleet_page", "plan_page", "size_table", "verdict"]


def plan_page(
    plans: Sequence[LoadPlan],
    link: Link,
    *,
    utilisation: float,
    command: str,
) -> str:
    """The plans, what they assume, and what KV weighs."""
    first = plans[0]
    assumed = (
        f"`{command}`: a context of {first.n_tokens:,} tokens, {link.bandwidth_gbit_per_s:g} Gbit/s"
        f" and {link.latency_ms:g} ms to the store, {decoding(link)}"
        f" beside the transfer, GPUs at {utilisation:.0%} of their dense bf16 peak, machines"
        f" with nothing else to do. Codecs: {measured_on()}."
    )
    head = ["model", "GPUs", "codec", "stored, MB", "transfer, s", "decode, s", "load, s"]
    head += ["recompute, s", "sooner", "break-even, Gbit/s", ""]
    rows = [
        (
            plan.model.name,
            f"{plan.n_gpus} {plan.gpu.name}",
            f"`{plan.codec.name}`",
            f"{plan.stored_bytes / 1e6:,.0f}",
            f"{plan.transfer_s:.3f}",
            f"{plan.decode_s:.3f}",
            f"{plan.load_s:.3f}",
            f"{plan.recompute_s:.3f}",
            f"{plan.speed_up:.1f}x",
            break_even(plan),
            verdict(plan),
        )
        for plan in plans
    ]
    models = list(dict.fromkeys(plan.model for plan in plans))
    codecs = list(dict.fromkeys(plan.codec for plan in plans))
    return f"{size_table(models, codecs)}\n\n{assumed}\n\n{_table(head, rows)}"


def size_table(models: Sequence[ModelShape], codecs: Sequence[CodecCost]) -> str:
    """Bytes of KV a token, for models and codecs."""
    head = ("bytes a token", "fp16", *(f"`{codec.name}`" for codec in codecs))
    rows = []
    for model in models:
        fp16 = model.kv_bytes_per_token
        sizes = (f"{codec.stored_bytes(fp16):,.0f}" for codec in codecs)
        rows.append((model.name, f"{fp16:,}", *sizes))
    return _table(head, rows)


def fleet_page(model: ModelShape, fleet: Fleet, needs: Sequence[FleetNeed], command: str) -> str:
    """What a store must bear, and what is assumed of a replica."""
    assumed = (
        f"`{command}`: {model.name}; each replica has {fleet.requests_per_s:g} requests/s with"
        f" {fleet.context_tokens:,} tokens of shared context, loads {fleet.load_share:.0%} of these"
        f" from the store (its own prefix cache has the others), writes {fleet.new_share:.0%} of"
        f" them, and adds {fleet.corpus_tokens / 1e6:g} million different tokens to what the store"
        f" holds; a node of Redis serves {fleet.node_gbit_per_s:g} Gbit/s (one process, as measured"
        f" in [kv.md](kv.md)) and holds {fleet.node_gb:g} GB."
    )
    head = ("replicas", "codec", "read, Gbit/s", "written, Gbit/s", "memory, GB", "Redis nodes")
    rows = [
        (
            f"{need.n_replicas:,}",
            f"`{need.codec.name}`",
            f"{need.read_gbit_per_s:,.1f}",
            f"{need.write_gbit_per_s:,.1f}",
            f"{need.memory_gb:,.0f}",
            f"{need.n_nodes:,}",
        )
        for need in needs
    ]
    return f"{assumed}\n\n{_table(head, rows)}"


def decoding(link: Link) -> str:
    """Who decodes."""
    if link.decode_gb_per_s is not None:
        return f"{link.decode_gb_per_s:g} GB/s of fp16 KV decoded"
    return f"{link.decode_cores} CPU cores that decode"


def break_even(plan: LoadPlan) -> str:
    """From which bandwidth on loading pays."""
    found = plan.break_even_gbit_per_s
    return "none: decoding" if found is None else f"{found:.2f}"


def verdict(plan: LoadPlan) -> str:
    """Whether to load, in two or three words."""
    return "worth it" if plan.worth_it else "*not worth it*"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
