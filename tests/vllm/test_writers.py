"""Deployments in one store learn of each other, and what cannot be read is begun anew."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from ctxpress.cache.key import Namespace
from ctxpress.cache.store import Store, create_store
from ctxpress.integrations.vllm.statistics import Counts
from ctxpress.integrations.vllm.writers import Deployment, announce

NAMESPACE = Namespace.derive(b"a secret of sixteen", "vllm")
ONE = Deployment(
    vllm="0.32.0", model="folder:1", dtype="bfloat16", rope="64 dims", tensor_parallel_size=1,
    chunk_tokens=256, codec="cachegen-3",
)  # fmt: skip


async def said(
    store: Store, mine: Deployment, caplog: pytest.LogCaptureFixture
) -> tuple[list[str], dict[str, float]]:
    caplog.clear()
    counts = Counts()
    with caplog.at_level(logging.WARNING, logger="vllm.ctxpress"):
        await announce(store, NAMESPACE, mine, counts, ttl_s=60.0)
    stats = counts.take()
    return [record.getMessage() for record in caplog.records], stats.data if stats else {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "folder:2"}, "model folder:1"),
        ({"vllm": "0.32.1"}, "vllm 0.32.0"),
        ({"tensor_parallel_size": 2}, "tensor parallel size 1"),
        ({"chunk_tokens": 512}, "chunk tokens 256"),
    ],
)
async def test_a_difference_is_named_once_and_counted(
    change: dict[str, object], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = create_store("memory://")
    assert await said(store, ONE, caplog) == ([], {})
    assert await said(store, ONE, caplog) == ([], {})
    lines, counted = await said(store, replace(ONE, **change), caplog)  # type: ignore[arg-type]
    assert len(lines) == 1
    assert words in lines[0]
    assert counted == {f"foreign_writers|{next(iter(change))}": 1}


@pytest.mark.parametrize("value", [b"", b"nonsense", NAMESPACE.seal("another key", b"[]")])
async def test_a_damaged_list_is_begun_anew(value: bytes, caplog: pytest.LogCaptureFixture) -> None:
    store = create_store("memory://")
    key = NAMESPACE.key("vllm-writers")
    await store.put(key, value, ttl_s=60.0)
    assert await said(store, ONE, caplog) == ([], {})
    lines, _ = await said(store, replace(ONE, dtype="float16"), caplog)
    assert len(lines) == 1
