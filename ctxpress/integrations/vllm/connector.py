"""``CtxpressConnector``: what vLLM loads, once in its scheduler and once in each worker."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any

import torch
import vllm
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorRole,
)

from ctxpress.cache.chunk_key import KVLevel
from ctxpress.cache.chunks import KVStore, create_kv_store
from ctxpress.cache.codec import Codec
from ctxpress.cache.codecs.warming import warm_up
from ctxpress.cache.store import create_store
from ctxpress.engine.load_policy import LoadPolicy
from ctxpress.integrations.vllm.background import Background
from ctxpress.integrations.vllm.deployment import (
    ServedModel,
    chunk_tokens,
    codec_of,
    served_model,
)
from ctxpress.integrations.vllm.identities import kv_identity, shards
from ctxpress.integrations.vllm.loading import Loader
from ctxpress.integrations.vllm.lookups import Lookups
from ctxpress.integrations.vllm.pages import PagedKV
from ctxpress.integrations.vllm.plans import Planner
from ctxpress.integrations.vllm.saving import Saver
from ctxpress.integrations.vllm.scheduling import SchedulerSide
from ctxpress.integrations.vllm.settings import read_settings
from ctxpress.integrations.vllm.statistics import ConnectorPromMetrics, ConnectorStats, Counts
from ctxpress.integrations.vllm.transfers import Transfers
from ctxpress.integrations.vllm.versions import release_of, require_tested
from ctxpress.integrations.vllm.worker import StepClock, WorkerSide
from ctxpress.integrations.vllm.writers import Deployment, announce

__all__ = ["CtxpressConnector"]

logger = logging.getLogger("vllm.ctxpress")


class CtxpressConnector(KVConnectorBase_V1):  # type: ignore[misc]  # vLLM ships no types to mypy
    """Compressed KV in a store that replicas share. See the package and ``docs/vllm.md``.

    :raises ConfigError: an option is wrong, or vLLM, its model or its set-up is not supported.
    """

    def __init__(self, vllm_config: Any, role: KVConnectorRole, kv_cache_config: Any) -> None:
        super().__init__(vllm_config=vllm_config, role=role, kv_cache_config=kv_cache_config)
        require_tested(vllm.__version__)
        self._settings = read_settings(self._kv_transfer_config.kv_connector_extra_config)
        self._served = served_model(vllm_config, kv_cache_config)
        self._codec = codec_of(self._settings)
        self._counts = Counts()
        self._background = Background(f"ctxpress-{role.name.lower()}")
        self._store: KVStore = create_kv_store(
            self._settings.store,
            namespace=self._settings.namespace(),
            timeout_ms=self._settings.timeout_ms,
        )
        self._scheduler: SchedulerSide | None = None
        self._worker: WorkerSide | None = None
        if role == KVConnectorRole.SCHEDULER:
            self._scheduler = self._scheduler_side(vllm_config)
        else:
            self._worker = WorkerSide()

    @property
    def requires_kv_delivery(self) -> bool:
        """A chunk that is not stored is computed again some day: nobody waits for it."""
        return False

    # In the workers.

    def register_kv_caches(self, kv_caches: Mapping[str, torch.Tensor]) -> None:
        """See vLLM. The order inside its pages is learned here."""
        layers = self._vllm_config.compilation_config.static_forward_context
        pages = PagedKV(layers, kv_caches, self._served.block_size)
        settings, shard = self._settings, _shard(self._served)
        worker = self._working
        common: dict[str, Any] = {"shard": shard, "block_size": self._served.block_size}
        parts = (
            self._background, self._store, self._codec, pages, self._served.rope, self._counts,
        )  # fmt: skip
        loader = Loader(
            *parts,
            **common,
            threads=settings.threads,
            timeout_ms=settings.load_timeout_ms,
            done=worker.loaded,
        )
        saver = Saver(
            *parts,
            **common,
            threads=settings.threads,
            ttl_s=settings.ttl_s,
            max_pending=settings.max_pending_saves,
        )
        worker.equip(loader, saver, StepClock(pages.device))
        _warm(self._codec, pages)

    def bind_connector_metadata(self, connector_metadata: Transfers) -> None:
        """See vLLM: the model is about to run."""
        super().bind_connector_metadata(connector_metadata)
        self._working.begin_step()

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """See vLLM. Loads run beside the model; their requests wait in the scheduler."""
        self._working.load(self._transfers())

    def wait_for_layer_load(self, layer_name: str) -> None:
        """See vLLM. A request runs when all of its layers are here."""

    def save_kv_layer(
        self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any
    ) -> None:
        """See vLLM. All layers are copied at once, in :meth:`wait_for_save`."""

    def wait_for_save(self) -> None:
        """See vLLM. Copies what shall be saved; does not wait for the store."""
        self._working.end_step(self._transfers())

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        """See vLLM: no sends, and the loads that ended."""
        return None, self._working.finished() or None

    def get_block_ids_with_load_errors(self) -> set[int]:
        """See vLLM."""
        return self._working.failed_blocks()

    def build_connector_worker_meta(self) -> Any:
        """See vLLM: what loads and prefills took."""
        return self._working.measured()

    # In the scheduler.

    def get_num_new_matched_tokens(
        self, request: Any, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        """See vLLM."""
        found = self._scheduling.matched(request, num_computed_tokens)
        return found, bool(found)

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """See vLLM."""
        if num_external_tokens > 0:
            self._scheduling.allocated(request, blocks.get_block_ids()[0], num_external_tokens)

    def build_connector_meta(self, scheduler_output: Any) -> Transfers:
        """See vLLM."""
        return self._scheduling.step(scheduler_output)

    def update_connector_output(self, connector_output: Any) -> None:
        """See vLLM."""
        self._scheduling.learned(connector_output)
        stale = self._scheduling.failed_whole(connector_output.finished_recving or ())
        if stale and self._kv_cache_manager is not None:
            # Else the part that was here before would be taken for that of the plain prompt.
            self._kv_cache_manager.evict_blocks(stale)

    def request_finished(
        self, request: Any, block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        """See vLLM: its blocks are free at once, for saves have copied them."""
        self._scheduling.finished(request.request_id)
        return False, None

    def reset_cache(self) -> bool:
        """See vLLM. The store is shared with others and stays."""
        return True

    # In both.

    def get_kv_connector_stats(self) -> ConnectorStats | None:
        """See vLLM."""
        return self._counts.take()

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> ConnectorStats:
        """See vLLM."""
        return ConnectorStats(data=dict(data or {}))

    @classmethod
    def build_prom_metrics(
        cls,
        vllm_config: Any,
        metric_types: Any,
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> ConnectorPromMetrics:
        """See vLLM."""
        return ConnectorPromMetrics(vllm_config, metric_types, labelnames, per_engine_labelvalues)

    def shutdown(self) -> None:
        """See vLLM. Saves that are under way have some seconds."""
        if self._worker is not None:
            self._worker.close()
        with contextlib.suppress(Exception):  # what fails now is of no use to anybody
            self._background.submit(self._store.aclose()).result(5)
            self._background.close()

    @property
    def _working(self) -> WorkerSide:
        if self._worker is None:
            raise RuntimeError("a worker's method, called in vLLM's scheduler")
        return self._worker

    @property
    def _scheduling(self) -> SchedulerSide:
        if self._scheduler is None:
            raise RuntimeError("a scheduler's method, called in a worker of vLLM")
        return self._scheduler

    def _transfers(self) -> Transfers:
        found = self._get_connector_metadata()
        if not isinstance(found, Transfers):
            raise TypeError(f"vLLM carries {type(found).__name__}, not what the scheduler wrote")
        return found

    def _scheduler_side(self, vllm_config: Any) -> SchedulerSide:
        settings, served = self._settings, self._served
        rope = "" if served.rope is None else served.rope.describe()
        identity = kv_identity(vllm_config, vllm.__version__, rope)
        level = KVLevel.of(self._codec)
        exact = bool(getattr(self._codec, "exact", False))
        if not exact:
            logger.warning("KV is stored through %s, which is lossy: answers may change", level)
        n_tokens = chunk_tokens(settings, served.block_size)
        self._announce(
            Deployment(
                vllm=release_of(vllm.__version__),
                model=identity.model.partition("/")[2],
                dtype=identity.dtype,
                rope=rope,
                tensor_parallel_size=served.tensor_parallel_size,
                chunk_tokens=n_tokens,
                codec=str(level),
            )
        )
        planner = Planner(
            identity,
            self._counts,
            chunk_tokens=n_tokens,
            block_size=served.block_size,
            rotated=exact or served.rope is None,
            parallel_refused=served.parallel_refused,
        )
        ranks = list(shards(served.tensor_parallel_size))
        return SchedulerSide(
            planner,
            Lookups(self._background, self._store, level, ranks, ttl_s=settings.ttl_s),
            self._counts,
            level=str(level),
            block_size=served.block_size,
            policy=LoadPolicy() if settings.load == "faster" else None,
            lookup_timeout_ms=settings.lookup_timeout_ms,
            document_wait_ms=settings.document_wait_ms,
        )

    def _announce(self, mine: Deployment) -> None:
        settings = self._settings
        store = create_store(settings.store, timeout_ms=settings.timeout_ms)

        async def work() -> None:
            await announce(store, settings.namespace(), mine, self._counts, ttl_s=settings.ttl_s)
            await store.aclose()

        self._background.submit(work())


def _shard(served: ServedModel) -> str:
    from vllm.distributed.parallel_state import get_tensor_model_parallel_rank

    return f"{get_tensor_model_parallel_rank()}/{served.tensor_parallel_size}"


def _warm(codec: Codec, pages: PagedKV) -> None:
    """Compile the codec's loops: a replica that says that it is ready can load."""
    with contextlib.suppress(Exception):  # the first real chunk tells what is wrong
        warm_up(
            codec,
            n_layers=pages.n_layers,
            n_kv_heads=pages.n_kv_heads,
            head_dim=pages.head_dim,
            dtype=pages.dtype,
            logger=logger,
        )
