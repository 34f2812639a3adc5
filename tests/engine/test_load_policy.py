"""Load KV or compute it: what was measured decides."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from ctxpress.cache.chunks import create_kv_store
from ctxpress.cache.codec import create_codec
from ctxpress.cache.key import Namespace
from ctxpress.cache.streaming.link import LinkMeter
from ctxpress.cache.streaming.rates import PrefillMeter, PrefillModel
from ctxpress.engine.kv_memory import KVMemory
from ctxpress.engine.kv_tier import KVTier
from ctxpress.engine.load_policy import LoadPolicy, StoredRun
from ctxpress.engine.parallel import Mixing
from ctxpress.engine.worker import WorkerOptions
from tests.engine.small_worker import serving
from tests.engine.test_kv_tier import SECRET
from tests.engine.test_server import ASK, DOCUMENTS


def policy(*, link: float, ms_per_token: float) -> LoadPolicy:
    model = PrefillModel(fixed_ms=0.0, ms_per_token=ms_per_token, ms_per_token_pair=0.0)
    return LoadPolicy(link=LinkMeter(prior_bytes_per_ms=link), prefill=PrefillMeter(model))


def runs(n: int, size_bytes: int | None = 100_000) -> list[StoredRun]:
    return [StoredRun(n_tokens=100, context_tokens=20, size_bytes=size_bytes)] * n


@pytest.mark.parametrize(
    ("link", "loaded"), [(1e6, 8), (1000.0, 4), (1.0, 0), (0.0, 0)]
)  # computing takes 100 ms a run
def test_a_slower_link_loads_less(link: float, loaded: int) -> None:
    decision = policy(link=link, ms_per_token=1.0).decide("raw", runs(8))
    assert sum(decision.load) == loaded
    assert decision.expected_ms <= min(decision.load_ms, decision.compute_ms)


def test_what_is_not_stored_is_computed() -> None:
    decision = policy(link=1e6, ms_per_token=1.0).decide("raw", [*runs(1), *runs(1, None)])
    assert decision.load == (True, False)


def test_what_is_measured_replaces_what_was_guessed() -> None:
    one = policy(link=1e6, ms_per_token=1.0)
    for _ in range(6):
        one.transferred(100_000, 50_000.0)
    assert not any(one.decide("raw", runs(4)).load)
    other = policy(link=1e3, ms_per_token=1000.0)
    assert all(other.decide("raw", runs(4)).load)
    for _ in range(64):
        other.computed(100, 20, 0.5)
    assert not any(other.decide("raw", runs(4)).load)


def test_a_slow_link_is_tried_again_some_day() -> None:
    one = policy(link=1e6, ms_per_token=1.0)
    one.transferred(100_000, 50_000.0)
    assert not any(one.decide("raw", runs(4)).load)
    assert all(one.decide("raw", runs(4)).load)


@pytest.mark.parametrize("form", ["documents", "prefix"])
@pytest.mark.parametrize("link", [0.0, 1e9])
def test_an_answer_is_the_same_either_way_and_says_which(
    tmp_path: Path, form: str, link: float
) -> None:
    options = WorkerOptions(mixing=Mixing(temperature=0.9) if form == "documents" else None)
    documents = [{**one, "text": one["text"] * 8} for one in DOCUMENTS]
    body = {
        "messages": ASK, "temperature": 0, "max_tokens": 6, "ctxpress": {"documents": documents},
    }  # fmt: skip
    answers = []
    for _ in range(2):
        store = create_kv_store(f"disk://{tmp_path}", namespace=Namespace.derive(SECRET, "a"))
        tier = KVTier(
            KVMemory(2**24),
            store,
            create_codec("raw"),
            policy=policy(link=link, ms_per_token=100.0),
        )
        with serving(options, source=tier) as (url, _):
            answers.append(httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json())
        tier.close()
    cold, warm = answers
    assert warm["choices"] == cold["choices"]
    found = warm["ctxpress"]["load"]
    assert found["stored"] == (4 if form == "documents" else 5)
    assert found["loaded"] == (found["stored"] if link else 0)
    assert (warm["usage"]["prompt_tokens_details"]["cached_tokens"] > 0) == bool(link)
