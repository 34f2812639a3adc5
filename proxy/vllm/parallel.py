"""From a request with references to one whose documents vLLM loads, each read by itself.

With S = 1/T, Adaptive Parallel Encoding (arXiv 2502.05431) needs nothing of attention but other
positions and scaled keys, both of which a connector gives the KV that it loads; ``docs/vllm.md``.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from ctxpress.config import ParallelConfig
from ctxpress.errors import ConfigError, ModelError, UpstreamError
from ctxpress.formats.references import References
from ctxpress.prompt_pieces import PromptPieces
from ctxpress.tokenizer_folder import TokenizerFolder

from ..headers import HOP_HEADER
from ..metrics import Metrics
from ..upstream import Upstream, UpstreamPool
from .answers import ChatAnswer
from .cards import ModelCards
from .encoding import DocumentEncoder, document_keys
from .reasons import NotParallelError, PlainPath
from .requests import ReferencedRequest, read_request
from .tokens import PieceCache, RequestTokenizer

if TYPE_CHECKING:
    from ctxpress.integrations.vllm.prompt import VllmPrompt

__all__ = ["ParallelDocuments", "ParallelRequest"]

Headers = list[tuple[str, str]]

_INLINE_BYTES = 4096
_ASK_TIMEOUT_S = 60.0
_KEPT_HEADERS = frozenset({"authorization", "x-api-key", "api-key", HOP_HEADER})
_CACHED = re.compile(rb'"cached_tokens":\s*(\d+)')
_TAIL_BYTES = 4096


@dataclass(slots=True)
class ParallelRequest:
    """What goes to ``/v1/completions``, and what is to be done with its answer.

    ``answer`` gives the answer to a chat its shape, and is None for completions. ``n_loaded``:
    how many tokens are loaded where all documents are found; ``forget`` is called where the answer
    says that they were not.
    """

    body: bytes
    answer: ChatAnswer | None
    n_loaded: int
    forget: Callable[[], None]
    _tail: bytes = b""

    def whole(self, body: bytes) -> bytes:
        """What the client gets for a whole answer."""
        self._saw(body, last=True)
        return body if self.answer is None else self.answer.whole(body)

    def events(self, chunk: bytes, *, last: bool) -> bytes:
        """What the client gets for a piece of a stream of events."""
        self._saw(chunk, last=last)
        return chunk if self.answer is None else self.answer.events(chunk, last=last)

    def _saw(self, chunk: bytes, *, last: bool) -> None:
        """Where usage is at hand, it stands at the end of an answer."""
        self._tail = (self._tail + chunk)[-_TAIL_BYTES:]
        if last and (counts := _CACHED.findall(self._tail)) and int(counts[-1]) < self.n_loaded:
            self.forget()


@dataclass(frozen=True, slots=True)
class _Read:
    """A request, its pieces, the prompt made of them, and what names its documents."""

    request: ReferencedRequest
    pieces: PromptPieces
    prompt: VllmPrompt
    keys: Sequence[bytes]


class ParallelDocuments:
    """Parallel documents of one upstream. Used in one event loop."""

    def __init__(
        self, upstream: Upstream, config: ParallelConfig, pool: UpstreamPool, metrics: Metrics
    ) -> None:
        """Read the tokenizer.

        :raises ConfigError: the folder holds none.
        """
        from ctxpress.integrations.vllm.prompt import build_document_prompt, build_prompt

        self._build_prompt, self._build_document_prompt = build_prompt, build_document_prompt
        try:
            tokenizer = TokenizerFolder(Path(config.tokenizer))
        except ModelError as error:
            raise ConfigError(f"upstreams.{upstream.name}.parallel.tokenizer: {error}") from error
        self._cache = PieceCache(tokenizer)
        self._upstream, self._config, self._pool = upstream, config, pool
        self._cards = ModelCards()
        self._encoder = DocumentEncoder(config)
        self._metrics = metrics

    async def prepare(
        self, format_name: str, references: References | None, headers: Headers
    ) -> ParallelRequest:
        """The request with its documents encoded, ready to go.

        ``headers``: those with which the caller's request goes upstream.

        :raises NotParallelError: the plain path is to be taken.
        """
        if references is None:
            raise NotParallelError(PlainPath.NO_DOCUMENTS)
        if len(references.body) < _INLINE_BYTES:
            read = self._read(format_name, references.body)
        else:
            read = await asyncio.to_thread(self._read, format_name, references.body)
        request, pieces, keys = read.request, read.pieces, read.keys
        own = _own_headers(headers)
        card = await self._cards.of(request.model, partial(self._fetch_models, own))
        room = card.max_tokens - len(read.prompt.prompt_token_ids)
        if room < (request.max_tokens or 1):
            raise NotParallelError(PlainPath.TOO_LONG, f"{-room} tokens too many")
        encode = partial(self._encode, card.name, pieces.prefix, own)
        if not await self._encoder.ensure(pieces.documents, keys, encode):
            raise NotParallelError(PlainPath.NOT_ENCODED)
        body = {
            **request.fields,
            "max_tokens": room if request.max_tokens is None else request.max_tokens,
            **read.prompt.fields(),
        }
        answer = None
        if request.is_chat:
            answer = ChatAnswer(request.top_logprobs, self._cache.tokenizer.token_text)
        loaded = len(pieces.prefix) + sum(map(len, pieces.documents))
        forget = partial(self._encoder.forget, keys)
        return ParallelRequest(orjson.dumps(body), answer, loaded, forget)

    async def aclose(self) -> None:
        """Stop encoding."""
        await self._encoder.aclose()

    def _read(self, format_name: str, body: bytes) -> _Read:
        """All that takes time by the number of tokens; runs in any thread."""
        request = read_request(format_name, body)
        pieces = request.pieces(RequestTokenizer(self._cache, request.variables))
        if not pieces.documents:
            raise NotParallelError(PlainPath.NO_DOCUMENTS)
        keys = document_keys(request.model or "", pieces)
        return _Read(request, pieces, self._prompt(pieces), keys)

    def _prompt(self, pieces: PromptPieces) -> VllmPrompt:
        try:
            return self._build_prompt(
                pieces.prefix,
                pieces.documents,
                pieces.suffix,
                block_size=self._config.block_tokens,
                pad_token_id=self._cache.tokenizer.pad_id,
                temperature=self._config.temperature,
            )
        except ValueError as error:
            raise NotParallelError(PlainPath.PROMPT, str(error)) from error

    async def _encode(
        self, model: str, prefix: tuple[int, ...], headers: Headers, document: tuple[int, ...]
    ) -> bool:
        """Have one document encoded by the replica that its digest names."""
        prompt = self._build_document_prompt(
            prefix,
            document,
            block_size=self._config.block_tokens,
            pad_token_id=self._cache.tokenizer.pad_id,
        )
        body = {"model": model, "max_tokens": 1, "temperature": 0, **prompt.fields()}
        key = hashlib.sha256(array("I", document).tobytes()).hexdigest()
        bases = self._upstream.replicas.order([(key, 1)])
        value = await self._ask("POST", bases, b"/v1/completions", headers, orjson.dumps(body))
        outcome = "failed" if value is None else "done"
        self._metrics.kv_documents[self._upstream.name, outcome] += 1
        return value is not None

    async def _fetch_models(self, headers: Headers) -> Any:
        bases = self._upstream.replicas.order([])
        return await self._ask("GET", bases, b"/v1/models", headers, None)

    async def _ask(
        self, method: str, bases: Sequence[str], path: bytes, headers: Headers, data: bytes | None
    ) -> Any:
        """The JSON that the first of ``bases`` answers that can; None where none does."""
        replicas = self._upstream.replicas
        for base in bases:
            replicas.taken(base)
            try:
                async with asyncio.timeout(_ASK_TIMEOUT_S):
                    response = await self._pool.request(
                        self._upstream, method, self._pool.url(base, path, b""), headers, data
                    )
                    async with response:
                        content = await response.read()
            except UpstreamError:
                replicas.failed(base)
                continue
            except (aiohttp.ClientError, OSError, TimeoutError):
                continue
            finally:
                replicas.left(base)
            if response.status == 200:
                try:
                    return orjson.loads(content)
                except orjson.JSONDecodeError:
                    return None
        return None


def _own_headers(headers: Headers) -> Headers:
    """What a request of ours takes over from a caller's: who it is, and where it came through."""
    kept = [pair for pair in headers if pair[0].lower() in _KEPT_HEADERS]
    return [*kept, ("content-type", "application/json")]
