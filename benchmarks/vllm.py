"""The first token behind a shared prefix of 2k tokens, on a replica of vLLM that is cold.

    make bench-vllm      or, in its environment: python -m benchmarks.vllm [--shape 300m|tiny]
                         [--prefix-tokens 2048] [--codecs raw,cachegen-3] [--rounds 5]
                         [--gbits 1] [--write docs/vllm.md]

A random Llama in bf16 on the CPU (weights do not change how long it takes; they make KV that
compresses worse than that of text), the same in all rows, served by real vLLM servers with one
real Redis: one server without the connector, and one for every codec, loading always. Their own
prefix cache is off, so that a request finds every replica cold. Rounds are interleaved, figures
are medians. Servers compute with one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.shaped_link import shaped_link
from ctxpress.engine.reference import reference_model_dir
from ctxpress.evaluation.sections import replace_section
from tests.redis_server import RedisServer, find_redis_server
from tests.vllm.servers import VllmServer

_GBIT_BYTES_PER_S = 125_000_000
_SUFFIX_TOKENS = 16
_CHUNK_TOKENS = 256
_VOCABULARY = 3584
SHAPES = {
    "300m": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 16,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 64,
    },
    "tiny": {
        "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
    },
}  # fmt: skip


@dataclass
class Row:
    """Milliseconds to the first token, and bytes read for it, of one way to get there."""

    name: str
    link: str
    server: VllmServer
    loaded_bytes: float = 0.0
    ms: list[float] = field(default_factory=list)


def main() -> None:
    """Measure, print, and with ``--write`` put the table into a document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="300m")
    parser.add_argument("--prefix-tokens", type=int, default=2048)
    parser.add_argument("--codecs", default="raw,cachegen-3")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gbits", default="1")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    with ExitStack() as stack:
        rows = _rows(options, stack)
        prefix = _tokens(1, options.prefix_tokens)
        _fill(rows, prefix)
        for number in range(options.rounds):
            for row in rows:
                before = row.server.counted("loaded_bytes")
                row.ms.append(
                    _first_token_ms(row.server, [*prefix, *_tokens(100 + number, _SUFFIX_TOKENS)])
                )
                row.server.complete({"prompt": [5]}, max_tokens=1)  # publishes what was counted
                row.loaded_bytes = row.server.counted("loaded_bytes") - before
    text = _table(rows, options)
    print(text)
    if options.write is not None:
        replace_section(options.write, "vllm-benchmark", "", text)


def _rows(options: argparse.Namespace, stack: ExitStack) -> list[Row]:
    """The servers, all at work."""
    folder = Path(tempfile.mkdtemp(prefix="ctxpress-vllm-"))
    stack.callback(shutil.rmtree, folder)
    model = _model(folder / "model", options.shape)
    binary = find_redis_server()
    if binary is None:
        raise SystemExit("there is no redis-server: run it by `make bench-vllm`")
    redis = RedisServer(binary, folder)
    redis.start()
    stack.callback(redis.kill)

    def serve(name: str, link: str, store: str, codec: str | None) -> Row:
        place = Path(tempfile.mkdtemp(dir=folder))
        server = VllmServer(
            place,
            model=model,
            store=store,
            codec=codec,
            chunk_tokens=_CHUNK_TOKENS,
            options=["--no-enable-prefix-caching", "--max-model-len", "4096"],
        )
        stack.callback(server.stop)
        return Row(name, link, server)

    rows = [serve("computed", "", redis.url, None)]
    for codec in options.codecs.split(","):
        rows.append(serve(codec, "loopback", redis.url, codec))
        for gbits in filter(None, options.gbits.split(",")):
            speed = float(gbits) * _GBIT_BYTES_PER_S
            port = stack.enter_context(shaped_link(redis.port, bytes_per_s=speed))
            url = f"redis://127.0.0.1:{port}/0"
            rows.append(serve(codec, f"{gbits} Gbit/s", url, codec))
    for row in rows:
        row.server.wait()
    return rows


def _model(folder: Path, shape: str) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=_VOCABULARY, max_position_embeddings=4096, dtype="bfloat16", **SHAPES[shape]
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(reference_model_dir() / name, folder / name)
    return folder


def _fill(rows: Sequence[Row], prefix: Sequence[int]) -> None:
    """Compute and store the prefix once for every codec; warm every server."""
    stored: set[str] = set()
    for row in rows:
        row.server.complete({"prompt": [*prefix, 7]}, max_tokens=1)
        if row.link and row.name not in stored:
            stored.add(row.name)
            row.server.settle("saves", len(prefix) // _CHUNK_TOKENS)
        row.server.complete({"prompt": [*prefix, 8]}, max_tokens=1)


def _first_token_ms(server: VllmServer, prompt: Sequence[int]) -> float:
    body = {
        "model": "reference", "prompt": list(prompt), "max_tokens": 4, "temperature": 0.0,
        "stream": True, "ignore_eos": True,
    }  # fmt: skip
    begun_s = time.perf_counter()
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=600) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: ") and json.loads(line[6:])["choices"]:
                return (time.perf_counter() - begun_s) * 1000
    raise RuntimeError("no token came")


def _tokens(seed: int, n_tokens: int) -> list[int]:
    source = random.Random(seed)
    return [source.randrange(10, _VOCABULARY) for _ in range(n_tokens)]


def _table(rows: Sequence[Row], options: argparse.Namespace) -> str:
    computed_ms = statistics.median(rows[0].ms)
    lines = [
        f"The first token behind {options.prefix_tokens} shared tokens and {_SUFFIX_TOKENS} of its "
        f"own, on a replica that has none of them. A random Llama of shape `{options.shape}` in "
        f"bf16, {os.cpu_count()} cores, one thread a server, one Redis; medians of "
        f"{options.rounds} rounds. KV of random weights compresses worse than that of text.",
        "",
        "| KV | link to Redis | first token | sooner than computing | bytes moved |",
        "|---|---|---:|---:|---:|",
    ]
    for row in rows:
        ms = statistics.median(row.ms)
        name = "computed" if not row.link else f"`{row.name}`"
        gain = f"{computed_ms / ms:.1f}x" if row.link else ""
        moved = f"{row.loaded_bytes / 1e6:.1f} MB" if row.link else ""
        lines.append(f"| {name} | {row.link} | {ms:,.0f} ms | {gain} | {moved} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
