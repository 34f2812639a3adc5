"""``ctxpress demo --kv`` (also ``make run-kv``): documents are read once, and their KV is moved.

The whole chain on this machine, and nothing outside it: the real proxy with the stages ``dedupe``
and ``kv_reuse``, two workers that serve the reference model, and a store that they share. One set
of documents is asked about three times; before the third time the worker that knows them is gone,
and the other one finds them in the store.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctxpress.errors import CtxpressError

if TYPE_CHECKING:
    from ctxpress.cache.chunk_key import CacheKey
    from ctxpress.cache.kv import KVBlock
    from ctxpress.cli.worker_thread import WorkerThread
    from ctxpress.config import Config
    from ctxpress.engine.kv_tier import KVTier
    from ctxpress.engine.loading import RotaryModel
    from ctxpress.engine.mixing_calibration import MixingCalibration
    from ctxpress.evaluation.kv_tasks import ContextTask

__all__ = ["CODECS", "Answer", "CodecSize", "KVDemo", "KVDemoSettings", "Setting"]

CODECS = ("raw", "int8", "cachegen-3", "cachegen-2", "cachegen-1")  # none needs a calibration
MODEL = "reference"
N_DOCUMENTS, N_REPEATED, N_QUESTIONS = 16, 2, 8
DOCUMENT_TOKENS = 88
SEED = 20
DOCUMENT_PATTERN = r"(?P<text>Document: (?P<title>[^\n]+)\n[^\n]+)\n"
TIMEOUT_S = 120.0
MEMORY_BYTES = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class KVDemoSettings:
    """``codec``: how KV lies in the store. ``redis_server``: its program; None keeps KV on disk."""

    codec: str = "cachegen-3"
    redis_server: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What runs where. ``calibration`` says how the model bears documents in parallel."""

    proxy_url: str
    worker_urls: tuple[str, ...]
    store: str
    codec: str
    calibration: MixingCalibration


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One request: what was asked, what came back, where its documents' KV came from.

    ``sent_tokens`` are those of the client's prompt, ``prompt_tokens`` those that reached the
    worker, ``cached_tokens`` those of them that were not computed. ``from_memory`` and
    ``from_store`` count blocks: the documents, and the prompt's beginning.
    """

    question: str
    expected: str
    text: str
    worker_url: str
    sent_tokens: int
    prompt_tokens: int
    cached_tokens: int
    documents: int
    cached_documents: int
    from_memory: int
    from_store: int
    elapsed_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecSize:
    """What one codec makes of the demo's KV, and how many questions are answered from that."""

    codec: str
    size_bytes: int
    n_tokens: int
    n_right: int
    n_asked: int


@dataclass(frozen=True, slots=True)
class _Place:
    """A worker, and the KV behind it."""

    thread: WorkerThread
    tier: KVTier


