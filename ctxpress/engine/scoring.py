"""What a model makes of tokens that are given: their probabilities, and whole distributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ctxpress.cache.kv import KVBlock
from ctxpress.engine.loading import RotaryModel
from ctxpress.engine.prefilling import prefill_rows

__all__ = ["TokenScores", "score_tokens"]


@dataclass(frozen=True, slots=True, eq=False)
class TokenScores:
    """Of each token but the first of some rows, given all that stands before it.

    Arrays are ``(n_rows, n_tokens - 1)``, padding included. ``log_probs``: natural logarithms.
    ``greedy``: whether it is the most probable token, so that greedy decoding would write it.
    ``kl``: divergence KL(reference ‖ this) of the next-token distributions in nats; zero where
    there was no reference. ``distributions``: their logarithms, with all tokens as last axis.
    """

    log_probs: np.ndarray
    greedy: np.ndarray
    kl: np.ndarray
    distributions: torch.Tensor


def score_tokens(
    model: RotaryModel,
    rows: Sequence[Sequence[int]],
    *,
    behind: Sequence[Sequence[KVBlock]] | None = None,
    reference: TokenScores | None = None,
) -> TokenScores:
    """Run rows of tokens behind their KV, see :func:`prefill_rows`, and score them.

    Shorter rows are padded on the right, which no token before the padding sees.

    :raises ContextLengthError, CodecError: see :func:`prefill_rows`.
    """
    longest = max((len(row) for row in rows), default=0)
    padded = [[*row, *[0] * (longest - len(row))] for row in rows]
    logits = prefill_rows(model, padded, behind=behind, logits="all").logits[:, :-1]
    distributions = torch.log_softmax(logits.float(), dim=-1)
    targets = torch.tensor(padded, device=model.device)[:, 1:]
    log_probs = distributions.gather(-1, targets[..., None])[..., 0]
    if reference is None:
        kl = torch.zeros_like(log_probs)
    else:
        expected = reference.distributions
        kl = (expected.exp() * (expected - distributions)).sum(-1).clamp(min=0)
    return TokenScores(
        log_probs=log_probs.cpu().numpy(),
        greedy=(distributions.argmax(-1) == targets).cpu().numpy(),
        kl=kl.cpu().numpy(),
        distributions=distributions,
    )
