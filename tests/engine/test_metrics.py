"""What a worker counts, as Prometheus reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ctxpress.engine.mixing_calibration import MixingCalibration
from ctxpress.engine.parallel import Mixing
from ctxpress.engine.worker import WorkerOptions
from tests.engine.small_worker import serving
from tests.engine.test_kv_tier import tier_at
from tests.engine.test_server import ASK, DOCUMENTS


def scraped(url: str) -> dict[str, float]:
    answer = httpx.get(f"{url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        sample.name.removeprefix("ctxpress_worker_") + "".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


def test_requests_tokens_and_kv_are_counted(tmp_path: Path) -> None:
    tier = tier_at(f"disk://{tmp_path}")
    body = {"messages": ASK, "max_tokens": 3, "ctxpress": {"documents": DOCUMENTS}}
    with serving(WorkerOptions(mixing=Mixing()), source=tier) as (url, _):
        answers = [
            httpx.post(f"{url}/v1/chat/completions", json={**body, **more}, timeout=60)
            for more in ({}, {"stream": True}, {"n": 2})
        ]
        tier.flush(30)
        found = scraped(url)
    tier.close()
    assert [answer.status_code for answer in answers] == [200, 200, 400]
    usage = answers[0].json()["usage"]
    assert found["requests_total/v1/chat/completions200"] == 2
    assert found["requests_total/v1/chat/completions400"] == 1
    assert found["errors_totalinvalid_request_error"] == 1
    assert found["answers_totallength"] == 2
    assert found["first_token_seconds_count/v1/chat/completions"] == 2
    assert found["tokens_totalprompt"] == 2 * usage["prompt_tokens"]
    assert found["tokens_totalgenerated"] == 6
    assert 0 < found["tokens_totalcached"] < usage["prompt_tokens"]
    assert found["kv_blocks_totalmemory"] == 4  # the prefix and three documents, asked for again
    assert found["kv_blocks_totalwritten"] == 4
    assert found["kv_store_chunks_totalwritten"] == 4
    assert found["kv_store_written_bytes_total"] > 0
    assert found["kv_memory_bytes"] > 0
    assert found["running"] == found["waiting"] == found["reserved_tokens"] == 0


def test_paths_that_nobody_serves_share_a_label() -> None:
    with serving() as (url, _):
        for number in range(3):
            assert httpx.get(f"{url}/v1/nothing/{number}").status_code == 404
        assert scraped(url)["requests_totalother404"] == 3


@pytest.mark.parametrize(
    ("kl", "mixing", "gate", "reuse"),
    [
        (0.02, Mixing(temperature=0.9, scale=0.8), "passed", "parallel"),
        (3.0, None, "failed", "prefix"),
    ],
)
def test_an_answer_says_what_the_gate_found(
    kl: float, mixing: Mixing | None, gate: str, reuse: str
) -> None:
    calibration = MixingCalibration(
        mixing=mixing or Mixing(), kl=kl, kl_plain=kl, inverse=Mixing(), kl_inverse=kl,
        n_prompts=4, bound=0.1,
    )  # fmt: skip
    options = WorkerOptions(mixing=mixing, calibration=calibration)
    body = {"messages": ASK, "max_tokens": 2, "ctxpress": {"documents": DOCUMENTS}}
    with serving(options) as (url, _):
        found: dict[str, Any] = httpx.post(
            f"{url}/v1/chat/completions", json=body, timeout=60
        ).json()["ctxpress"]
    assert found["kv_reuse"] == reuse
    assert (found["gate"], found["kl"], found["kl_bound"]) == (gate, kl, 0.1)
    assert found["documents"] == 3
    if mixing is not None:
        assert (found["temperature"], found["scale"]) == (0.9, 0.8)
