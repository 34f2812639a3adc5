"""A request body in, a shorter one out: formats, pipelines and reports put together.

The proxy and ``POST /v1/compress`` go through :class:`RequestCompressor`; the SDK uses the same
pipelines. Build one with ``create_compressor`` (module ``assembly``).
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ctxpress.aside import INLINE_SIZE, aside
from ctxpress.cache.key import Namespace
from ctxpress.document import ContextDocument
from ctxpress.errors import ConfigError, FormatError, StageError
from ctxpress.formats import ParsedRequest, parse, parse_messages, render, render_messages
from ctxpress.formats.options import ParseOptions
from ctxpress.formats.references import References, referenced
from ctxpress.hookspecs import Observer
from ctxpress.memo import content_digest
from ctxpress.nearest import did_you_mean
from ctxpress.passages import (
    DocumentLike,
    compressed_documents,
    read_documents,
    to_context,
)
from ctxpress.pipeline import Pipeline, PipelineResult, RunOptions
from ctxpress.report import Report
from ctxpress.results import CompressedDocuments
from ctxpress.services import Services
from ctxpress.stage import Skip, TokenCounter
from ctxpress.tokens import TokenCounters

__all__ = [
    "CompressedBody",
    "CompressedMessages",
    "PipelineEntry",
    "RequestCompressor",
    "RequestPolicy",
]

logger = logging.getLogger(__name__)

Message = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPolicy:
    """What to do with one request.

    ``namespace`` keys every store entry (law 7). ``asked`` says that the request itself named the
    pipeline; ``keep_ratio`` and ``question`` always come from the request.
    """

    namespace: Namespace
    pipeline: str | None
    mode: Literal["off", "observe", "on"] = "on"
    keep_ratio: float | None = None
    bypass: bool = False
    asked: bool = False
    question: str | None = None

    @property
    def variant(self) -> str:
        """The request's own wishes, as a name; empty where it has none."""
        wishes = (self.pipeline if self.asked else None, self.keep_ratio, self.question)
        return repr(wishes) if any(wish is not None for wish in wishes) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedBody:
    """What to forward, and the report about it.

    ``references`` is the same body for an upstream that holds KV, where the pipeline has a stage
    for that and documents were recognised.
    """

    body: bytes
    report: Report
    references: References | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedMessages:
    """A list of messages of the same length as the one given, and the report about it."""

    messages: list[Message]
    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineEntry:
    """A pipeline and how bodies are cut up for it."""

    pipeline: Pipeline
    options: ParseOptions


