"""What one replica computed, another loads; and whatever the store does, requests are answered."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from tokenizers import Tokenizer

from ctxpress.engine.reference import reference_model_dir
from ctxpress.evaluation.kv_tasks import generate_tasks
from tests.redis_server import RedisServer
from tests.vllm.servers import CHUNK_TOKENS, VllmServer, cached_tokens

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Pair = tuple[VllmServer, VllmServer]


def prompts(n_prompts: int, *, seed: int, n_documents: int = 12) -> list[list[int]]:
    """Questions about documents that the reference model can answer, as token ids."""
    tokenizer = Tokenizer.from_file(str(reference_model_dir() / "tokenizer.json"))
    tasks = generate_tasks(
        "retrieval", n_documents=n_documents, n_tasks=n_prompts, seed=seed, n_questions=1
    )
    return [
        tokenizer.encode(
            task.prefix + "".join(task.documents) + task.questions[0], add_special_tokens=False
        ).ids
        for task in tasks
    ]


def test_what_one_computed_another_loads_and_answers_alike(replicas: Pair) -> None:
    first, second = replicas
    asked = prompts(40, seed=1)
    computed = [first.text(prompt) for prompt in asked]
    n_chunks = sum(len(prompt) // CHUNK_TOKENS for prompt in asked)
    first.settle("saves", n_chunks * 0.95)  # chunks that several prompts share are saved once
    answers = [second.complete({"prompt": prompt}) for prompt in asked]
    for prompt, answer in zip(asked, answers, strict=True):
        assert cached_tokens(answer) == (len(prompt) - 1) // CHUNK_TOKENS * CHUNK_TOKENS
    alike = [
        one == answer["choices"][0]["text"] for one, answer in zip(computed, answers, strict=True)
    ]
    assert sum(alike) >= 0.95 * len(asked)
    assert second.counted("loads", "prefix") == len(asked)


def test_what_vllm_holds_itself_is_not_loaded_again(replicas: Pair) -> None:
    (_, second), (prompt,) = replicas, prompts(1, seed=2)
    first_answer = second.complete({"prompt": prompt})
    loads = second.counted("loads")
    again = second.complete({"prompt": prompt})
    assert cached_tokens(again) >= len(prompt) // CHUNK_TOKENS * CHUNK_TOKENS
    assert again["choices"][0]["text"] == first_answer["choices"][0]["text"]
    assert second.counted("loads") == loads


def test_requests_with_a_salt_are_neither_stored_nor_loaded(replicas: Pair) -> None:
    (first, second), (prompt,) = replicas, prompts(1, seed=3)
    lookups = first.counted("lookups")
    first.complete({"prompt": prompt, "cache_salt": "mine"})
    answer = second.complete({"prompt": prompt, "cache_salt": "mine"})
    assert cached_tokens(answer) == 0
    assert first.counted("lookups") == lookups


def test_damage_is_recomputed_counted_and_logged_once(replicas: Pair, redis: RedisServer) -> None:
    (first, second), asked = replicas, prompts(3, seed=4)
    saves = first.counted("saves")
    computed = [first.text(prompt) for prompt in asked]
    first.settle("saves", saves + 3)
    with Redis(port=redis.port) as client:
        for key in client.scan_iter("ctxpress:1:kv:*"):
            client.setrange(key, client.strlen(key) - 64, b"\xff" * 64)
    failures = second.counted("loads_failed")
    assert [second.text(prompt) for prompt in asked] == computed
    assert second.counted("loads_failed") > failures
    assert second.counted("loads_failed", "damaged") > 0
    assert second.said().count("stored KV cannot be used (damaged)") == 1


def test_no_request_is_lost_when_the_store_dies(replicas: Pair, redis: RedisServer) -> None:
    first, second = replicas
    asked = prompts(16, seed=5)
    saves = first.counted("saves")
    computed = [first.text(prompt) for prompt in asked]
    first.settle("saves", saves + 2 * len(asked))

    def ask(number: int) -> str:
        if number == 4:
            redis.kill()
        return second.text(asked[number])

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(len(asked))))
    alike = [one == other for one, other in zip(computed, answers, strict=True)]
    assert sum(alike) >= 0.9 * len(asked)  # some were loaded, and the batches differ
    assert second.text(asked[0]) == answers[0]
    redis.start()
    saves = first.counted("saves")
    (fresh,) = prompts(1, seed=6)
    first.text(fresh)
    first.settle("saves", saves + 1)  # back without a restart


def test_lossy_codecs_are_named_at_start(replicas: Pair) -> None:
    assert "KV is stored through cachegen-3, which is lossy" in replicas[0].said()
