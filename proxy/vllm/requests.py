"""Requests with references to documents as ``/v1/completions`` of vLLM takes them.

A field that is not known here to mean the same to both of vLLM's APIs sends a request down the
plain path: nothing that a client asked for is ever dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from ctxpress.prompt_pieces import (
    PieceTokenizer,
    PromptError,
    PromptPieces,
    chat_pieces,
    completion_pieces,
)

from .reasons import NotParallelError, PlainPath

__all__ = ["ReferencedRequest", "read_request"]

# They mean the same in both APIs.
_SAME = frozenset(
    "allowed_token_ids bad_words frequency_penalty ignore_eos include_stop_str_in_output "
    "logit_bias min_p min_tokens model n presence_penalty priority repetition_detection "
    "repetition_penalty request_id response_format seed session_id skip_special_tokens "
    "spaces_between_special_tokens stop stop_token_ids stream stream_interval stream_options "
    "structured_outputs temperature top_k top_p user vllm_xargs".split()
)
# vLLM ignores them in a chat.
_IGNORED = frozenset(
    "metadata prompt_cache_key prompt_cache_retention safety_identifier service_tier store".split()
)
_TOOLS = frozenset("function_call functions parallel_tool_calls tool_choice tools".split())
# What a template is given anyway, or what would choose another template.
_RESERVED = frozenset(
    "add_generation_prompt chat_template continue_final_message conversation conversations "
    "documents max_length messages padding return_assistant_tokens_mask return_dict return_tensors "
    "tokenize tokenizer_kwargs tools truncation".split()
)
# What changes nothing, since it is what holds without it.
_DEFAULTS: dict[str, Any] = {
    "add_generation_prompt": True, "add_special_tokens": False, "continue_final_message": False,
    "echo": False, "include_reasoning": True, "use_beam_search": False,
}  # fmt: skip
_NO_TOOLS: dict[str, Any] = {"tools": [], "tool_choice": "none", "parallel_tool_calls": True}
_CHAT = {
    "chat_template_kwargs", "ctxpress", "logprobs", "max_completion_tokens", "max_tokens",
    "messages", "top_logprobs",
}  # fmt: skip
_COMPLETION_PLAIN = frozenset(
    "cache_salt echo ec_transfer_params kv_transfer_params prompt_embeds prompt_logprobs suffix "
    "truncate_prompt_tokens use_beam_search".split()
)
_ROLES = ("system", "developer", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Document:
    """A document as a reference has it; its title, if any, is part of its text."""

    text: str
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferencedRequest:
    """A request that can go on as a completion.

    ``fields``: its body without prompt and ``max_tokens``. ``max_tokens``: None where the rest of
    the window is meant. ``messages`` of a chat, or ``prompt``. ``variables`` are for the chat
    template. ``top_logprobs``: how many a chat asked for at each token, None for no
    log-probabilities.
    """

    fields: Mapping[str, Any]
    model: str | None
    max_tokens: int | None
    documents: tuple[Document, ...]
    messages: tuple[Mapping[str, str], ...] = ()
    prompt: str = ""
    variables: Mapping[str, Any] = field(default_factory=dict)
    top_logprobs: int | None = None

    @property
    def is_chat(self) -> bool:
        return bool(self.messages)

    def pieces(self, tokenizer: PieceTokenizer) -> PromptPieces:
        """Its prompt as tokens.

        :raises NotParallelError: the chat template refuses, or there is none.
        """
        try:
            if self.is_chat:
                return chat_pieces(tokenizer, self.messages, self.documents)
            return completion_pieces(tokenizer, self.prompt, self.documents)
        except PromptError as error:
            raise NotParallelError(PlainPath.PROMPT, str(error)) from error


def read_request(format_name: str, body: bytes) -> ReferencedRequest:
    """The request in a body whose documents are references.

    :raises NotParallelError: it asks for what only the plain path gives.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotParallelError(PlainPath.FIELD, "not JSON") from error
    documents = tuple(Document(row["text"]) for row in value["ctxpress"]["documents"])
    given = {name: item for name, item in value.items() if item is not None}
    if format_name == "openai_chat":
        return _chat(given, documents)
    return _completion(given, documents)


