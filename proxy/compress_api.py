"""``POST /v1/compress``: compression as a service, for other gateways and for RAG code.

``{"messages", "model"}`` is the contract of LiteLLM's ``headroom`` guardrail, so a LiteLLM proxy
can use ctxpress without a change; ``{"documents", "question"}`` compresses retrieved documents.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, get_args

import orjson

from ctxpress.compressor import RequestPolicy
from ctxpress.config import OBSERVED_PIPELINE
from ctxpress.errors import ConfigError, FormatError, StageError
from ctxpress.report import Report
from ctxpress.results import CompressedDocument

from .body import RequestBody
from .compress import log_once
from .endpoints import answer
from .errors import ClientGoneError, RefusedError
from .headers import RequestHead, read_head
from .options import read_options
from .record import CLIENT_GONE
from .runtime import Runtime
from .tenants import Mode, Tenant
from .types import Receive, Scope, Send

__all__ = ["compress_endpoint"]

LABEL = "compress"
MODES: tuple[Mode, ...] = get_args(Mode)
_DOCUMENT_FIELDS = frozenset({"id", "title", "text", "score"})


async def compress_endpoint(runtime: Runtime, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one call; errors come in OpenAI's shape."""
    started = time.perf_counter()
    name, status, report = "-", 200, None
    try:
        head = read_head(scope["headers"])
        tenant = runtime.tenants.identify(head)
        name = tenant.name
        value = await _read(runtime, head, receive)
        policy = _policy(runtime, tenant, head, value)
        answered, report = await _compress(runtime, value, policy)
        overhead_ms = (time.perf_counter() - started) * 1000
        own = [(b"x-ctxpress-overhead-ms", b"%.2f" % overhead_ms)]
        await answer(send, 200, answered | _figures(report), own)
    except RefusedError as refusal:
        status = refusal.status
        await answer(send, status, orjson.Fragment(refusal.body("openai")))
    except ClientGoneError:
        status = CLIENT_GONE
    except Exception as error:  # a fault of ours: the client gets JSON, the log no text
        log_once(runtime, "internal error", error)
        failed = RefusedError(500, "internal_error", "ctxpress failed; see its log")
        status = failed.status
        await answer(send, status, orjson.Fragment(failed.body("openai")))
    runtime.metrics.requests[name, LABEL, f"{status // 100}xx"] += 1
    if report is not None:
        runtime.metrics.report(name, report)


async def _read(runtime: Runtime, head: RequestHead, receive: Receive) -> dict[str, Any]:
    body = RequestBody(receive, head, runtime.config.max_compress_bytes)
    raw = await body.read(runtime.config.max_compress_bytes)
    try:
        value = orjson.loads(raw or b"")
    except orjson.JSONDecodeError as error:
        raise RefusedError(400, "invalid_json", f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise _invalid("the body is not a JSON object")
    return value


def _policy(
    runtime: Runtime, tenant: Tenant, head: RequestHead, value: Mapping[str, Any]
) -> RequestPolicy:
    """Who asks here wants compression, so a tenant in mode ``observe`` gets it too.

    Keys of ``config`` that other programs put there are passed over.
    """
    config = value.get("config")
    config = {} if config is None else config
    if not isinstance(config, dict):
        raise _invalid("config: an object is needed")
    own = dict(head.own or {})
    if config.get("pipeline") is not None:
        own.setdefault("x-ctxpress-pipeline", str(config["pipeline"]))
    if config.get("keep_ratio") is not None:
        own.setdefault("x-ctxpress-keep-ratio", str(config["keep_ratio"]))
    options = read_options(own, runtime.pipelines)
    model = value.get("model")
    target = tenant.target_for(model if isinstance(model, str) else None)
    mode, pipeline = target.switched(runtime.switch.state)
    wanted = config.get("mode")
    if mode != "off":
        mode = next((known for known in MODES if known == wanted), "on")
    return RequestPolicy(
        namespace=runtime.tenants.namespace(tenant, head),
        pipeline=options.pipeline or pipeline or OBSERVED_PIPELINE,
        mode=mode,
        keep_ratio=options.keep_ratio,
        bypass=options.bypass,
        asked=options.pipeline is not None,
    )


async def _compress(
    runtime: Runtime, value: Mapping[str, Any], policy: RequestPolicy
) -> tuple[dict[str, Any], Report]:
    try:
        if "documents" in value:
            return await _documents(runtime, value, policy)
        return await _messages(runtime, value, policy)
    except (FormatError, ConfigError) as error:
        raise _invalid(str(error)) from error
    except StageError as error:
        raise RefusedError(422, "stage_failed", f"a stage failed (strict): {error}") from error


async def _messages(
    runtime: Runtime, value: Mapping[str, Any], policy: RequestPolicy
) -> tuple[dict[str, Any], Report]:
    messages, model = value.get("messages"), value.get("model")
    if not isinstance(messages, list) or not all(isinstance(item, dict) for item in messages):
        raise _invalid("messages: a list of objects is needed (or documents and question)")
    if not isinstance(model, str | None):
        raise _invalid("model: a name is needed")
    done = await runtime.compressor.compress_messages(messages, model, policy)
    return {"messages": done.messages}, done.report


async def _documents(
    runtime: Runtime, value: Mapping[str, Any], policy: RequestPolicy
) -> tuple[dict[str, Any], Report]:
    question, given = value.get("question"), value["documents"]
    if not isinstance(question, str | None):
        raise _invalid("question: a string is needed")
    if not isinstance(given, list):
        raise _invalid("documents: a list of strings or of objects with text is needed")
    documents = [_document(item, number) for number, item in enumerate(given)]
    done = await runtime.compressor.compress_documents(question, documents, policy)
    return {
        "documents": [_printed(document) for document in done.documents],
        "citations": [asdict(citation) for citation in done.citations],
        "text": done.text,
    }, done.report


def _printed(document: CompressedDocument) -> dict[str, Any]:
    return {**asdict(document), "kept": [list(piece) for piece in document.kept]}


def _document(item: Any, number: int) -> dict[str, Any]:
    document = {"text": item} if isinstance(item, str) else item
    if not isinstance(document, dict) or not isinstance(document.get("text"), str):
        raise _invalid(f"documents[{number}]: a string, or an object with text, is needed")
    unknown = sorted(document.keys() - _DOCUMENT_FIELDS)
    if unknown:
        raise _invalid(f"documents[{number}]: unknown fields {unknown}")
    return document


def _figures(report: Report) -> dict[str, Any]:
    before, after = report.tokens_before, report.tokens_after
    return {
        "tokens_before": before,
        "tokens_after": after,
        "tokens_saved": report.tokens_saved,
        "compression_ratio": round(after / before, 4) if before else 1.0,
        "transforms_applied": [
            stage.stage for stage in report.stages if stage.tokens_out < stage.tokens_in
        ],
        "report": report.as_dict(),
    }


def _invalid(message: str) -> RefusedError:
    return RefusedError(400, "invalid_request", message)
