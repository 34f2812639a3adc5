"""The real proxy on a free port of this machine, in a thread of this process, for the demo."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ctxpress.errors import CtxpressError, MissingDependencyError

if TYPE_CHECKING:
    from ctxpress.config import Config

__all__ = ["ProxyThread", "require_proxy"]

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5


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
    """A running proxy; use it as a context manager.

    Its state folder is a temporary one: the demo neither follows the user's switch nor leaves
    anything behind.
    """

    def __init__(self, config: Config) -> None:
        require_proxy()
        from ctxpress_proxy.app import create_app
        from ctxpress_proxy.server import create_server
        from ctxpress_proxy.settings import load_settings

        self._folder = tempfile.TemporaryDirectory(prefix="ctxpress-demo-")
        settings = load_settings(config, state_dir=Path(self._folder.name))
        self._server = create_server(
            create_app(config, settings=settings), port=0, drain_s=STOP_TIMEOUT_S
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.port}"

    def __enter__(self) -> ProxyThread:
        self._thread.start()
        until = time.monotonic() + START_TIMEOUT_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                raise CtxpressError("the demo's proxy did not start; the lines above say why")
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT_S + 1)
        self._folder.cleanup()
