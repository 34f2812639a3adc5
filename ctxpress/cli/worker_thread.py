"""A worker on a free port of this machine, in a thread of this process, for the demo."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from ctxpress.errors import CtxpressError

if TYPE_CHECKING:
    from ctxpress.engine.worker import Worker

__all__ = ["WorkerThread"]

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5


class WorkerThread:
    """A worker being served; use it as a context manager. It ends the worker, not its source."""

    def __init__(self, worker: Worker) -> None:
        import uvicorn

        from ctxpress.engine.server import WorkerApp

        self.worker = worker
        self._server = uvicorn.Server(
            uvicorn.Config(
                WorkerApp(worker),
                port=0,
                lifespan="on",
                log_config=None,
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=STOP_TIMEOUT_S,
            )
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> WorkerThread:
        self._thread.start()
        until = time.monotonic() + START_TIMEOUT_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                raise CtxpressError("the demo's worker did not start; the lines above say why")
            time.sleep(0.01)
        self._port = self._server.servers[0].sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop listening and end the worker; a second time does nothing."""
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT_S + 1)
        self.worker.close()
