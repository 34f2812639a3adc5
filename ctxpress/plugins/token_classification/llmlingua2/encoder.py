"""The checkpoint as LLMLingua-2 uses it: a hundred added tokens, rows of 512, batches of 50."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ctxpress.errors import ModelError, ParityError
from ctxpress.models.checkpoint import Checkpoint, quietly
from ctxpress.plugins.token_classification.llmlingua2.chunks import MAX_FORCE_TOKENS, PAD, frame
from ctxpress.plugins.token_classification.llmlingua2.words import Family

__all__ = ["SEED", "ChunkEncoder"]

SEED = 42
"""The library's own; the added tokens' vectors are drawn with it."""
_BATCH_ROWS = 50
_WAIT_S = 0.05


class ChunkEncoder:
    """A token classifier with `[NEW0]`…`[NEW99]` added. Thread-safe: one batch at a time.

    The checkpoint becomes this object's own: its vocabulary grows. The vectors of the added tokens
    are untrained; how they are drawn depends on the seed and on the version of transformers. The
    process's random state is left as it was.

    :raises ModelError: the tokenizer marks neither beginnings nor continuations of words.
    """

    def __init__(self, checkpoint: Checkpoint, *, seed: int = SEED) -> None:
        import torch

        self._tokenizer: Any = checkpoint.tokenizer
        self._model: Any = checkpoint.model
        self._device = checkpoint.device
        self._tokenizer_lock = threading.Lock()
        self._model_lock = threading.Lock()
        self.family = _family_of(checkpoint)
        self.special = frozenset(
            str(token)
            for token in self._tokenizer.special_tokens_map.values()
            if not isinstance(token, list | tuple)
        )
        added = [f"[NEW{index}]" for index in range(MAX_FORCE_TOKENS)]
        self._tokenizer.add_special_tokens({"additional_special_tokens": added})
        self._model.to("cpu")  # where the vectors are drawn, whatever runs the model later
        with torch.random.fork_rng(devices=[]), quietly():
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach GPUs, too
            self._model.resize_token_embeddings(len(self._tokenizer))
        self._model.to(self._device)
        self._model.eval()
        # Texts longer than a row are cut here; transformers need not warn of them.
        self._tokenizer.model_max_length = 2**62

    def tokenize(self, text: str) -> list[str]:
        """Tokens of `text` by name, none added.

        :raises ParityError: `text` holds a lone surrogate (a `TypeError`).
        """
        try:
            with self._tokenizer_lock:
                tokens: list[str] = self._tokenizer.tokenize(text)
        except (TypeError, UnicodeEncodeError) as error:
            raise ParityError(
                "the text holds a lone surrogate, which no tokenizer reads",
                mirrors=type(error),
                argument="context",
            ) from error
        return tokens

    def text_of(self, tokens: Sequence[str]) -> str:
        """The text that the tokenizer makes of tokens."""
        with self._tokenizer_lock:
            return str(self._tokenizer.convert_tokens_to_string(list(tokens)))

    def encode(
        self, chunks: Sequence[str], checkpoint: Callable[[], None] | None
    ) -> Iterator[tuple[list[str], list[float]]]:
        """Tokens of each chunk, framing included, and their float32 probabilities of class 1."""
        for start in range(0, len(chunks), _BATCH_ROWS):
            rows = [frame(self.tokenize(text)) for text in chunks[start : start + _BATCH_ROWS]]
            with self._tokenizer_lock:
                ids = [self._tokenizer.convert_tokens_to_ids(row) for row in rows]
            mask = [[token != PAD for token in row] for row in rows]
            scores = self._run(ids, mask, checkpoint)
            for row_ids, row_mask, row_scores in zip(ids, mask, scores, strict=True):
                active = [token for token, real in zip(row_ids, row_mask, strict=True) if real]
                with self._tokenizer_lock:
                    tokens = self._tokenizer.convert_ids_to_tokens(active)
                yield tokens, list(row_scores[row_mask])

    def _run(
        self, ids: list[list[int]], mask: list[list[bool]], checkpoint: Callable[[], None] | None
    ) -> Any:
        """Class-1 probabilities, (n_rows, 512) float32; who waits for the model can give up."""
        import torch

        while not self._model_lock.acquire(timeout=_WAIT_S):
            if checkpoint is not None:
                checkpoint()
        try:
            if checkpoint is not None:
                checkpoint()
            with torch.inference_mode():
                output = self._model(
                    input_ids=torch.tensor(ids, device=self._device),
                    attention_mask=torch.tensor(mask, device=self._device),
                )
                return output.logits.float().softmax(-1)[:, :, 1].cpu().numpy()
        finally:
            self._model_lock.release()


def _family_of(checkpoint: Checkpoint) -> Family:
    """By what the tokenizer is, so that a checkpoint may be called what one likes."""
    backend = checkpoint.tokenizer.backend_tokenizer
    if type(backend.model).__name__ == "WordPiece":
        return Family.WORD_PIECE
    if type(backend.model).__name__ == "Unigram":
        return Family.SENTENCE_PIECE
    raise ModelError(
        f"{checkpoint.name}: LLMLingua-2 reads WordPiece and Unigram (SentencePiece) tokens, not "
        f"{type(backend.model).__name__}; mode native takes any tokenizer"
    )
