"""Relevance by embeddings: the angle between the question's vector and a text's (Reimers and
Gurevych 2019, "Sentence-BERT", arXiv 1908.10084)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ctxpress.errors import ModelError
from ctxpress.models.checkpoint import Checkpoint, window_tokens
from ctxpress.models.subtokens import encode_literally, literal_tokenizer
from ctxpress.relevance.huggingface.batches import BatchedModel
from ctxpress.relevance.huggingface.framing import IdArray, frame_of
from ctxpress.relevance.huggingface.kinds import Pooling
from ctxpress.relevance.huggingface.pieces import last_of, read_text
from ctxpress.relevance.huggingface.results import bodies_of, gather
from ctxpress.relevance.reading import head_of, unit_rows
from ctxpress.relevance.scorer import Relevance, Titled
from ctxpress.relevance.sentences import split_sentences

__all__ = ["EmbeddingScorer"]

_VERSION = 1
_DECIMALS = 5
_FEWEST_BODY_TOKENS = 4


class EmbeddingScorer:
    """`RelevanceScorer` by cosine similarity, in [-1, 1]; not calibrated.

    A vector is the mean of the encoder's last layer over all tokens of a window, or its first
    token's (`pooling`). A text's score is the best one of its windows, which are read with its
    title. With `sentences`, a sentence's score is half its own similarity and half that of the
    window it stands in; without, it is the window's.

    `query_prefix` is put before the question, `text_prefix` before each window and sentence, as
    many encoders were trained (`query: `, `passage: `).
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        pooling: Pooling = "mean",
        query_prefix: str = "",
        text_prefix: str = "",
        max_tokens: int = 512,
        batch_size: int | None = None,
        sentences: bool = True,
        languages: frozenset[str] | None = None,
    ) -> None:
        """`batch_size`: full windows that are computed at a time; `None`: what suits the device.

        :raises ModelError: the model is no encoder, or its windows are too short.
        """
        self._tokenizer = literal_tokenizer(checkpoint.tokenizer)
        self._frame = frame_of(self._tokenizer, checkpoint.name, 1)
        window = window_tokens(checkpoint, max_tokens)
        self._capacity = window - self._frame.n_tokens
        if self._capacity < _FEWEST_BODY_TOKENS:
            raise ModelError(f"{checkpoint.name}: {window} tokens are too few for a text")
        self._query_prefix = query_prefix
        self._text_prefix = text_prefix
        self._sentences = sentences
        self._languages = languages

        def reduce(output: Any, mask: Any) -> Any:
            hidden = output.last_hidden_state.float()
            if pooling == "cls":
                return hidden[:, 0]
            weights = mask.unsqueeze(-1).float()
            return (hidden * weights).sum(1) / weights.sum(1)

        self._model = BatchedModel(
            checkpoint,
            reduce,
            window_tokens=window,
            batch_size=batch_size,
            trial=self._frame.fill(encode_literally(self._tokenizer, "a")[0]),
        )
        self._identity = (
            f"embedding/{_VERSION}/{checkpoint.identity}/{window}/{pooling}"
            f"/{query_prefix!r}-{text_prefix!r}/{'sentences' if sentences else 'texts'}"
        )

    @property
    def identity(self) -> str:
        """The checkpoint as it was found, width of its weights, windows, pooling and prefixes."""
        return self._identity

    @property
    def languages(self) -> frozenset[str] | None:
        """ISO 639-1 codes that the configuration lists; `None` for any language."""
        return self._languages

    def score(
        self,
        question: str,
        texts: Sequence[Titled],
        *,
        keep_ratio: float | None = None,
        checkpoint: Callable[[], None] | None = None,
    ) -> list[Relevance]:
        """See `RelevanceScorer`.

        :raises ModelError: the model failed on a window of these texts.
        """
        sentences = [split_sentences(text.text) for text in texts]
        read = [
            read_text(
                self._tokenizer, self._text_prefix + head_of(text), text.text, ranges,
                self._capacity,
            )
            for text, ranges in zip(texts, sentences, strict=True)
        ]  # fmt: skip
        bodies = [self._asked(question), *bodies_of(read, alone=self._sentences)]
        found = self._model.run([self._frame.fill(body) for body in bodies], checkpoint)
        vectors = unit_rows(np.array(found, np.float32))
        cosines = np.asarray(vectors[1:] @ vectors[0], np.float32)
        return gather(read, sentences, cosines.round(_DECIMALS), alone=self._sentences)

    def _asked(self, question: str) -> IdArray:
        """The question behind its prefix; of a long one, the end."""
        prefix = encode_literally(self._tokenizer, self._query_prefix)[0]
        whole = encode_literally(self._tokenizer, self._query_prefix + question)[0]
        return last_of(whole, len(prefix), self._capacity)
