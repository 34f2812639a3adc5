"""Requests to pieces of tokens: a prefix, documents, and what stands behind them.

Every piece is tokenised by itself, so that a document has the same tokens whatever stands beside
it. Documents stand where the text says ``{{ctxpress.documents}}``, else before the text of the
last user message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ctxpress.engine.api.errors import ApiError
from ctxpress.engine.api.requests import AnswerRequest, ChatMessage, RequestDocument
from ctxpress.engine.loading import RotaryModel

__all__ = ["DEFAULT_DOCUMENT_TEMPLATE", "DOCUMENTS_MARKER", "PromptPieces", "prompt_pieces"]

DOCUMENTS_MARKER = "{{ctxpress.documents}}"
DEFAULT_DOCUMENT_TEMPLATE = "Document: {title}\n{text}\n"
# What templates leave alone: they strip blanks and may act on words of markup, not on this.
_PLACE = "\u241fctxpress documents\u241f"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptPieces:
    """Token ids: ``prefix``, then each of ``documents``, then ``suffix``, which is never empty.

    ``titles``: one a document, empty where it has none; or none at all.
    """

    prefix: tuple[int, ...]
    documents: tuple[tuple[int, ...], ...]
    suffix: tuple[int, ...]
    titles: tuple[str, ...] = ()

    @property
    def n_tokens(self) -> int:
        return len(self.prefix) + sum(map(len, self.documents)) + len(self.suffix)


def prompt_pieces(
    model: RotaryModel,
    request: AnswerRequest,
    *,
    document_template: str = DEFAULT_DOCUMENT_TEMPLATE,
) -> PromptPieces:
    """The pieces of a request's prompt; without documents all of it is ``suffix``.

    Documents that have no tokens leave no piece.

    :raises ApiError: the model has no chat template, the template fails or loses the place of the
        documents, or nothing is left to answer.
    """
    if not request.is_chat and not isinstance(request.prompt, str):
        if request.documents:
            raise ApiError("documents need a prompt of text, not of token ids", param="prompt")
        _check_ids(model, request.prompt)
        return PromptPieces(prefix=(), documents=(), suffix=request.prompt)
    text = _chat_text(model, request) if request.is_chat else _completion_text(request)
    if not request.documents:
        return PromptPieces(prefix=(), documents=(), suffix=_some(_start(model, text, request)))
    parts = text.split(_PLACE)
    if len(parts) != 2:
        raise ApiError(
            f"the chat template leaves {len(parts) - 1} places for the documents, not one",
            param="messages",
        )
    documents = [
        (document.title, tuple(model.token_ids(document_text(document, document_template))))
        for document in request.documents
    ]
    return PromptPieces(
        prefix=_start(model, parts[0], request),
        documents=tuple(tokens for _, tokens in documents if tokens),
        titles=tuple(title for title, tokens in documents if tokens),
        suffix=_some(tuple(model.token_ids(parts[1]))),
    )


def document_text(document: RequestDocument, template: str) -> str:
    """A document as the model reads it: by the template, or as it is where it has no title.

    Empty where it has no text.
    """
    if not document.text.strip():
        return ""
    if not document.title:
        return document.text
    # Not str.format: a text may hold braces.
    return template.replace("{title}", document.title).replace("{text}", document.text)


def _start(model: RotaryModel, text: str, request: AnswerRequest) -> tuple[int, ...]:
    """The tokens of a text that begins the prompt; chat templates write their own first token."""
    ids = model.token_ids(text)
    if request.is_chat:
        return tuple(ids)
    framed = model.tokenizer("a")["input_ids"]
    n_leading = framed.index(model.token_ids("a")[0])
    return (*framed[:n_leading], *ids)


def _chat_text(model: RotaryModel, request: AnswerRequest) -> str:
    if not getattr(model.tokenizer, "chat_template", None):
        raise ApiError(f"{model.name} has no chat template; use /v1/completions", param="messages")
    messages = [{"role": m.role, "content": m.content} for m in _placed(request)]
    try:
        text: str = model.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # templates are programs; they raise what they like
        raise ApiError(f"the model's chat template refuses: {error}", param="messages") from None
    return text


def _placed(request: AnswerRequest) -> Sequence[ChatMessage]:
    """The messages with the place of the documents marked in one of them."""
    messages = list(request.messages)
    if not request.documents:
        return messages
    marked = [i for i, message in enumerate(messages) if DOCUMENTS_MARKER in message.content]
    if marked:
        index = marked[0]
        content = messages[index].content.replace(DOCUMENTS_MARKER, _PLACE, 1)
        if len(marked) > 1 or DOCUMENTS_MARKER in content:
            raise ApiError(f"{DOCUMENTS_MARKER} stands in the messages twice", param="messages")
    else:
        users = [i for i, message in enumerate(messages) if message.role == "user"]
        if not users:
            raise ApiError("documents need a user message to stand before", param="messages")
        index = users[-1]
        content = _PLACE + messages[index].content
    messages[index] = ChatMessage(messages[index].role, content)
    return messages


def _completion_text(request: AnswerRequest) -> str:
    text = str(request.prompt)
    if not request.documents:
        return text
    if text.count(DOCUMENTS_MARKER) > 1:
        raise ApiError(f"{DOCUMENTS_MARKER} stands in the prompt twice", param="prompt")
    if DOCUMENTS_MARKER in text:
        return text.replace(DOCUMENTS_MARKER, _PLACE)
    return _PLACE + text


def _check_ids(model: RotaryModel, ids: Sequence[int]) -> None:
    size = model.model.get_input_embeddings().num_embeddings
    if max(ids) >= size:
        raise ApiError(
            f"prompt holds the token id {max(ids)}; {model.name} has {size} tokens", param="prompt"
        )


def _some(ids: tuple[int, ...]) -> tuple[int, ...]:
    if not ids:
        raise ApiError("the prompt has no tokens behind the documents to answer", param="messages")
    return ids
