"""The real proxy on a free port of this machine, in a thread of this process, for the demo."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

from ctxpress.errors import CtxpressError, MissingDependencyError

if TYPE_CHECKING:
    from ctxpress.config import Config

__all__ = ["ProxyThread", "require_proxy"]

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0


def require_proxy() -> None:
    """Check that the proxy's dependencies are installed.

    :raises MissingDependencyError: with the command that installs them.
    """
    try:
        import aiohttp  # noqa: F401 - only whether they are there
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"the proxy needs the package {error.name!r}: pip install 'ctxpress[proxy]'"
        ) from error


class ProxyThread:
    """A running proxy; use it as a context manager."""

    def __init__(self, config: Config) -> None:
        require_proxy()
        import uvicorn
        from ctxpress_proxy import create_app

        self._socket = socket.create_server(("127.0.0.1", 0))
        self._server = uvicorn.Server(
            uvicorn.Config(create_app(config), log_level="warning", access_log=False, lifespan="on")
        )
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> ProxyThread:
        self._thread.start()
        until = time.monotonic() + START_TIMEOUT_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                raise CtxpressError("the demo's proxy did not start; its log says why")
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT_S)
        self._socket.close()
