"""How fast this machine decodes KV and recomputes text: models with a prior, fitted as it works."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ctxpress.cache.streaming.options import check_number

__all__ = ["DecodeMeter", "PrefillMeter", "PrefillModel"]

WINDOW = 64  # prefills that a fit looks at
FRESH = 0.3  # weight of the newest decode
CONFIDENCE = 2.0  # how many measurements the prior of the prefill model is worth


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillModel:
    """Milliseconds to prefill ``n`` tokens behind ``context`` tokens: a + b·n + c·n·context.

    ``fixed_ms`` is a, ``ms_per_token`` b (weights), ``ms_per_token_pair`` c (attention).

    :raises ValueError: a number is not finite and at least zero, or all are zero.
    """

    fixed_ms: float
    ms_per_token: float
    ms_per_token_pair: float

    def __post_init__(self) -> None:
        for name in self.__slots__:
            check_number(name, getattr(self, name))
        if self.fixed_ms + self.ms_per_token + self.ms_per_token_pair <= 0.0:
            raise ValueError("a prefill cannot take no time at all")

    def ms(self, n_tokens: int, context_tokens: int) -> float:
        """How long a prefill takes; the attention within the new tokens is half of a square."""
        pairs = n_tokens * (context_tokens + n_tokens / 2)
        return self.fixed_ms + self.ms_per_token * n_tokens + self.ms_per_token_pair * pairs


class PrefillMeter:
    """Fits a :class:`PrefillModel` to what prefills take, from a prior on.

    The fit is a least-squares one of relative errors, drawn to the prior as if that had been seen
    ``CONFIDENCE`` times; so one odd measurement changes little, and many make the prior vanish.
    """

    __slots__ = ("_model", "_prior", "_samples")

    def __init__(self, prior: PrefillModel) -> None:
        self._prior = prior
        self._model = prior
        self._samples: deque[tuple[int, int, float]] = deque(maxlen=WINDOW)

    @property
    def model(self) -> PrefillModel:
        """The model as fitted so far."""
        return self._model

    def observe(self, n_tokens: int, context_tokens: int, ms: float) -> None:
        """A prefill of ``n_tokens`` behind ``context_tokens`` took ``ms``.

        :raises ValueError: a number is not finite, or is negative.
        """
        check_number("n_tokens", n_tokens, least=1)
        check_number("context_tokens", context_tokens)
        if check_number("ms", ms) <= 0.0:
            return  # below the clock's step
        self._samples.append((n_tokens, context_tokens, ms))
        self._model = self._fitted()

    def _fitted(self) -> PrefillModel:
        prior = np.array(
            [self._prior.fixed_ms, self._prior.ms_per_token, self._prior.ms_per_token_pair]
        )
        n, context, ms = (
            np.array(column, dtype=float) for column in zip(*self._samples, strict=True)
        )
        design = np.stack([np.ones_like(n), n, n * (context + n / 2)], axis=1)
        # In these units each coefficient is the share of a typical prefill that it accounts for.
        unit = float(ms.mean()) / design.mean(axis=0)
        # The prior's proportions are believed more than its sum: a machine twice as fast is
        # twice as fast in all three.
        scale = float(np.median(ms / (design @ prior)))
        pull = np.sqrt(CONFIDENCE)
        solved = np.linalg.lstsq(
            np.concatenate([design * unit / ms[:, None], pull * np.eye(3)]),
            np.concatenate([np.ones_like(ms), pull * scale * prior / unit]),
            rcond=None,
        )[0]
        fixed, token, pair = (float(value) for value in np.maximum(solved, 0.0) * unit)
        if fixed + token + pair <= 0.0:
            return self._model
        return PrefillModel(fixed_ms=fixed, ms_per_token=token, ms_per_token_pair=pair)


class DecodeMeter:
    """Milliseconds per token that decoding takes, by level.

    ``prior_ms_per_token``: by level, before anything was measured; ``default_ms_per_token`` for
    levels that it does not name.

    :raises ValueError: a number is not finite and at least zero.
    """

    __slots__ = ("_default", "_rates")

    def __init__(
        self,
        *,
        default_ms_per_token: float,
        prior_ms_per_token: Mapping[str, float] | None = None,
    ) -> None:
        self._default = check_number("default_ms_per_token", default_ms_per_token)
        self._rates = {
            level: check_number(f"prior of level {level!r}", rate)
            for level, rate in (prior_ms_per_token or {}).items()
        }

    def ms_per_token(self, level: str) -> float:
        """What to expect of ``level``."""
        return self._rates.get(level, self._default)

    def observe(self, level: str, n_tokens: int, ms: float) -> None:
        """Decoding ``n_tokens`` of ``level`` took ``ms``.

        :raises ValueError: a number is not finite, or is negative.
        """
        check_number("n_tokens", n_tokens, least=1)
        rate = check_number("ms", ms) / n_tokens
        old = self.ms_per_token(level)
        self._rates[level] = old + FRESH * (rate - old)
