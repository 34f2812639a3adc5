"""Requests of the worker to pieces of tokens, by the model's own tokenizer.

How prompts are cut up stands in ``ctxpress.prompt_pieces``, which the proxy shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ctxpress.engine.api.errors import ApiError
from ctxpress.engine.api.requests import AnswerRequest
from ctxpress.engine.loading import RotaryModel
from ctxpress.prompt_pieces import (
    DEFAULT_DOCUMENT_TEMPLATE,
    DOCUMENTS_MARKER,
    PromptError,
    PromptPieces,
    chat_pieces,
    completion_pieces,
)

__all__ = ["DEFAULT_DOCUMENT_TEMPLATE", "DOCUMENTS_MARKER", "PromptPieces", "prompt_pieces"]


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
    tokenizer = _ModelTokenizer(model)
    try:
        if request.is_chat:
            messages = [{"role": m.role, "content": m.content} for m in request.messages]
            return chat_pieces(
                tokenizer, messages, request.documents, document_template=document_template
            )
        if isinstance(request.prompt, str):
            return completion_pieces(
                tokenizer, request.prompt, request.documents, document_template=document_template
            )
    except PromptError as error:
        raise ApiError(str(error), param=error.param) from None
    if request.documents:
        raise ApiError("documents need a prompt of text, not of token ids", param="prompt")
    _check_ids(model, request.prompt)
    return PromptPieces(prefix=(), documents=(), suffix=request.prompt)


class _ModelTokenizer:
    """The tokenizer that a model came with, as ``prompt_pieces`` needs it."""

    def __init__(self, model: RotaryModel) -> None:
        self._model = model

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def leading_ids(self) -> Sequence[int]:
        framed: list[int] = self._model.tokenizer("a")["input_ids"]
        return framed[: framed.index(self._model.token_ids("a")[0])]

    def token_ids(self, text: str) -> Sequence[int]:
        return self._model.token_ids(text)

    def chat_text(self, messages: Sequence[Mapping[str, str]]) -> str:
        tokenizer = self._model.tokenizer
        if not getattr(tokenizer, "chat_template", None):
            raise PromptError(
                f"{self.name} has no chat template; use /v1/completions", param="messages"
            )
        try:
            text: str = tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # templates are programs; they raise what they like
            raise PromptError(
                f"the model's chat template refuses: {error}", param="messages"
            ) from None
        return text


def _check_ids(model: RotaryModel, ids: Sequence[int]) -> None:
    size = model.model.get_input_embeddings().num_embeddings
    if max(ids) >= size:
        raise ApiError(
            f"prompt holds the token id {max(ids)}; {model.name} has {size} tokens", param="prompt"
        )
