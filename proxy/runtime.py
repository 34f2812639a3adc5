"""What requests share: everything that one configuration stands for."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ctxpress.compressor import CompressedBody, CompressedMessages, RequestPolicy
from ctxpress.config import PRESETS, Config
from ctxpress.results import CompressedDocuments

from .logs import AccessLog
from .metrics import Metrics
from .routes import RouteTable
from .settings import ProxySettings
from .switch import SwitchWatcher
from .tenants import TenantDirectory
from .upstream import UpstreamPool
from .vllm import ParallelDocuments

__all__ = ["Compressor", "Runtime", "Watched"]


class Compressor(Protocol):
    """What the proxy asks of ``ctxpress.compressor.RequestCompressor``."""

    async def compress_body(
        self, format_name: str, raw: bytes, policy: RequestPolicy
    ) -> CompressedBody:
        """Compress a request body of an endpoint."""

    async def compress_messages(
        self, messages: list[dict[str, Any]], model: str | None, policy: RequestPolicy
    ) -> CompressedMessages:
        """Compress a list of messages; as many come back."""

    async def compress_documents(
        self, question: str | None, documents: Sequence[Mapping[str, Any]], policy: RequestPolicy
    ) -> CompressedDocuments:
        """Compress retrieved documents (``id``, ``title``, ``text``, ``score``) for a question."""

    async def ping(self) -> None:
        """Ask the store whether it is there; raises ``StoreError``."""

    async def aclose(self) -> None:
        """Release threads and the store."""


class Watched(Protocol):
    """A request being served."""

    def watch(self, now: float) -> None:
        """Look out for a client that leaves, where that is worth it at ``perf_counter`` now."""


@dataclass(slots=True, kw_only=True)
class Runtime:
    """Built when the app starts. ``instance`` marks requests that passed through this process."""

    config: Config
    settings: ProxySettings
    compressor: Compressor
    tenants: TenantDirectory
    pool: UpstreamPool
    parallel: Mapping[str, ParallelDocuments]
    routes: RouteTable
    switch: SwitchWatcher
    metrics: Metrics
    pipelines: frozenset[str]
    in_flight: set[Watched] = field(default_factory=set)
    websockets: int = 0
    access: AccessLog = field(default_factory=AccessLog)
    instance: str = field(default_factory=lambda: secrets.token_hex(8))
    draining: bool = False
    warned: set[str] = field(default_factory=set)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @classmethod
    def build(cls, config: Config, settings: ProxySettings, compressor: Compressor) -> Runtime:
        """Put together what ``config`` says.

        :raises ConfigError: there is no upstream, or the tokenizer of one cannot be read.
        """
        metrics = Metrics(lambda: len(runtime.in_flight) + runtime.websockets)
        pool = UpstreamPool(config, settings)
        runtime = cls(
            config=config,
            settings=settings,
            compressor=compressor,
            tenants=TenantDirectory(config, settings.secret),
            pool=pool,
            parallel={
                name: ParallelDocuments(pool.upstreams[name], value.parallel, pool, metrics)
                for name, value in config.upstreams.items()
                if value.parallel is not None
            },
            routes=RouteTable(),
            switch=SwitchWatcher(settings.state_dir),
            metrics=metrics,
            pipelines=frozenset({*config.pipelines, *PRESETS}),
        )
        return runtime

    def next_request_id(self) -> str:
        """An id that no other request of any replica has."""
        return f"{self.instance}-{next(self._numbers):x}"
