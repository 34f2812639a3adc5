"""Prompts as pieces of tokens: what stands before the documents, each document, and the rest.

Every piece is tokenised by itself, so that a document has the same tokens whatever stands beside
it. Documents stand where the text says ``{{ctxpress.documents}}``, else before the text of the
last user message. The worker and the proxy cut prompts up alike, and need no torch for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ctxpress.errors import CtxpressError

__all__ = [
    "DEFAULT_DOCUMENT_TEMPLATE",
    "DOCUMENTS_MARKER",
    "PieceDocument",
    "PieceTokenizer",
    "PromptError",
    "PromptPieces",
    "chat_pieces",
    "completion_pieces",
    "document_text",
]

DOCUMENTS_MARKER = "{{ctxpress.documents}}"
DEFAULT_DOCUMENT_TEMPLATE = "Document: {title}\n{text}\n"
# What templates leave alone: they strip blanks and may act on words of markup, not on this.
_PLACE = "\u241fctxpress documents\u241f"

Message = Mapping[str, str]


class PromptError(CtxpressError):
    """A prompt that cannot be cut up; ``param`` names the field of the request at fault."""

    def __init__(self, message: str, *, param: str) -> None:
        super().__init__(message)
        self.param = param


class PieceTokenizer(Protocol):
    """What cutting needs of a model's tokenizer."""

    @property
    def name(self) -> str:
        """The model's, for errors."""

    @property
    def leading_ids(self) -> Sequence[int]:
        """What it puts in front of every text that is a whole prompt."""

    def token_ids(self, text: str) -> Sequence[int]:
        """The tokens of a piece of text, without any that frame whole texts."""

    def chat_text(self, messages: Sequence[Message]) -> str:
        """Messages (``role`` and ``content``) by the chat template, with the answer begun.

        :raises PromptError: there is no template, or it refuses the messages.
        """


class PieceDocument(Protocol):
    """A document: its title, which may be empty, and its text."""

    @property
    def title(self) -> str: ...

    @property
    def text(self) -> str: ...


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


def chat_pieces(
    tokenizer: PieceTokenizer,
    messages: Sequence[Message],
    documents: Sequence[PieceDocument] = (),
    *,
    document_template: str = DEFAULT_DOCUMENT_TEMPLATE,
) -> PromptPieces:
    """The pieces of a chat's prompt; without documents all of it is ``suffix``.

    Documents that have no tokens leave no piece.

    :raises PromptError: the tokenizer has no chat template, the template fails or loses the place
        of the documents, or nothing is left to answer.
    """
    text = tokenizer.chat_text(_placed(messages) if documents else messages)
    # Chat templates write their own first token.
    return _pieces(tokenizer, text, documents, document_template, leading=())


def completion_pieces(
    tokenizer: PieceTokenizer,
    prompt: str,
    documents: Sequence[PieceDocument] = (),
    *,
    document_template: str = DEFAULT_DOCUMENT_TEMPLATE,
) -> PromptPieces:
    """The pieces of a prompt that is a text; as :func:`chat_pieces`.

    :raises PromptError: the prompt has two places for documents, or nothing is left to answer.
    """
    text = prompt
    if documents:
        if text.count(DOCUMENTS_MARKER) > 1:
            raise PromptError(f"{DOCUMENTS_MARKER} stands in the prompt twice", param="prompt")
        placed = text.replace(DOCUMENTS_MARKER, _PLACE)
        text = placed if DOCUMENTS_MARKER in text else _PLACE + text
    return _pieces(
        tokenizer, text, documents, document_template, leading=tuple(tokenizer.leading_ids)
    )


def document_text(document: PieceDocument, template: str) -> str:
    """A document as the model reads it: by the template, or as it is where it has no title.

    Empty where it has no text.
    """
    if not document.text.strip():
        return ""
    if not document.title:
        return document.text
    # Not str.format: a text may hold braces.
    return template.replace("{title}", document.title).replace("{text}", document.text)


def _pieces(
    tokenizer: PieceTokenizer,
    text: str,
    documents: Sequence[PieceDocument],
    template: str,
    *,
    leading: tuple[int, ...],
) -> PromptPieces:
    if not documents:
        whole = (*leading, *tokenizer.token_ids(text))
        return PromptPieces(prefix=(), documents=(), suffix=_some(whole))
    parts = text.split(_PLACE)
    if len(parts) != 2:
        raise PromptError(
            f"the chat template leaves {len(parts) - 1} places for the documents, not one",
            param="messages",
        )
    found = [
        (document.title, tuple(tokenizer.token_ids(document_text(document, template))))
        for document in documents
    ]
    return PromptPieces(
        prefix=(*leading, *tokenizer.token_ids(parts[0])),
        documents=tuple(tokens for _, tokens in found if tokens),
        titles=tuple(title for title, tokens in found if tokens),
        suffix=_some(tuple(tokenizer.token_ids(parts[1]))),
    )


def _placed(messages: Sequence[Message]) -> Sequence[Message]:
    """The messages with the place of the documents marked in one of them."""
    placed = list(messages)
    marked = [i for i, message in enumerate(placed) if DOCUMENTS_MARKER in message["content"]]
    if marked:
        index = marked[0]
        content = placed[index]["content"].replace(DOCUMENTS_MARKER, _PLACE, 1)
        if len(marked) > 1 or DOCUMENTS_MARKER in content:
            raise PromptError(f"{DOCUMENTS_MARKER} stands in the messages twice", param="messages")
    else:
        users = [i for i, message in enumerate(placed) if message["role"] == "user"]
        if not users:
            raise PromptError("documents need a user message to stand before", param="messages")
        index = users[-1]
        content = _PLACE + placed[index]["content"]
    placed[index] = {**placed[index], "content": content}
    return placed


def _some(ids: tuple[int, ...]) -> tuple[int, ...]:
    if not ids:
        raise PromptError(
            "the prompt has no tokens behind the documents to answer", param="messages"
        )
    return ids
