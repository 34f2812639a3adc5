"""Documents through codecs are asked the same questions as documents as they were computed."""

from __future__ import annotations

import pytest

from ctxpress.cache.codec import create_codec
from ctxpress.engine.parallel import Mixing
from ctxpress.evaluation.kv_loaded import AS_COMPUTED, measure_loaded
from ctxpress.evaluation.kv_tasks import generate_tasks
from tests.engine.small_worker import byte_model

MODEL = byte_model()


def test_what_codecs_keep_is_told_beside_what_they_take() -> None:
    tasks = generate_tasks("retrieval", n_documents=2, n_tasks=1, seed=0)
    codecs = {name: create_codec(name) for name in ("raw", "int8", "int4")}
    computed, raw, int8, coarse = measure_loaded(MODEL, tasks, Mixing(), codecs)
    assert computed.codec == AS_COMPUTED
    assert computed.kl == [0.0] * len(tasks[0].questions)
    assert raw.bytes_per_token > int8.bytes_per_token > coarse.bytes_per_token > 0
    # float16 loses next to nothing, and the coarsest level something.
    assert raw.perplexity == pytest.approx(computed.perplexity, rel=0.05)
    assert 0 <= max(raw.kl) < max(coarse.kl)
    assert raw.as_dict()["n_questions"] == len(tasks[0].questions)


def test_tasks_that_do_not_fit_are_an_error() -> None:
    tasks = generate_tasks("retrieval", n_documents=64, n_tasks=1, seed=0)
    with pytest.raises(ValueError, match="no task fits into the 2048 tokens"):
        measure_loaded(MODEL, tasks, Mixing(), {})
