"""Relevance by a cross-encoder: question and text are read together (Nogueira and Cho 2019,
"Passage Re-ranking with BERT", arXiv 1901.04085)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ctxpress.errors import ModelError
from ctxpress.models.checkpoint import Checkpoint, window_tokens
from ctxpress.models.subtokens import encode_literally, literal_tokenizer
from ctxpress.relevance.huggingface.batches import BatchedModel
from ctxpress.relevance.huggingface.framing import frame_of
from ctxpress.relevance.huggingface.kinds import has_sigmoid
from ctxpress.relevance.huggingface.pieces import last_of, read_text
from ctxpress.relevance.huggingface.results import bodies_of, gather
from ctxpress.relevance.reading import head_of
from ctxpress.relevance.scorer import Relevance, Titled
from ctxpress.relevance.sentences import split_sentences

__all__ = ["CrossEncoderScorer"]

_VERSION = 1
_DECIMALS = 5
"""Rounding of scores: batch-mates change the seventh decimal, which must not decide a ranking."""
_FEWEST_BODY_TOKENS = 4


class CrossEncoderScorer:
    """`RelevanceScorer` by any reranker with one logit, or with two, of which label 1 is relevant.

    A text's score is the logit of (question, title and text), or the difference of both logits; of
    a text in several windows, the best one's. If the checkpoint's configuration asks for a sigmoid,
    scores are in [0, 1]. They are not called calibrated even then: a reranker is trained to put
    texts in order, and what chance its 0.3 stands for nobody has measured.

    With `sentences`, a sentence's score is half its own, read as (question, title and sentence),
    and half that of the window it stands in; without, it is the window's.

    A question takes half of the window at most, its end is read; a title before one of several
    windows, a fourth of what is left.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        max_tokens: int = 512,
        batch_size: int | None = None,
        sentences: bool = True,
        languages: frozenset[str] | None = None,
    ) -> None:
        """`batch_size`: full windows that are computed at a time; `None`: what suits the device.

        :raises ModelError: the model or its tokenizer takes no pairs, or its windows are too short.
        """
        self._tokenizer = literal_tokenizer(checkpoint.tokenizer)
        self._frame = frame_of(self._tokenizer, checkpoint.name, 2)
        window = window_tokens(checkpoint, max_tokens)
        self._capacity = window - self._frame.n_tokens
        if self._capacity < 2 * _FEWEST_BODY_TOKENS:
            raise ModelError(f"{checkpoint.name}: {window} tokens are too few for pairs")
        self._sentences = sentences
        self._languages = languages
        has_two = checkpoint.model.config.num_labels == 2
        sigmoid = has_sigmoid(checkpoint)

        def reduce(output: Any, mask: Any) -> Any:
            logits = output.logits.float()
            scores = logits[:, 1] - logits[:, 0] if has_two else logits[:, 0]
            return scores.sigmoid() if sigmoid else scores

        self._model = BatchedModel(
            checkpoint,
            reduce,
            window_tokens=window,
            batch_size=batch_size,
            trial=self._frame.fill(*(encode_literally(self._tokenizer, "a")[0],) * 2),
        )
        self._identity = (
            f"cross_encoder/{_VERSION}/{checkpoint.identity}/{window}"
            f"/{'sentences' if sentences else 'texts'}{'/sigmoid' if sigmoid else ''}"
        )

    @property
    def identity(self) -> str:
        """The checkpoint as it was found, width of its weights, windows, and what is scored."""
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
        asked = last_of(encode_literally(self._tokenizer, question)[0], 0, self._capacity // 2)
        room = self._capacity - len(asked)
        sentences = [split_sentences(text.text) for text in texts]
        read = [
            read_text(self._tokenizer, head_of(text), text.text, ranges, room)
            for text, ranges in zip(texts, sentences, strict=True)
        ]
        bodies = bodies_of(read, alone=self._sentences)
        windows = [self._frame.fill(asked, body) for body in bodies]
        found = np.array(self._model.run(windows, checkpoint), np.float32)
        return gather(read, sentences, found.round(_DECIMALS), alone=self._sentences)
