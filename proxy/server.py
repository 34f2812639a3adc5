"""Runs the proxy under uvicorn, and stops it without breaking answers."""

from __future__ import annotations

import gc
import logging
import socket
from types import FrameType

import uvicorn

from ctxpress.config import Config
from ctxpress.manager import PluginManager

from .app import ProxyApp, create_app
from .logs import configure_logging

__all__ = [
    "DrainingServer",
    "create_server",
    "run",
    "settle_garbage_collector",
    "start_up_notes",
]

logger = logging.getLogger("ctxpress_proxy")

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8787
DRAIN_S = 30  # how long running answers may take after SIGTERM
KEEP_ALIVE_S = 75
GC_THRESHOLD = 10_000
LOCAL_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


class DrainingServer(uvicorn.Server):
    """A uvicorn server that tells the app when it begins to stop."""

    def __init__(self, config: uvicorn.Config, app: ProxyApp) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM or SIGINT: take no new connections, finish what runs."""
        self._app.drain()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so in one line."""
        await super().startup(sockets=sockets)
        if self.started:
            config = self._app.config
            upstreams = ", ".join(f"{n} {' '.join(u.urls)}" for n, u in config.upstreams.items())
            logger.info(
                "ctxpress listens on http://%s:%d -> %s (auth: %s)",
                self.config.host,
                self.port,
                upstreams,
                config.auth,
            )

    @property
    def port(self) -> int:
        """The port in fact, also where 0 was asked for."""
        sockets = self.servers[0].sockets if self.started else ()
        return int(sockets[0].getsockname()[1]) if sockets else self.config.port


def create_server(
    app: ProxyApp, *, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT, drain_s: int = DRAIN_S
) -> DrainingServer:
    """The server of an app: uvloop, httptools, no headers of its own in answers."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=app.config.max_body_bytes,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # nothing here depends on the client's address
        server_header=False,  # `server` and `date` are the upstream's
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=drain_s,
    )
    return DrainingServer(config, app)


def start_up_notes(config: Config, host: str) -> list[str]:
    """What an operator should know before the first request."""
    notes = []
    if config.auth == "passthrough":
        if host not in LOCAL_HOSTS:
            notes.append(
                f"{host} is reachable by others, and all callers share the tenant 'default'; "
                "auth: keys separates them"
            )
        default = config.tenants.get("default")
        if default is None or default.mode == "observe":
            notes.append("observing: nothing is changed; enable with --pipeline balanced")
    for name, upstream in config.upstreams.items():
        if upstream.parallel is not None:
            notes.append(
                f"upstream {name}: documents are read in parallel, which approximates reading them "
                f"one behind the other; T = {upstream.parallel.temperature:g}"
            )
    return notes


def settle_garbage_collector() -> None:
    """For a process that only serves: what is loaded stays, and requests make little garbage.

    Reference counts free nearly all of it; the collector's passes in mid-request are what shows
    in the slowest percent.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)


def run(
    config: Config,
    *,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    drain_s: int = DRAIN_S,
    plugins: PluginManager | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; running answers get ``drain_s`` seconds to end.

    :raises CtxpressError: the app cannot start: the configuration names no upstream, a variable
        is not set, a model is damaged, …
    """
    configure_logging()
    for note in start_up_notes(config, host):
        logger.warning(note)
    settle_garbage_collector()
    app = create_app(config, plugins=plugins)
    try:
        create_server(app, host=host, port=port, drain_s=drain_s).run()
    except SystemExit:  # uvicorn's way to say that it did not start
        if app.failure is None:
            raise
        raise app.failure from None
