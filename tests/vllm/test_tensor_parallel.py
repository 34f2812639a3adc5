"""Two ranks store their heads each, and load them again; those of one rank are others."""

from __future__ import annotations

import random

import pytest

from tests.vllm.servers import CHUNK_TOKENS, VllmServer, cached_tokens

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_ranks_share_an_identity_scheme_and_not_their_kv(start: object, exact: VllmServer) -> None:
    options = [
        "--dtype", "float32", "--tensor-parallel-size", "2", "--no-enable-prefix-caching",
        "--distributed-executor-backend", "mp",
    ]  # fmt: skip
    server: VllmServer = start(codec="raw", options=options)  # type: ignore[operator]
    server.wait()
    source = random.Random(31)
    prompt = [source.randrange(10, 3500) for _ in range(5 * CHUNK_TOKENS + 3)]
    # What one rank alone has stored is not the half of what two need.
    exact.complete({"prompt": prompt})
    exact.settle("saves", 5)
    computed = server.complete({"prompt": prompt}, logprobs=5)
    assert cached_tokens(computed) == 0
    server.settle("saves", 2 * 5)
    loaded = server.complete({"prompt": prompt}, logprobs=5)
    assert cached_tokens(loaded) == 5 * CHUNK_TOKENS
    assert loaded["choices"] == computed["choices"]
    assert server.counted("loads") == 1
