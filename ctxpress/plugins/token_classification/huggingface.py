"""Keep scores from any Hugging Face token classifier, for the mode `native`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ctxpress.errors import ModelError
from ctxpress.models import TokenScores
from ctxpress.models.batching import IdArray, ScoreArray, WindowBatcher
from ctxpress.models.checkpoint import Checkpoint, window_tokens
from ctxpress.models.subtokens import encode_literally, literal_tokenizer
from ctxpress.models.windows import Window, plan_windows

__all__ = ["HuggingFaceTokenScorer"]

_VERSION = 1
_MAX_WINDOW_TOKENS = 512
"""Classifiers are trained on windows of this length even where the encoder would take more."""
_MARGIN_TOKENS = 32
_BATCH_TOKENS = {"cpu": 1024, "cuda": 16_384}
"""A GPU wants wide batches; on a CPU they gain nothing, and between batches a request can end."""
_DECIMALS = 4
"""Rounding of scores: batch-mates change the seventh decimal, which must not decide a ranking."""


class HuggingFaceTokenScorer:
    """The softmax probability of class 1 as a token's keep score. Thread-safe.

    Windows of all concurrent calls share batches; torch's own threads use all cores.
    """

    def __init__(self, checkpoint: Checkpoint, *, languages: frozenset[str] | None = None) -> None:
        """`languages` are what the checkpoint's user found it fit for; `None` for any.

        :raises ModelError: its tokenizer frames no texts, or its windows are too short.
        """
        self._name = checkpoint.name
        self._model = checkpoint.model
        self._device = checkpoint.device
        self._languages = languages
        self._tokenizer = literal_tokenizer(checkpoint.tokenizer)
        self._left, self._right, self._pad = _edges(checkpoint)
        self._body_tokens = window_tokens(checkpoint, _MAX_WINDOW_TOKENS) - 2
        self._margin_tokens = min(_MARGIN_TOKENS, self._body_tokens // 4)
        self._identity = (
            f"huggingface/{_VERSION}/{checkpoint.identity}"
            f"/{self._body_tokens}-{self._margin_tokens}"
        )
        self._batcher = WindowBatcher(self._compute, _BATCH_TOKENS[checkpoint.device])

    @property
    def identity(self) -> str:
        """Name and commit or hash of the checkpoint, width of its weights, and the windows."""
        return self._identity

    @property
    def languages(self) -> frozenset[str] | None:
        """ISO 639-1 codes that the configuration lists; `None` for any language."""
        return self._languages

    @property
    def reads_questions(self) -> bool:
        """Never: LLMLingua-2 knows no question."""
        return False

    def score(
        self,
        texts: Sequence[str],
        *,
        question: str | None = None,
        checkpoint: Callable[[], None] | None = None,
    ) -> list[TokenScores]:
        """Score each text; any string is fine, and one without sub-tokens gets empty arrays.

        `checkpoint` is called between batches and may raise to stop the work.

        :raises ValueError: there is a question.
        :raises ModelError: the model failed on a window of these texts.
        """
        if question is not None:
            raise ValueError(f"{self._identity} has no head for a question")
        encoded = [encode_literally(self._tokenizer, text) for text in texts]
        spots: list[tuple[int, Window]] = []
        windows: list[IdArray] = []
        for index, (token_ids, _) in enumerate(encoded):
            for window in plan_windows(len(token_ids), self._body_tokens, self._margin_tokens):
                spots.append((index, window))
                body = token_ids[window.start : window.stop]
                windows.append(np.concatenate([self._left, body, self._right]))
        results = [np.empty(len(token_ids), np.float32) for token_ids, _ in encoded]
        for (index, window), scores in zip(
            spots, self._batcher.score(windows, checkpoint), strict=True
        ):
            first = len(self._left) - window.start
            results[index][window.own_start : window.own_stop] = scores[
                first + window.own_start : first + window.own_stop
            ]
        return [
            _visible(text, offsets, scores)
            for text, (_, offsets), scores in zip(texts, encoded, results, strict=True)
        ]

    def _compute(self, windows: Sequence[IdArray]) -> list[ScoreArray]:
        """One batch, padded to its longest window and masked."""
        import torch

        lengths = [len(window) for window in windows]
        token_ids = np.full((len(windows), max(lengths, default=0)), self._pad, np.int64)
        for row, window in zip(token_ids, windows, strict=True):
            row[: len(window)] = window
        if not windows:
            return []
        mask = np.arange(token_ids.shape[1]) < np.array(lengths)[:, None]
        try:
            with torch.inference_mode():
                output = self._model(
                    input_ids=torch.from_numpy(token_ids).to(self._device),
                    attention_mask=torch.from_numpy(mask.astype(np.int64)).to(self._device),
                )
                scores = output.logits.float().softmax(-1)[:, :, 1].cpu().numpy()
        except RuntimeError as error:  # torch's own, out of memory included
            raise ModelError(f"{self._name}: failed on a window: {error}") from error
        rounded = np.round(scores, _DECIMALS)
        return [row[:length] for row, length in zip(rounded, lengths, strict=True)]


def _edges(checkpoint: Checkpoint) -> tuple[IdArray, IdArray, int]:
    """Token ids before and after a window's body, and the one that fills up a batch."""
    tokenizer = checkpoint.tokenizer
    left = tokenizer.bos_token_id if tokenizer.cls_token_id is None else tokenizer.cls_token_id
    right = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
    if left is None or right is None:
        raise ModelError(f"{checkpoint.name}: its tokenizer has no tokens to frame a text with")
    pad = tokenizer.pad_token_id
    return np.array([left]), np.array([right]), int(right if pad is None else pad)


def _visible(text: str, offsets: npt.NDArray[np.int32], scores: ScoreArray) -> TokenScores:
    """Scores of the tokens that hold more than blanks; a blank that one begins with is cut off.

    SentencePiece has a token's leading blank in it, or makes a token of it alone.
    """
    kept: list[int] = []
    starts: list[int] = []
    for index, (start, end) in enumerate(offsets.tolist()):
        piece = text[start:end]
        bare = piece.lstrip()
        if bare:
            kept.append(index)
            starts.append(end - len(bare))
    ends = offsets[kept, 1] if kept else np.empty(0, np.int32)
    return TokenScores(np.array(starts, np.int32), ends, scores[kept])