class RequestCompressor:
    """Holds the pipelines of one configuration; safe for concurrent requests."""

    def __init__(
        self,
        pipelines: Mapping[str, PipelineEntry],
        *,
        counters: TokenCounters,
        services: Services,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.pipelines = dict(pipelines)
        self._counters = counters
        self._services = services
        self._executor = services.executor
        self._observers = tuple(observers)

    async def compress_body(
        self, format_name: str, raw: bytes, policy: RequestPolicy
    ) -> CompressedBody:
        """Compress one request body.

        Never raises for anything in the body or for a failure of a stage, model or store: the
        body then comes back as it was (less our own ``ctxpress`` field) and the report says why.

        :raises FormatError: the ``ctxpress`` field itself is invalid (the caller's mistake).
        :raises StageError: a stage failed and the pipeline is ``strict``.
        :raises ConfigError: ``policy.pipeline`` names nothing.
        """
        started = time.monotonic()
        entry = self._entry(policy.pipeline)
        if policy.mode == "off" and b"ctxpress" not in raw:
            return CompressedBody(body=raw, report=_skipped(policy.pipeline, Skip.OFF))
        options = entry.options if entry else ParseOptions()
        try:
            parsed = await aside(self._executor, len(raw), lambda: parse(format_name, raw, options))
        except FormatError as error:
            if error.code is None:
                raise
            return CompressedBody(
                body=raw if error.body is None else error.body,
                report=_skipped(policy.pipeline, Skip(error.code), str(error)),
            )
        policy, entry = self._with_extension(policy, parsed)
        try:
            result = await self._run(parsed.document, entry, policy)
        except StageError:
            raise
        except Exception as error:
            # The error's own text stays out of the log: it may quote the prompt.
            logger.error("compression failed (%s); the body goes as it came", type(error).__name__)
            logger.debug("compression failed", exc_info=error)
            return CompressedBody(
                body=parsed.body, report=_skipped(policy.pipeline, Skip.STAGE_FAILED)
            )
        if isinstance(result, Report):
            return CompressedBody(body=parsed.body, report=result)
        body, report = parsed.body, result.report
        if report.applied:
            try:
                body = await aside(
                    self._executor, len(raw), lambda: render(parsed, result.document)
                )
            except FormatError as error:
                report = dataclasses.replace(
                    report,
                    applied=False,
                    tokens_after=report.tokens_before,
                    skipped=Skip(error.code or Skip.UNSUPPORTED_SHAPE),
                    reason=str(error),
                )
        references = None
        if entry is not None and entry.pipeline.references and policy.mode == "on":
            references = await aside(
                self._executor, len(body), lambda: _references(format_name, body, options)
            )
        report = dataclasses.replace(report, elapsed_ms=(time.monotonic() - started) * 1000)
        self._observe(report)
        return CompressedBody(body=body, report=report, references=references)

    async def compress_messages(
        self, messages: list[Message], model: str | None, policy: RequestPolicy
    ) -> CompressedMessages:
        """Compress a list of OpenAI or Anthropic messages; the input is not changed.

        :raises FormatError: ``messages`` is not a list of messages.
        :raises StageError: a stage failed and the pipeline is ``strict``.
        :raises ConfigError: ``policy.pipeline`` names nothing.
        """
        entry = self._entry(policy.pipeline)
        options = entry.options if entry else ParseOptions()
        size = INLINE_SIZE + 1  # unknown without a walk over the messages
        parsed = await aside(self._executor, size, lambda: parse_messages(messages, model, options))
        result = await self._run(parsed.document, entry, policy)
        if isinstance(result, Report):
            return CompressedMessages(messages=messages, report=result)
        self._observe(result.report)
        if not result.report.applied:
            return CompressedMessages(messages=messages, report=result.report)
        rendered = render_messages(parsed, result.document)
        return CompressedMessages(messages=rendered, report=result.report)

    async def compress_documents(
        self,
        question: str | None,
        documents: Sequence[DocumentLike],
        policy: RequestPolicy,
        *,
        target_tokens: int | None = None,
        model: str | None = None,
    ) -> CompressedDocuments:
        """Compress retrieved documents for a question; nothing of a conversation is remembered.

        ``target_tokens`` is a budget for all of them together, in tokens of ``model``.

        :raises ConfigError: a document of a wrong shape, or an unknown or missing pipeline.
        :raises StageError: a stage failed and the pipeline is ``strict``.
        """
        given = read_documents(documents)
        entry = self._entry(policy.pipeline)
        if entry is None:
            raise ConfigError("name a pipeline")
        parse_options = entry.options
        document = await aside(
            self._executor,
            sum(len(one.text) for one in given),
            lambda: to_context(given, question=question, model=model, options=parse_options),
        )
        wanted = RunOptions(
            keep_ratio=policy.keep_ratio,
            target_tokens=target_tokens,
            applied=policy.mode == "on",
        )
        return compressed_documents(given, await self.compress_document(document, policy, wanted))

    async def compress_document(
        self, document: ContextDocument, policy: RequestPolicy, options: RunOptions
    ) -> PipelineResult:
        """Run a pipeline over a document that the caller built, outside any conversation.

        Equal documents with equal questions, options and pipelines give equal results. What makes
        documents equal is all of their content: a caller may leave out digests, or protect other
        spans. The question is no part of them, but it decides what is kept of them.

        :raises StageError: a stage failed and the pipeline is ``strict``.
        :raises ConfigError: ``policy.pipeline`` names nothing, or is missing.
        """
        entry = self._entry(policy.pipeline)
        if entry is None:
            raise ConfigError("name a pipeline")
        size = sum(len(block.original) for block in document.blocks)
        content = await aside(self._executor, size, lambda: content_digest(document))
        pipeline = f"{entry.pipeline.name} {entry.pipeline.version} {options}"
        apart = f"{pipeline} {document.model!r} {document.questions!r}".encode() + content
        return await entry.pipeline.run(
            dataclasses.replace(document, seed=document.seed + apart),
            namespace=policy.namespace,
            counter=await self._counter(document.model),
            options=options,
        )

    async def ping(self) -> None:
        """Ask the store whether it is there.

        :raises StoreError: when it is not.
        """
        await self._services.store.ping()

    async def aclose(self) -> None:
        """Release the threads and the store."""
        await self._services.aclose()

    async def _run(
        self, document: ContextDocument, entry: PipelineEntry | None, policy: RequestPolicy
    ) -> PipelineResult | Report:
        """The pipeline's result, or only a report where it was not to run."""
        if policy.mode == "off" or entry is None:
            return _skipped(policy.pipeline, Skip.OFF)
        if policy.bypass:
            await entry.pipeline.remember_untouched(
                document, namespace=policy.namespace, code=Skip.BYPASS
            )
            return _skipped(policy.pipeline, Skip.BYPASS)
        return await entry.pipeline.run(
            document,
            namespace=policy.namespace,
            counter=await self._counter(document.model),
            options=RunOptions(
                keep_ratio=policy.keep_ratio, applied=policy.mode == "on", variant=policy.variant
            ),
        )

    async def _counter(self, model: str | None) -> TokenCounter:
        counter = self._counters.known(model)
        if counter is None:
            counter = await aside(
                self._executor, INLINE_SIZE + 1, lambda: self._counters.load(model)
            )
        return counter

    def _with_extension(
        self, policy: RequestPolicy, parsed: ParsedRequest
    ) -> tuple[RequestPolicy, PipelineEntry | None]:
        """The policy as the body's own ``ctxpress`` field changes it; headers win over it."""
        extension = parsed.extension
        if extension is not None:
            policy = dataclasses.replace(
                policy,
                pipeline=policy.pipeline if policy.asked else extension.pipeline or policy.pipeline,
                asked=policy.asked or extension.pipeline is not None,
                keep_ratio=policy.keep_ratio or extension.keep_ratio,
                bypass=policy.bypass or extension.bypass,
                question=extension.question,
            )
        try:
            return policy, self._entry(policy.pipeline)
        except ConfigError as error:
            raise FormatError(f"ctxpress.pipeline: {error}") from error

    def _entry(self, name: str | None) -> PipelineEntry | None:
        if name is None:
            return None
        entry = self.pipelines.get(name)
        if entry is None:
            raise ConfigError(f"no pipeline is called {name!r}{did_you_mean(name, self.pipelines)}")
        return entry

    def _observe(self, report: Report) -> None:
        for observer in self._observers:
            try:
                observer(report)
            except Exception:
                logger.exception("an observer failed")


def _references(format_name: str, body: bytes, options: ParseOptions) -> References | None:
    """The body that goes out, read once more: what stands in it now are its documents."""
    options = dataclasses.replace(options, all_turns=True)
    try:
        return referenced(format_name, body, parse(format_name, body, options).document.blocks)
    except FormatError:
        return None


def _skipped(pipeline: str | None, code: Skip, reason: str | None = None) -> Report:
    return Report(pipeline=pipeline, skipped=code, reason=reason or _REASONS.get(code))


_REASONS = {
    Skip.OFF: "compression is off for this tenant; set mode: on and name a pipeline",
    Skip.BYPASS: "the request asked to be left alone (x-ctxpress-bypass)",
    Skip.STAGE_FAILED: "compression failed as a whole; the log says where",
}