def _chat(given: Mapping[str, Any], documents: tuple[Document, ...]) -> ReferencedRequest:
    for name, item in given.items():
        if name in _TOOLS and item != _NO_TOOLS.get(name, ...):
            raise NotParallelError(PlainPath.TOOLS, f"{name} needs the chat API")
        known = name in _SAME or name in _IGNORED or name in _CHAT or name in _TOOLS
        if not known and item != _DEFAULTS.get(name, ...):
            raise NotParallelError(PlainPath.FIELD, f"{name} needs the chat API")
    fields = {name: item for name, item in given.items() if name in _SAME}
    top: int | None = None
    if given.get("logprobs"):
        top = _whole(given.get("top_logprobs", 0), "top_logprobs")
        # Tokens by their ids: two with the same text would else become one.
        fields |= {"logprobs": top, "return_tokens_as_token_ids": True}
    elif given.get("top_logprobs"):
        raise NotParallelError(PlainPath.FIELD, "top_logprobs without logprobs")
    variables = given.get("chat_template_kwargs", {})
    if not isinstance(variables, dict) or variables.keys() & _RESERVED:
        raise NotParallelError(PlainPath.FIELD, "chat_template_kwargs names what is not its own")
    limit = given.get("max_completion_tokens", given.get("max_tokens"))
    messages = given.get("messages")
    if not isinstance(messages, list) or not messages:
        raise NotParallelError(PlainPath.CONTENT, "messages must be a list")
    return ReferencedRequest(
        fields=fields,
        model=_text_or_none(given.get("model")),
        max_tokens=None if limit is None else _whole(limit, "max_tokens"),
        documents=documents,
        messages=tuple(map(_message, messages)),
        variables=variables,
        top_logprobs=top,
    )


def _completion(given: Mapping[str, Any], documents: tuple[Document, ...]) -> ReferencedRequest:
    """All but the prompt stays; an answer to it needs no new shape either."""
    for name in sorted(_COMPLETION_PLAIN & given.keys()):
        if given[name] not in (False, ""):
            raise NotParallelError(PlainPath.FIELD, f"{name} needs the prompt as it is")
    prompt = given.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise NotParallelError(PlainPath.CONTENT, "documents need one prompt of text")
    left = _COMPLETION_PLAIN | {"ctxpress", "prompt", "max_tokens", "add_special_tokens"}
    if not given.get("add_special_tokens", True):
        raise NotParallelError(PlainPath.FIELD, "add_special_tokens: false")
    return ReferencedRequest(
        fields={name: item for name, item in given.items() if name not in left},
        model=_text_or_none(given.get("model")),
        max_tokens=_whole(given.get("max_tokens", 16), "max_tokens"),
        documents=documents,
        prompt=prompt,
    )


def _message(message: Any) -> Mapping[str, str]:
    if not isinstance(message, dict):
        raise NotParallelError(PlainPath.CONTENT, "a message is no object")
    given = {name: item for name, item in message.items() if item not in (None, [])}
    role, content = given.pop("role", None), given.pop("content", None)
    if given.keys() & {"tool_calls", "tool_call_id", "function_call"} or role == "tool":
        raise NotParallelError(PlainPath.TOOLS, "a message belongs to a tool call")
    if isinstance(content, list) and len(content) == 1:
        part = content[0]
        if isinstance(part, dict) and part.keys() == {"type", "text"} and part["type"] == "text":
            content = part["text"]
    if role not in _ROLES or not isinstance(content, str):
        raise NotParallelError(PlainPath.CONTENT, "a message is not one text")
    found = {"role": str(role), "content": content}
    if isinstance(name := given.pop("name", None), str):
        found["name"] = name
    if given:
        raise NotParallelError(PlainPath.CONTENT, f"a message has the field {min(given)}")
    return found


def _whole(value: Any, name: str) -> int:
    if type(value) is not int:
        raise NotParallelError(PlainPath.FIELD, f"{name} is no whole number")
    return value


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None