class KVDemo:
    """The running chain; use it as a context manager, which sets ``setting``.

    :meth:`ask`, then :meth:`lose` a worker, then :meth:`sizes` of what it held.
    """

    setting: Setting

    def __init__(self, settings: KVDemoSettings) -> None:
        """:raises CtxpressError: the model or a codec is not to be had."""
        from ctxpress.cache.codec import create_codec
        from ctxpress.engine.mixing_cache import calibrated
        from ctxpress.engine.reference import load_named

        self._settings = settings
        self._codec = create_codec(settings.codec)
        self.model: RotaryModel = load_named(MODEL, device="cpu")
        self._calibration = calibrated(self.model)
        self._task = _task()
        self._stack = contextlib.ExitStack()
        self._places: list[_Place] = []
        self._blocks: dict[CacheKey, KVBlock] = {}
        self._n_asked = 0

    def __enter__(self) -> KVDemo:
        with contextlib.ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ask(self) -> Answer:
        """Ask the next question about the same documents, in another order each time.

        :raises CtxpressError: the proxy does not answer as it should.
        """
        number = self._n_asked
        self._n_asked += 1
        question, expected = self._task.questions[number], self._task.answers[number]
        prompt = self._task.prefix + "".join(_retrieved(self._task, number)) + question
        before = [place.tier.counts for place in self._places]
        begun_s = time.perf_counter()
        found = _completion(self.setting.proxy_url, {"prompt": prompt})
        elapsed_ms = (time.perf_counter() - begun_s) * 1000
        counts = [
            {name: count - old.get(name, 0) for name, count in place.tier.counts.items()}
            for place, old in zip(self._places, before, strict=True)
        ]
        here = max(range(len(counts)), key=lambda index: _n_read(counts[index]))
        usage, report = found["usage"], found["ctxpress"]
        return Answer(
            question=question,
            expected=expected,
            text=_text(found),
            worker_url=self._places[here].thread.url,
            sent_tokens=len(self.model.token_ids(prompt)),
            prompt_tokens=usage["prompt_tokens"],
            cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
            documents=report["documents"],
            cached_documents=report.get("cached_documents", 0),
            from_memory=counts[here].get("memory", 0),
            from_store=counts[here].get("store", 0),
            elapsed_ms=elapsed_ms,
        )

    def lose(self, worker_url: str) -> None:
        """End a worker, once what it is writing lies in the store."""
        for place in self._places:
            if place.thread.url == worker_url:
                place.tier.flush()
                self._blocks = place.tier.held()
                place.thread.stop()

    def sizes(self) -> Iterator[CodecSize]:
        """What every codec makes of the KV of the worker that was lost: sizes, and answers from it.

        The documents' KV is encoded and decoded by the codec, and every question is asked of a
        worker that holds only that.
        """
        from ctxpress.cache.codec import create_codec
        from ctxpress.engine.kv_memory import KVMemory

        for name in CODECS:
            codec = create_codec(name)
            memory, size_bytes, n_tokens = KVMemory(MEMORY_BYTES), 0, 0
            for key, block in self._blocks.items():
                data = codec.encode(block)
                memory.put(key, codec.decode(data, expected=key.identity))
                size_bytes += len(data)
                n_tokens += block.n_tokens
            with self._serve(memory) as thread:
                right = [self._is_right(thread.url, number) for number in range(N_QUESTIONS)]
            yield CodecSize(
                codec=name,
                size_bytes=size_bytes,
                n_tokens=n_tokens,
                n_right=sum(right),
                n_asked=len(right),
            )

    def _is_right(self, worker_url: str, number: int) -> bool:
        from ctxpress.formats.extension import MARKER

        documents = [{"text": text} for text in self._task.documents]
        found = _completion(
            worker_url,
            {
                "prompt": self._task.prefix + MARKER + self._task.questions[number],
                "ctxpress": {"documents": documents},
            },
        )
        return _text(found) == self._task.answers[number]

    def _start(self, stack: contextlib.ExitStack) -> None:
        from ctxpress.cli.demo_store import demo_store
        from ctxpress.cli.proxy_thread import ProxyThread

        store_url = stack.enter_context(demo_store(self._settings.redis_server))
        self._warm()
        secret = os.urandom(32)
        for _ in range(2):
            tier = self._tier(store_url, secret)
            stack.callback(tier.close)
            thread = stack.enter_context(self._serve(tier))
            self._places.append(_Place(thread, tier))
        urls = tuple(place.thread.url for place in self._places)
        proxy = stack.enter_context(ProxyThread(_config(urls)))
        self.setting = Setting(
            proxy_url=proxy.url,
            worker_urls=urls,
            store=store_url.partition(":")[0].replace("unix", "redis"),
            codec=self._codec.name,
            calibration=self._calibration,
        )

    def _tier(self, store_url: str, secret: bytes) -> KVTier:
        from ctxpress.cache.chunks import create_kv_store
        from ctxpress.cache.key import Namespace
        from ctxpress.engine.kv_memory import KVMemory
        from ctxpress.engine.kv_tier import KVTier

        namespace = Namespace.derive(secret, "default")
        store = create_kv_store(store_url, namespace=namespace)
        # Without a LoadPolicy: it would find a model this small sooner computed than loaded, and
        # what is to be seen here is that another worker finds the KV.
        return KVTier(KVMemory(MEMORY_BYTES), store, self._codec)

    def _serve(self, source: Any) -> WorkerThread:
        from ctxpress.cli.worker_thread import WorkerThread
        from ctxpress.engine.worker import Worker, WorkerOptions

        options = WorkerOptions(mixing=self._calibration.chosen, calibration=self._calibration)
        return WorkerThread(Worker(self.model, options, source=source))

    def _warm(self) -> None:
        """Have the codec ready, as a worker has it before it listens."""
        from ctxpress.cache.codecs.warming import warm_up

        warm_up(
            self._codec,
            n_layers=self.model.n_layers,
            n_kv_heads=self.model.n_kv_heads,
            head_dim=self.model.head_dim,
            dtype=self.model.dtype,
        )


def _task() -> ContextTask:
    from ctxpress.evaluation.kv_tasks import generate_tasks

    (task,) = generate_tasks(
        "retrieval",
        n_documents=N_DOCUMENTS,
        n_tasks=1,
        seed=SEED,
        document_tokens=DOCUMENT_TOKENS,
        n_questions=N_QUESTIONS,
    )
    return task


def _retrieved(task: ContextTask, number: int) -> list[str]:
    """The documents as a retriever brings them: in an order of its own, some of them twice."""
    rng = random.Random(number)
    documents = list(task.documents)
    rng.shuffle(documents)
    return [*documents, *documents[:N_REPEATED]]


def _config(worker_urls: tuple[str, ...]) -> Config:
    from ctxpress.config import Config

    return Config.model_validate(
        {
            "version": 1,
            "auth": "passthrough",
            "store": "memory://",
            "upstreams": {"workers": {"kind": "worker", "base_urls": list(worker_urls)}},
            "pipelines": {
                "kv": {
                    "document_pattern": DOCUMENT_PATTERN,
                    "stages": [{"use": "dedupe", "sentences": False}, {"use": "kv_reuse"}],
                }
            },
            "tenants": {"default": {"upstream": "workers", "mode": "on", "pipeline": "kv"}},
        }
    )


def _completion(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """:raises CtxpressError: there is no answer."""
    import httpx

    whole = {"model": MODEL, "max_tokens": 8, "temperature": 0, **body}
    try:
        answer = httpx.post(f"{url}/v1/completions", json=whole, timeout=TIMEOUT_S, trust_env=False)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise CtxpressError(f"the demo's chain did not answer: {error}") from error
    found: dict[str, Any] = answer.json()
    return found


def _text(found: dict[str, Any]) -> str:
    text: str = found["choices"][0]["text"]
    return text.strip()


def _n_read(counts: dict[str, int]) -> int:
    return sum(counts.get(name, 0) for name in ("memory", "store", "missing", "undecodable"))
