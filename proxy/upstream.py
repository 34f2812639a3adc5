"""The connections to the backends: one pool, no limits of its own, nothing interpreted."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from ctxpress.config import Config, UpstreamConfig
from ctxpress.errors import UpstreamError

from .replicas import Replicas
from .settings import ProxySettings

__all__ = [
    "BrokenOffError",
    "TimedOutError",
    "UnreachableError",
    "Upstream",
    "UpstreamPool",
    "join_url",
]

_VERSION = re.compile(r"v\d[\w.]*", re.ASCII)
# First segments of the providers' endpoints: only before these a missing /v1 is put back.
_ENDPOINTS = frozenset(
    "assistants audio batches chat completions embeddings files fine_tuning images messages models "
    "moderations organizations realtime rerank responses threads uploads vector_stores".split()
)
_MAX_HEADER_BYTES = 256 * 1024
_NO_AUTO_HEADERS = CIMultiDict[None]({"Content-Type": None})  # nor where a body goes out
_BACKOFF_S = 0.05
_LARGE_BYTES = 512 * 1024
_MAX_CACHED_URLS = 1024

Data = bytes | Callable[[], AsyncIterator[bytes]] | None


class UnreachableError(UpstreamError):
    """No connection could be made; no byte of the request was accepted."""


class BrokenOffError(UpstreamError):
    """The connection ended after the request was begun and before an answer began."""


class TimedOutError(UpstreamError):
    """The backend was silent for longer than its ``read_timeout_ms``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A backend as requests need it, or several equal ones."""

    name: str
    kind: Literal["openai", "anthropic", "worker", "vllm"]
    replicas: Replicas
    credential: str | None
    proxy: str | None
    timeout: aiohttp.ClientTimeout
    max_retries: int
    fallback: str | None = None
    fallback_model: str | None = None

    @classmethod
    def of(cls, name: str, config: UpstreamConfig, settings: ProxySettings) -> Upstream:
        """Build one from its configuration."""
        read_ms = config.read_timeout_ms
        return cls(
            name=name,
            kind=config.kind,
            replicas=Replicas(config.urls, spread=config.kind == "vllm"),
            credential=settings.credentials.get(name),
            proxy=settings.outbound.get(name),
            timeout=aiohttp.ClientTimeout(
                total=None,  # a long stream is not a slow one
                sock_connect=config.connect_timeout_ms / 1000,
                sock_read=None if read_ms is None else read_ms / 1000,
            ),
            max_retries=config.max_retries,
            fallback=config.fallback,
            fallback_model=config.fallback_model,
        )


class PlainRequest(aiohttp.ClientRequest):
    """A request with the headers that it is given, the right ``Host``, and no others."""

    def update_headers(self, headers: Any) -> None:
        """Take the headers as they are, in order and with duplicates."""
        self.headers = CIMultiDict(Host=self.url.host_port_subcomponent or "")
        self.headers.extend(headers)

    def update_auto_headers(self, skip_auto_headers: Any) -> None:
        """Add nothing: what the client did not send, the upstream does not get."""
        self._skip_auto_headers = _NO_AUTO_HEADERS


class UpstreamPool:
    """All backends of a configuration. Open it inside a running loop, close it there."""

    def __init__(self, config: Config, settings: ProxySettings) -> None:
        self.upstreams: Mapping[str, Upstream] = {
            name: Upstream.of(name, value, settings) for name, value in config.upstreams.items()
        }
        self._urls: dict[tuple[str, bytes, bytes], URL] = {}
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The open session."""
        if self._session is None:
            raise RuntimeError("the pool is not open")
        return self._session

    async def open(self) -> None:
        """Make the session. It reads no environment: outbound proxies come with the settings."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the default of 100 would queue requests
            cookie_jar=aiohttp.DummyCookieJar(),  # cookies belong to clients, not to the proxy
            request_class=PlainRequest,
            auto_decompress=False,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            trust_env=False,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    def url(self, base: str, raw_path: bytes, query: bytes) -> URL:
        """The URL of a client's path at ``base``; percent-encodings stay as they are."""
        key = (base, raw_path, query)
        url = self._urls.get(key)
        if url is None:
            if len(self._urls) >= _MAX_CACHED_URLS:
                self._urls.clear()
            text = join_url(base, raw_path.decode("latin-1"))
            if query:
                text += "?" + query.decode("latin-1")
            url = self._urls[key] = URL(text, encoded=True)
        return url

    async def request(
        self, upstream: Upstream, method: str, url: URL, headers: list[tuple[str, str]], data: Data
    ) -> aiohttp.ClientResponse:
        """Send a request and wait for the head of its answer.

        Only a refused or unresolvable connection is tried again: no byte was accepted then.

        :raises UnreachableError: no connection after all tries.
        :raises BrokenOffError: the backend broke off before it answered.
        :raises TimedOutError: it was silent for too long.
        """
        session = self.session
        tries = 0
        while True:
            try:
                return await session.request(
                    method,
                    url,
                    headers=headers,
                    data=_payload(data),
                    allow_redirects=False,
                    timeout=upstream.timeout,
                    proxy=upstream.proxy,
                )
            except aiohttp.ClientConnectorError as error:
                if tries >= upstream.max_retries or isinstance(error, aiohttp.ClientSSLError):
                    raise UnreachableError(_describe(url, error)) from error
            except aiohttp.ConnectionTimeoutError as error:
                raise UnreachableError(f"{_host(url)}: no connection in time") from error
            except TimeoutError as error:
                raise TimedOutError(f"{_host(url)} was silent for too long") from error
            except (aiohttp.ClientError, OSError) as error:
                raise BrokenOffError(f"{_host(url)} broke off before it answered") from error
            await asyncio.sleep(_BACKOFF_S * 2**tries)
            tries += 1


def _payload(data: Data) -> Any:
    """A fresh body for one try; large ones in a form that is written piece by piece."""
    if data is None:
        return None
    if callable(data):
        return data()
    return io.BytesIO(data) if len(data) > _LARGE_BYTES else aiohttp.BytesPayload(data)


def join_url(base: str, path: str) -> str:
    """``base`` and a client's path, with the version segment exactly once.

    Clients are configured with or without ``/v1``, and so are upstreams.
    """
    prefix = base.partition("://")[2].partition("/")[2].split("/")
    version = next((segment for segment in prefix if _VERSION.fullmatch(segment)), None)
    first, slash, rest = path.removeprefix("/").partition("/")
    if version is not None and first in ("v1", version):
        return f"{base}{slash}{rest}"
    if version is None and first in _ENDPOINTS:
        return f"{base}/v1{path}"
    return base + path


def _host(url: URL) -> str:
    return f"{url.scheme}://{url.authority}"


def _describe(url: URL, error: aiohttp.ClientConnectorError) -> str:
    cause = error.os_error
    reason = cause.strerror or type(cause).__name__
    return f"{_host(url)}: {reason}"
