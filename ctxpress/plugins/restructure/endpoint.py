"""One call to an OpenAI-compatible endpoint: bounded in time and size, silent about its contents.

Errors name the endpoint, the model, the status and the provider's short code; never the prompt, the
answer or the key, which providers like to repeat in their messages.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
import weakref
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import orjson

from ctxpress.document import is_unicode
from ctxpress.errors import ConfigError, DeadlineError, StageError

if TYPE_CHECKING:
    import httpx

__all__ = ["CompletionEndpoint"]

_VERSION_SEGMENT = re.compile(r"v\d[\w.]*", re.ASCII)
_CODE = re.compile(r"[A-Za-z][A-Za-z_]{0,63}")
_MAX_ANSWER_BYTES = 8 * 1024 * 1024
_MAX_ERROR_BYTES = 64 * 1024
_CONNECT_TIMEOUT_S = 10.0
_MAX_CONNECTIONS = 256
_IDLE_S = 30.0
_ADVICE = {
    401: "the API key was refused",
    403: "the API key may not use this model",
    404: "there is no such model or path; see base_url and model",
    408: "the endpoint gave up waiting",
    413: "the documents are too long for the endpoint",
    429: "the endpoint's rate limit or quota is used up",
}


class CompletionEndpoint:
    """Chat and text completions of one model, not streamed, at temperature 0.

    Each event loop has connections of its own, closed by `aclose` in that loop or by the loop's own
    end (`asyncio.run` shuts its asynchronous generators down). Safe for concurrent calls. The
    environment is not read: no proxies, no netrc.
    """

    def __init__(
        self, *, base_url: str, model: str, api_key: str | None, max_tokens: int, timeout_s: float
    ) -> None:
        """Connects to nothing. `base_url` may end in `/v1` or not.

        :raises ConfigError: an address, key or bound that cannot work; the key is not shown.
        """
        self._base = _base(base_url)
        self.label = f"{_shown(self._base)}, model {model}"
        if not model.strip() or not is_unicode(model):
            raise ConfigError("model: the name by which the endpoint knows a model is needed")
        self._model = model
        self._headers = {"content-type": "application/json", "accept-encoding": "identity"}
        key = (api_key or "").strip()
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(f"{self.label}: the API key holds blanks or other than ASCII")
        self._key = key
        if key:
            self._headers["authorization"] = f"Bearer {key}"
        if max_tokens < 1 or not timeout_s > 0:
            raise ConfigError(f"{self.label}: max_tokens and timeout_s must be above 0")
        self._max_tokens = max_tokens
        self._timeout_s = timeout_s
        self._limit_name = "max_tokens"
        self._with_temperature = True
        self._tls: ssl.SSLContext | None = None
        self._clients: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[httpx.AsyncClient, AsyncGenerator[None]]
        ] = weakref.WeakKeyDictionary()
        self._closed = False

    async def chat(self, messages: list[dict[str, str]], *, deadline_s: float) -> str:
        """The model's answer to messages; empty where it has nothing to say.

        :raises DeadlineError: `deadline_s`, a `time.monotonic` value, came first.
        :raises StageError: no connection, an error of the endpoint, an answer that is none or that
            was cut off at `max_tokens`.
        """
        choice = await self._choice("/chat/completions", {"messages": messages}, deadline_s)
        message = choice.get("message")
        if not isinstance(message, dict):
            raise self._malformed("its first choice has no message")
        if message.get("refusal"):
            raise StageError(f"{self.label}: the model refused")
        content = message.get("content")
        if isinstance(content, list):
            content = "".join(
                part["text"]
                for part in content
                if isinstance(part, dict) and isinstance(part.get("text"), str)
            )
        return self._text(content, "content")

    async def complete(self, prompt: str, *, deadline_s: float) -> str:
        """The model's continuation of a prompt. Raises as `chat` does."""
        choice = await self._choice("/completions", {"prompt": prompt}, deadline_s)
        return self._text(choice.get("text"), "text")

    async def aclose(self) -> None:
        """Close the connections of the running loop; those of other loops end with their loops."""
        self._closed = True
        _, lifetime = self._clients.pop(asyncio.get_running_loop(), (None, None))
        if lifetime is not None:
            await lifetime.aclose()

    async def _choice(
        self, path: str, question: Mapping[str, object], deadline_s: float
    ) -> dict[str, Any]:
        body = self._body(question)
        status, raw = await self._within(path, body, deadline_s)
        # Newer models take the limit by another name only, and no temperature but their own.
        while status == 400 and self._adapt(body, _error_of(raw)):
            body = self._body(question)
            status, raw = await self._within(path, body, deadline_s)
        if status != 200:
            raise self._refused(status, raw)
        try:
            answer = orjson.loads(raw)
        except orjson.JSONDecodeError:
            raise self._malformed("it is no JSON") from None
        if isinstance(answer, dict) and answer.get("error"):
            raise self._refused(status, raw)
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise self._malformed("it has no choices")
        choice: dict[str, Any] = choices[0]
        reason = choice.get("finish_reason")
        if reason == "length":
            raise StageError(
                f"{self.label}: the answer was cut off at max_tokens: {self._max_tokens}; raise it"
            )
        if reason == "content_filter":
            raise StageError(f"{self.label}: the endpoint's content filter held the answer back")
        return choice

    def _body(self, question: Mapping[str, object]) -> dict[str, object]:
        body = {"model": self._model, **question, self._limit_name: self._max_tokens}
        return body | ({"temperature": 0} if self._with_temperature else {})

    def _adapt(self, sent: Mapping[str, object], error: Mapping[str, object]) -> bool:
        """Rename or leave out what the endpoint says that the model does not take."""
        parameter = error.get("param")
        if parameter not in sent or parameter not in ("max_tokens", "temperature"):
            return False
        if parameter == "max_tokens":
            self._limit_name = "max_completion_tokens"
        else:
            self._with_temperature = False
        return True

    async def _within(
        self, path: str, body: Mapping[str, object], deadline_s: float
    ) -> tuple[int, bytes]:
        """One call within the time that is left, or `timeout_s`."""
        left_s = deadline_s - time.monotonic()
        if not left_s > 0:
            raise self._too_late()
        try:
            async with asyncio.timeout(min(left_s, self._timeout_s)):
                return await self._post(path, orjson.dumps(body))
        except TimeoutError:
            if left_s <= self._timeout_s:
                raise self._too_late() from None
            raise StageError(f"{self.label}: no answer within {self._timeout_s:g} s") from None

    async def _post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer."""
        import httpx

        try:
            client = await self._client()
            async with client.stream("POST", _joined(self._base, path), content=body) as got:
                most = _MAX_ANSWER_BYTES if got.status_code == 200 else _MAX_ERROR_BYTES
                parts: list[bytes] = []
                async for part in got.aiter_bytes():
                    parts.append(part)
                    if (most := most - len(part)) < 0:
                        break
                if most < 0 and got.status_code == 200:
                    raise self._malformed(f"it is longer than {_MAX_ANSWER_BYTES >> 20} MiB")
                return got.status_code, b"".join(parts)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise StageError(f"{self.label}: {_cause(error)}") from None

    async def _client(self) -> httpx.AsyncClient:
        if self._closed:
            raise StageError(f"{self.label}: closed")
        loop = asyncio.get_running_loop()
        held = self._clients.get(loop)
        if held is None:
            client = self._new_client()
            lifetime = _close_at_end(client)
            held = self._clients[loop] = (client, lifetime)
            await anext(lifetime)  # does not suspend; from here on the loop knows of it
        return held[0]

    def _new_client(self) -> httpx.AsyncClient:
        import httpx

        if self._tls is None:
            # Reading the certificates takes long, and without TLS nothing asks for them.
            with_tls = self._base.startswith("https:")
            self._tls = (
                httpx.create_ssl_context(trust_env=False)
                if with_tls
                else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            )
        return httpx.AsyncClient(
            headers=self._headers,
            verify=self._tls,
            timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S),
            limits=httpx.Limits(
                max_connections=_MAX_CONNECTIONS,
                max_keepalive_connections=_MAX_CONNECTIONS,
                keepalive_expiry=_IDLE_S,
            ),
            # Requests of different tenants must not meet in a session of the endpoint's.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            trust_env=False,
            follow_redirects=False,  # nobody else gets the key
        )

    def _text(self, content: object, name: str) -> str:
        if content is None:
            return ""
        if not isinstance(content, str):
            raise self._malformed(f"its {name} is no text")
        return content

    def _refused(self, status: int, raw: bytes) -> StageError:
        error = _error_of(raw)
        codes = [value for value in (error.get("type"), error.get("code")) if self._is_code(value)]
        named = f" ({', '.join(map(str, dict.fromkeys(codes)))})" if codes else ""
        advice = _ADVICE.get(status)
        if advice is None:
            advice = "the endpoint failed" if status >= 500 or status < 300 else "the call failed"
        return StageError(f"{self.label}: HTTP {status}{named}: {advice}")

    def _is_code(self, value: object) -> bool:
        """Whether this is a short name, as codes are, and no sentence that may quote something."""
        if not isinstance(value, str) or not _CODE.fullmatch(value):
            return False
        return not self._key or self._key not in value

    def _malformed(self, what: str) -> StageError:
        return StageError(f"{self.label}: the answer is not of the API's shape: {what}")

    def _too_late(self) -> DeadlineError:
        return DeadlineError(f"{self.label}: the time budget ran out before the model answered")


def _base(base_url: str) -> str:
    """The address with its version segment, without an endpoint's path."""
    try:
        parts = urlsplit(base_url.strip())
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if valid and parts.username is not None:
        raise ConfigError(
            "base_url: give the key as api_key, not in the address: addresses are logged"
        )
    if not valid:
        raise ConfigError("base_url: an address such as http://localhost:8000/v1 is needed")
    path = parts.path.rstrip("/")
    for ending in ("/chat/completions", "/completions"):
        path = path.removesuffix(ending)
    if not any(_VERSION_SEGMENT.fullmatch(segment) for segment in path.split("/")):
        path += "/v1"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def _joined(base: str, path: str) -> str:
    parts = urlsplit(base)
    return urlunsplit(parts._replace(path=parts.path + path))


def _shown(base: str) -> str:
    """The address without its query, which may hold secrets."""
    return urlunsplit(urlsplit(base)._replace(query=""))


def _error_of(raw: bytes) -> Mapping[str, object]:
    """The error object of an answer; empty where there is none."""
    answer: object = None
    with suppress(orjson.JSONDecodeError):
        answer = orjson.loads(raw)
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if not isinstance(answer, dict):
        return {}
    error = answer.get("error", answer)
    return error if isinstance(error, dict) else {}


def _cause(error: Exception) -> str:
    import httpx

    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {_CONNECT_TIMEOUT_S:g} s"
    if isinstance(error, httpx.ConnectError):
        return "cannot be reached"
    if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError):
        return "broke off before it had answered"
    return f"the call failed ({type(error).__name__})"


async def _close_at_end(client: httpx.AsyncClient) -> AsyncGenerator[None]:
    """Closes `client` when it is closed itself, at the latest when its loop ends."""
    try:
        yield
    finally:
        await client.aclose()
