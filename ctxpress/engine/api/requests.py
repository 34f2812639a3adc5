"""Bodies of ``/v1/chat/completions`` and ``/v1/completions``, understood field by field.

What this worker cannot do is an error that names the field; nothing is ignored but what changes
no answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from ctxpress.engine.api.errors import ApiError
from ctxpress.engine.api.fields import Fields, parse_body
from ctxpress.engine.sampling import SamplingOptions
from ctxpress.errors import ConfigError

__all__ = [
    "AnswerRequest",
    "ChatMessage",
    "RequestDocument",
    "parse_chat",
    "parse_completion",
    "parse_documents",
]

_MOST_STOPS = 4  # as OpenAI's API
_MOST_DOCUMENTS = 2000
_COMMON = {
    "ctxpress", "frequency_penalty", "logit_bias", "max_tokens", "metadata", "model", "n",
    "presence_penalty", "prompt_cache_key", "safety_identifier", "seed", "service_tier", "stop",
    "store", "stream", "stream_options", "temperature", "top_k", "top_p", "user",
}  # fmt: skip
_CHAT = _COMMON | {"logprobs", "max_completion_tokens", "messages", "top_logprobs"}
_CHAT_UNSUPPORTED = {
    "audio", "function_call", "functions", "modalities", "parallel_tool_calls", "prediction",
    "reasoning_effort", "response_format", "tool_choice", "tools", "verbosity",
    "web_search_options",
}  # fmt: skip
_COMPLETION = _COMMON | {"logprobs", "prompt"}
_COMPLETION_UNSUPPORTED = {"best_of", "echo", "suffix"}


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message: role and text."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class RequestDocument:
    """A document that came with a request; ``sha256`` is that of its text."""

    title: str
    text: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRequest:
    """What a client asked for.

    ``messages`` of a chat, or ``prompt`` of a completion: a text or token ids. ``documents`` go
    where the prompt says ``{{ctxpress.documents}}``, else before the last user message.
    ``continue_from``: the answer has begun with this text; what is asked for comes behind it.
    """

    model: str
    messages: tuple[ChatMessage, ...] = ()
    prompt: str | tuple[int, ...] = ""
    documents: tuple[RequestDocument, ...] = ()
    question: str = ""
    continue_from: str = ""
    max_tokens: int | None = None
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    stop: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False
    logprobs: bool = False

    @property
    def is_chat(self) -> bool:
        return bool(self.messages)


def parse_chat(body: bytes) -> AnswerRequest:
    """The request in a body of ``/v1/chat/completions``.

    :raises ApiError: names the field at fault.
    """
    fields = parse_body(body)
    fields.require_known(_CHAT, _CHAT_UNSUPPORTED)
    messages = [_message(message) for message in fields.objects("messages")]
    if not messages:
        raise fields.error("messages", "must hold at least one message")
    logprobs = fields.get("logprobs", bool, False)
    top_logprobs = fields.optional("top_logprobs", int)
    if top_logprobs is not None and not logprobs:
        raise fields.error("top_logprobs", "needs logprobs to be true")
    limit = fields.optional("max_completion_tokens", int)
    return _request(
        fields,
        messages=tuple(messages),
        limit=fields.optional("max_tokens", int) if limit is None else limit,
        logprobs=logprobs,
        top_logprobs=(top_logprobs or 0) if logprobs else None,
    )


def parse_completion(body: bytes) -> AnswerRequest:
    """The request in a body of ``/v1/completions``.

    :raises ApiError: names the field at fault.
    """
    fields = parse_body(body)
    fields.require_known(_COMPLETION, _COMPLETION_UNSUPPORTED)
    logprobs = fields.optional("logprobs", int)
    return _request(
        fields,
        prompt=_prompt(fields),
        limit=fields.get("max_tokens", int, 16),
        logprobs=logprobs is not None,
        top_logprobs=logprobs,
    )


def parse_documents(fields: Fields) -> tuple[RequestDocument, ...]:
    """The documents in an object's list ``documents``.

    :raises ApiError: one is no document, or is not the one that its digest names.
    """
    rows = fields.objects("documents")
    if len(rows) > _MOST_DOCUMENTS:
        raise fields.error("documents", f"holds {len(rows)}; {_MOST_DOCUMENTS} are allowed")
    found = []
    for row in rows:
        row.require_known({"id", "score", "sha256", "text", "title"})
        text = row.required("text", str)
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        if row.get("sha256", str, digest) != digest:
            raise row.error("sha256", "is not that of the document's text")
        found.append(RequestDocument(row.get("title", str, ""), text, digest))
    return tuple(found)


def _request(
    fields: Fields,
    *,
    limit: int | None,
    logprobs: bool,
    top_logprobs: int | None,
    messages: tuple[ChatMessage, ...] = (),
    prompt: str | tuple[int, ...] = "",
) -> AnswerRequest:
    if fields.get("n", int, 1) != 1:
        raise fields.error("n", "must be 1: this worker gives one answer a request")
    if limit is not None and limit < 1:
        raise fields.error("max_tokens", f"must be at least 1, not {limit}")
    stop = fields.texts("stop")
    if len(stop) > _MOST_STOPS or "" in stop:
        raise fields.error("stop", f"takes up to {_MOST_STOPS} texts that are not empty")
    options = fields.object("stream_options")
    options.require_known({"include_obfuscation", "include_usage"})
    own = fields.object("ctxpress")
    own.require_known({"continue_from", "documents", "question"})
    return AnswerRequest(
        model=fields.get("model", str, ""),
        messages=messages,
        prompt=prompt,
        documents=parse_documents(own),
        question=own.get("question", str, ""),
        continue_from=own.get("continue_from", str, ""),
        max_tokens=limit,
        sampling=_sampling(fields, top_logprobs),
        stop=stop,
        stream=fields.get("stream", bool, False),
        include_usage=options.get("include_usage", bool, False),
        logprobs=logprobs,
    )


def _sampling(fields: Fields, top_logprobs: int | None) -> SamplingOptions:
    bias = {}
    for token, value in fields.get("logit_bias", dict, {}).items():
        if not (token.isascii() and token.isdecimal()) or type(value) not in (int, float):
            raise fields.error("logit_bias", "maps token ids to numbers")
        bias[int(token)] = float(value)
    try:
        return SamplingOptions(
            temperature=fields.get("temperature", float, 1.0),
            top_p=fields.get("top_p", float, 1.0),
            top_k=fields.get("top_k", int, 0),
            frequency_penalty=fields.get("frequency_penalty", float, 0.0),
            presence_penalty=fields.get("presence_penalty", float, 0.0),
            logit_bias=bias,
            seed=fields.optional("seed", int),
            top_logprobs=top_logprobs,
        )
    except ConfigError as error:
        raise ApiError(str(error), param=str(error).split(" ", 1)[0]) from None


def _message(fields: Fields) -> ChatMessage:
    role = fields.required("role", str)
    content = fields.raw("content")
    if isinstance(content, str):
        return ChatMessage(role, content)
    if content is None:
        raise fields.error("content", "is required: this worker runs no tools")
    texts = []
    for part in fields.objects("content"):
        if part.required("type", str) != "text":
            raise part.error("type", "must be 'text': this worker sees no images and hears nothing")
        texts.append(part.required("text", str))
    return ChatMessage(role, "".join(texts))


def _prompt(fields: Fields) -> str | tuple[int, ...]:
    prompt = fields.raw("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str) and prompt:
        return prompt
    if _are_ids(prompt):
        return tuple(prompt)
    raise fields.error("prompt", "must be one text or one list of token ids, and not empty")


def _are_ids(prompt: object) -> bool:
    return (
        isinstance(prompt, Sequence)
        and bool(prompt)
        and all(type(token) is int and token >= 0 for token in prompt)
    )
