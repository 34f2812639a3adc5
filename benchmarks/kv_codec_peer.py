"""Times LMCache's CacheGen coder on a CPU; runs under the peer's Python, without ctxpress.

    python kv_codec_peer.py SYMBOLS.npy LEVELS.npy RUNS wall|cpu

SYMBOLS are ``(2 * n_layers, n_tokens, channels)`` uint8. The coder's file is loaded by itself: the
package around it imports CUDA libraries. Standard output: one line of JSON, see `main`.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
import time
from importlib.metadata import distribution
from typing import Any

import numpy as np
import torch

KERNELS = "lmcache/v1/platform/torch_ops/cachegen_kernels.py"
BUFFER_BYTES = 256  # of a channel, as in the package


def load_kernels() -> Any:
    path = distribution("lmcache").locate_file(KERNELS)
    spec = importlib.util.spec_from_file_location("cachegen_kernels", str(path))
    if spec is None or spec.loader is None:
        raise SystemExit(f"lmcache has no {KERNELS}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where numba looks for it
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Prints median seconds to encode and decode, bytes of streams, tables and lengths."""
    symbols = np.load(sys.argv[1])
    levels = torch.from_numpy(np.load(sys.argv[2]))
    runs = int(sys.argv[3])
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[sys.argv[4]]
    kernels = load_kernels()
    n_rows, n_tokens, n_channels = symbols.shape
    given = torch.from_numpy(symbols.view(np.int8))
    bins = int(levels.max()) + 1  # 31 levels are its 32 bins

    def encode() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        cdf = kernels.calculate_cdf(given, bins)
        buffer = torch.zeros((n_rows, n_channels, BUFFER_BYTES), dtype=torch.uint8)
        lengths = torch.zeros((n_rows, n_channels), dtype=torch.int32)
        kernels.encode_fast_new(cdf, given, buffer, lengths)
        held = torch.arange(BUFFER_BYTES)[None, None] < lengths[..., None]
        return cdf, buffer[held], lengths

    def decode(cdf: torch.Tensor, stream: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        out = torch.zeros((n_rows, n_tokens, n_channels), dtype=torch.uint8)
        ends = lengths.flatten().cumsum(0).reshape(lengths.shape)
        kernels.decode_fast_prefsum(cdf, stream, ends, out)
        return out

    small = given[:1, :8]
    kernels.encode_fast_new(
        kernels.calculate_cdf(small, bins),
        small,
        torch.zeros((1, n_channels, BUFFER_BYTES), dtype=torch.uint8),
        torch.zeros((1, n_channels), dtype=torch.int32),
    )  # compiles
    cdf, stream, lengths = encode()
    wrong = int((decode(cdf, stream, lengths).numpy() != symbols).sum())
    encode_s, decode_s = [], []
    for _ in range(runs):
        begun = clock()
        cdf, stream, lengths = encode()
        encode_s.append(clock() - begun)
        begun = clock()
        decode(cdf, stream, lengths)
        decode_s.append(clock() - begun)
    print(
        json.dumps(
            {
                "encode_s": statistics.median(encode_s),
                "decode_s": statistics.median(decode_s),
                "stream_bytes": stream.numel(),
                "table_bytes": 2 * cdf.numel(),
                "length_bytes": 4 * lengths.numel(),
                "wrong_symbols": wrong,
                "version": distribution("lmcache").version,
            }
        )
    )


if __name__ == "__main__":
    main()
