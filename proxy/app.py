"""The ASGI application: its life, and which code serves a request."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from ctxpress.config import Config
from ctxpress.errors import StoreError
from ctxpress.manager import PluginManager

from .compress_api import compress_endpoint
from .endpoints import livez, metrics, readyz
from .forward import Exchange
from .routes import OWN_PATHS
from .runtime import Compressor, Runtime
from .settings import ProxySettings, load_settings
from .types import Receive, Scope, Send
from .websocket import proxy_websocket

__all__ = ["ProxyApp", "create_app"]

logger = logging.getLogger("ctxpress_proxy")

SWEEP_S = 0.25


class ProxyApp:
    """Holds a configuration; all else is made when the server starts it.

    ``failure`` is why it could not start. A request's state lives in an ``Exchange`` of its own.
    """

    def __init__(
        self,
        config: Config,
        compressor: Compressor | None = None,
        settings: ProxySettings | None = None,
        plugins: PluginManager | None = None,
    ) -> None:
        self.config = config
        self.failure: Exception | None = None
        self._plugins = plugins
        self._compressor = compressor
        self._settings = settings
        self._runtime: Runtime | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def runtime(self) -> Runtime:
        """What requests share, between start and stop."""
        if self._runtime is None:
            raise RuntimeError("the app has not been started: run it with lifespan on")
        return self._runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of the ASGI server."""
        kind = scope["type"]
        if kind == "http":
            path = scope["path"]
            if path in OWN_PATHS and await self._own(path, scope, receive, send):
                return
            runtime = self.runtime
            await Exchange(runtime, runtime.routes.of(path), scope, receive, send).run()
        elif kind == "websocket":
            await proxy_websocket(self.runtime, scope, receive, send)
        elif kind == "lifespan":
            await self._lifespan(receive, send)

    def drain(self) -> None:
        """From now on ``/readyz`` says that the proxy is shutting down."""
        if self._runtime is not None:
            self._runtime.draining = True

    async def start(self) -> None:
        """Build what requests share.

        :raises CtxpressError: the configuration or the environment is wrong.
        """
        settings = self._settings or load_settings(self.config)
        compressor = self._compressor
        if compressor is None:
            from ctxpress.assembly import create_compressor

            compressor = create_compressor(self.config)
        runtime = Runtime.build(self.config, settings, compressor)
        await runtime.pool.open()
        try:
            await compressor.ping()  # opens the store, which takes longer than using it
        except StoreError as error:
            logger.warning("the store is away, so nothing is rewritten until it is back: %s", error)
        self._runtime = runtime
        self._tasks = [
            asyncio.create_task(_sweep(runtime)),
            asyncio.create_task(runtime.switch.run()),
        ]

    async def stop(self) -> None:
        """Close connections, and the compressor where it is the app's own."""
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if self._runtime is not None:
            self._runtime.access.flush()
            for documents in self._runtime.parallel.values():
                await documents.aclose()
            await self._runtime.pool.aclose()
            if self._compressor is None:
                await self._runtime.compressor.aclose()

    async def _own(self, path: str, scope: Scope, receive: Receive, send: Send) -> bool:
        method = scope["method"]
        if path == "/v1/compress":
            if method != "POST":
                return False
            await compress_endpoint(self.runtime, scope, receive, send)
        elif method not in ("GET", "HEAD"):
            return False
        elif path == "/livez":
            await livez(send)
        elif path == "/readyz":
            await readyz(self.runtime, send)
        else:
            await metrics(self.runtime, send)
        return True

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()  # lifespan.startup
        try:
            await self.start()
        except Exception as error:  # whatever it is, the server is to say it and stop
            self.failure = error
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()  # lifespan.shutdown
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})


def create_app(
    config: Config,
    compressor: Compressor | None = None,
    *,
    settings: ProxySettings | None = None,
    plugins: PluginManager | None = None,
) -> ProxyApp:
    """The proxy as an ASGI app with lifespan.

    Without ``compressor`` it builds the configuration's own when it starts and closes it when it
    stops; one that is given stays the caller's. ``settings`` default to the environment's,
    ``plugins`` to those that the configuration enables.
    """
    return ProxyApp(config, compressor, settings, plugins)


async def _sweep(runtime: Runtime) -> None:
    """Let requests that take a while look out for clients that leave; write the log."""
    while True:
        await asyncio.sleep(SWEEP_S)
        now = time.perf_counter()
        for exchange in list(runtime.in_flight):
            exchange.watch(now)
        runtime.access.flush()
